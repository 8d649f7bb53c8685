"""The exact minimum of a deep linear classifier with free features: which geometry appears, which classes vanish."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurarium.theory.collapse._scalar_problem import cross_entropy_scale, mode_sizes, threshold

Decay = float | Sequence[float]


@dataclass(frozen=True)
class CollapseGeometry:
    """Gram matrices of a classifier W = W_M ... W_1 and of its class means mu at the global minimum, in float64.

    Args:
        gram_w: W W^T, [classes, classes].
        gram_h: mu^T mu, [classes, classes].
        wh: W mu, the logits of the class means without the bias, [classes, classes].
        bias: the optimal bias of the last layer, [classes]; zeros where the model has none.
        loss: the whole objective, decay terms included.
        collapsed: classes whose row of the classifier is exactly zero, [classes].
        x: the size of each mode, x^M = (squared singular value of W) / (N lambda_H); without a bias mode k is class k.
        safe_scale: the largest factor on all decays (of weights and of features) at which no mode vanishes; infinite
            where the decays do not decide it (cross-entropy).
    """

    gram_w: Float[Tensor, "classes classes"]
    gram_h: Float[Tensor, "classes classes"]
    wh: Float[Tensor, "classes classes"]
    bias: Float[Tensor, classes]
    loss: float
    collapsed: Bool[Tensor, classes]
    x: Float[Tensor, modes]
    safe_scale: float

    def summary(self) -> str:
        """Which classes vanish, and by how much all decays may be scaled before one does."""
        gone = self.collapsed.nonzero().flatten().tolist()
        first = f"classes {gone} collapse to zero" if gone else "no class collapses to zero"
        if math.isinf(self.safe_scale):
            return f"{first}; minimal loss {self.loss:.6g}"
        advice = "by at most" if self.safe_scale >= 1 else "down to at most"
        return f"{first}; minimal loss {self.loss:.6g}; all decays may be scaled {advice} {self.safe_scale:.4g}"


def collapse_geometry(
    class_counts: Sequence[int] | Tensor,
    weight_decay: Decay,
    feature_decay: float,
    depth: int = 1,
    width: int | None = None,
    loss: str = "mse",
    bias: bool = False,
) -> CollapseGeometry:
    """The geometry at the global minimum of the deep linear model with free features (Dang et al., 2023).

    With N examples, one-hot targets Y [classes, N] and features H [features, N] the objective is, for squared error,
    1/(2N) |W_M ... W_1 H + b - Y|^2 + sum_j lambda_j/2 |W_j|^2 + lambda_H/2 |H|^2, and the mean cross-entropy in the
    place of the first term otherwise. Features equal their class's mean, all factors are balanced, and everything
    falls apart into scalar problems, one per mode: without a bias a mode is a class (Theorems 3.1 and 4.1). With a
    bias the modes are the eigenvectors of diag(n) - n n^T / N, which for equal counts is the simplex of the paper; that
    it holds for unequal ones is our extension.

    Args:
        class_counts: examples of each class.
        weight_decay: lambda_j, one for all layers or one per layer.
        feature_decay: lambda_H, on the sum of squares of the features of all examples.
        depth: M, linear layers after the features.
        width: the least of all hidden widths, features included; None for wide enough. Below the number of classes
            only so many of the largest modes survive; of equal ones the first.
        loss: ``"mse"``, or ``"cross-entropy"`` for equal counts.
        bias: whether the last layer has a bias, without decay. For cross-entropy it makes no difference: it is zero.

    Returns:
        The geometry. For cross-entropy it is the best simplex: the global minimum at depth 1, a local one beyond, where
        solutions of lower rank can be cheaper (Garrod and Keating, 2024; four classes and three layers suffice).

    Raises:
        ValueError: counts that are not positive, fewer than two classes, a decay that is not positive, a wrong number
            of decays, or cross-entropy with unequal counts or too narrow a layer.
    """
    counts = check_counts(class_counts)
    layer_decays = check_decays(weight_decay, depth)
    if not feature_decay > 0:
        raise ValueError(f"feature_decay must be positive, not {feature_decay}: without it features grow for ever")
    if width is not None and width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    classes, total = len(counts), float(counts.sum())
    decay = math.exp(sum(map(math.log, layer_decays)) / depth)
    if loss == "cross-entropy":
        return _simplex(counts, decay, feature_decay, depth, width)
    if loss != "mse":
        raise ValueError(f'loss must be "mse" or "cross-entropy", not {loss!r}')

    if bias:
        strength, directions = torch.linalg.eigh(torch.diag(counts) - torch.outer(counts, counts) / total)
        strength = strength.flip(0).clone()
        strength[-1] = 0  # of the direction of all ones, which the bias fits; rounding leaves it near zero
        directions = directions.flip(1)
    else:
        strength, directions = counts, None
    b = depth * total * decay * (total * feature_decay) ** (1 / depth)
    x = mode_sizes(b / strength, depth)
    if width is not None and width < classes:
        x[strength.argsort(descending=True, stable=True)[width:]] = 0
    power = x**depth
    modes = strength / (2 * total)
    value = (modes / (power + 1)).sum() + depth / 2 * decay * (total * feature_decay) ** (1 / depth) * x.sum()
    gram_w = total * feature_decay * power  # squared singular values of W
    wh = power / (power + 1)
    gram_h = wh / (total * feature_decay * (power + 1))
    kept = strength[strength > 0].min() / b * threshold(depth)
    gram_w, gram_h, wh = (torch.diag(diagonal) for diagonal in (gram_w, gram_h, wh))
    if directions is not None:
        centring = torch.eye(classes, dtype=torch.float64) - counts[:, None] / total
        right = directions.T @ centring
        gram_w, gram_h, wh = directions @ gram_w @ directions.T, right.T @ gram_h @ right, directions @ wh @ right
    return CollapseGeometry(
        gram_w=gram_w,
        gram_h=gram_h,
        wh=wh,
        bias=counts / total if bias else torch.zeros_like(counts),
        loss=float(value),
        collapsed=gram_w.diagonal() == 0,
        x=x,
        safe_scale=float(kept) ** (depth / (depth + 1)),
    )


def critical_count(examples: int, weight_decay: Decay, feature_decay: float, depth: int = 1) -> float:
    """The class size at or below which a class of ``examples`` in all collapses to zero (squared error, no bias).

    Args:
        examples: N, of all classes together.
        weight_decay: lambda_j, one for all layers or one per layer.
        feature_decay: lambda_H.
        depth: M, linear layers after the features.

    Raises:
        ValueError: an argument that is not positive, or a wrong number of decays.
    """
    if examples < 1 or not feature_decay > 0:
        raise ValueError(f"examples and feature_decay must be positive, not {examples} and {feature_decay}")
    decays = check_decays(weight_decay, depth)
    decay = math.exp(sum(map(math.log, decays)) / depth)
    return depth * examples * decay * (examples * feature_decay) ** (1 / depth) / threshold(depth)


def check_counts(class_counts: Sequence[int] | Tensor) -> Float[Tensor, classes]:
    """Class counts as float64, or a `ValueError`."""
    counts = torch.as_tensor(class_counts).detach().cpu().double()
    if counts.dim() != 1 or len(counts) < 2:
        raise ValueError(f"class_counts must be a list of at least two counts, not {class_counts!r}")
    if not bool((counts >= 1).all()):
        k = int((counts < 1).nonzero()[0])
        raise ValueError(f"class_counts must all be at least 1; class {k} has {counts[k]:g}")
    return counts


def check_decays(weight_decay: Decay, depth: int) -> list[float]:
    """One positive weight decay per layer, or a `ValueError`."""
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    decays = [weight_decay] * depth if isinstance(weight_decay, int | float) else list(map(float, weight_decay))
    if len(decays) != depth:
        raise ValueError(f"weight_decay must be one number or one per layer ({depth}), not {len(decays)}")
    if not all(v > 0 and math.isfinite(v) for v in decays):
        raise ValueError(f"weight_decay must be positive, not {weight_decay}")
    return decays


def _simplex(counts: Tensor, decay: float, feature_decay: float, depth: int, width: int | None) -> CollapseGeometry:
    """The best simplex for cross-entropy: logits a (I - 1 1^T / K)."""
    classes, n = len(counts), float(counts[0])
    if bool((counts != n).any()):
        raise ValueError("the closed form for cross-entropy needs equal class_counts")
    if width is not None and width < classes - 1:
        raise ValueError(f"the simplex of {classes} classes needs a width of at least {classes - 1}, not {width}")
    # A singular value v of W H costs (M+1)/2 (lambda^M lambda_H v^2)^(1/(M+1)) when its factors are balanced.
    product = decay**depth * feature_decay * n
    scale, value = cross_entropy_scale(classes, product, depth)
    simplex = torch.eye(classes, dtype=torch.float64) - 1 / classes
    share = (product * scale**2) ** (1 / (depth + 1))  # lambda_j w_j^2 = lambda_H n |mu|^2
    gram_w = share**depth / decay**depth
    return CollapseGeometry(
        gram_w=gram_w * simplex,
        gram_h=share / (feature_decay * n) * simplex,
        wh=scale * simplex,
        bias=torch.zeros_like(counts),
        loss=value,
        collapsed=torch.full((classes,), scale == 0),
        x=torch.full((classes - 1,), (gram_w / (n * classes * feature_decay)) ** (1 / depth), dtype=torch.float64),
        safe_scale=math.inf,
    )
