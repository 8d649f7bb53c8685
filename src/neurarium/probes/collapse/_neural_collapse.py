"""Neural collapse of a network: how near its features and classifier are to the geometry that theory foretells."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.objectives import HeadInput
from neurarium.probes._result import ProbeResult
from neurarium.probes.collapse._class_moments import ClassMoments
from neurarium.probes.collapse._class_variance import pairwise_variance
from neurarium.probes.collapse._features import checked, precise
from neurarium.training import call, evaluation, unpack


@runtime_checkable
class Geometry(Protocol):
    """What a predicted geometry has (`neurarium.theory.CollapseGeometry` is one): Gram matrices [classes, classes]."""

    @property
    def gram_w(self) -> Tensor: ...
    @property
    def gram_h(self) -> Tensor: ...
    @property
    def wh(self) -> Tensor: ...


@dataclass(frozen=True)
class CollapseReport(ProbeResult):
    """Class means and classifier of a network, in double precision, and how far they are from collapse.

    Args:
        classes: labels in rising order, the order of all rows.
        counts: examples of each class.
        means: mean feature of each class, [classes, features].
        weight: rows W of the head's product for these classes, [classes, features].
        head: names of its linear layers, first to last.
        nc1: tr(S_W S_B^+) / classes, the spread within classes over that of their means; 0 when collapsed. S_W is a
            mean over examples, S_B over classes.
        nc4: share of examples that the network puts into another class than the nearest class mean does.
        cdnv: class-distance normalized variance, mean over pairs of classes.
        nc2_w: distance of W W^T from the target's, both divided by their norms, from 0 to 2.
        nc2_h: the same of the means' Gram matrix.
        nc3: the same of W mu.
        target: the name of the target: simplex, orthogonal or prediction.
    """

    classes: Int[Tensor, classes]
    counts: Float[Tensor, classes]
    means: Float[Tensor, "classes features"]
    weight: Float[Tensor, "classes features"]
    head: tuple[str, ...]
    nc1: float
    nc4: float
    cdnv: float
    nc2_w: float
    nc2_h: float
    nc3: float
    target: str

    @property
    def cosines(self) -> Float[Tensor, "classes classes"]:
        """Cosines between class means less the mean of all classes; -1 / (classes - 1) in a simplex."""
        return cosine_matrix(self.means - self.means.mean(0))

    @property
    def min_angle(self) -> float:
        """Least angle between two centred class means, in degrees."""
        largest = float(self.cosines.fill_diagonal_(-1).max())
        return math.degrees(math.acos(max(-1.0, min(1.0, largest))))

    @property
    def simplex_gap(self) -> float:
        """Mean over pairs of | cos + 1 / (classes - 1) |."""
        k = len(self.classes)
        return float((self.cosines + 1 / (k - 1)).abs().fill_diagonal_(0).sum()) / (k * (k - 1))

    @property
    def self_duality(self) -> float:
        """| W / |W| - M / |M| |^2 for the centred class means M; 0 when the classifier's rows are the class means."""
        m = self.means - self.means.mean(0)
        return float((self.weight / self.weight.norm() - m / m.norm()).square().sum())

    def distances(self, target: Geometry | str) -> tuple[float, float, float]:
        """``(nc2_w, nc2_h, nc3)`` against another target."""
        return gram_distances(self.weight, self.means, target)

    def summary(self) -> str:
        """The four measures, and the least angle."""
        return (
            f"NC1 {self.nc1:.3g}, NC2 {self.nc2_w:.3g} (classifier) {self.nc2_h:.3g} (means), NC3 {self.nc3:.3g} from "
            f"{self.target}, NC4 {self.nc4:.3g}\nCDNV {self.cdnv:.3g}; least angle {self.min_angle:.1f} degrees of "
            f"{math.degrees(math.acos(-1 / (len(self.classes) - 1))):.1f}; head {' -> '.join(self.head)}"
        )

    def plot(self, ax: Any) -> Any:
        """Cosines between centred class means, the largest class first."""
        order = self.counts.argsort(descending=True, stable=True)
        ax.imshow(self.cosines[order][:, order].cpu().numpy(), vmin=-1, vmax=1, cmap="RdBu_r")
        labels = self.classes[order.cpu()].tolist()
        ax.set_xticks(range(len(labels)), labels)
        ax.set_yticks(range(len(labels)), labels)
        ax.set(xlabel="class, by size", ylabel="class, by size", title="cosines of centred class means")
        return ax


def neural_collapse(
    model: nn.Module,
    loader: Iterable[Any],
    head: str | Sequence[str] | None = None,
    target: Geometry | str = "simplex",
) -> CollapseReport:
    """Measures of neural collapse (Papyan et al., 2020) on a data set, with a head of one linear layer or several.

    Two passes over the loader: one gathers moments, [features, features] in size; the second compares the network's
    decisions with the nearest class means.

    Args:
        model: a classifier whose output for class k is entry k.
        loader: batches with whole-number labels; the whole training set as a rule. Labels may have gaps.
        head: names of the linear layers between features and logits. By default all that follow one another at the
            end of the forward pass with nothing but (inactive) dropout between them.
        target: ``"simplex"`` (means are centred first), ``"orthogonal"``, or a predicted geometry for these classes.

    Raises:
        ValueError: fewer than two classes, a head with something else between its layers, a label without an output,
            a target for another number of classes, or a loader that cannot be read twice.
    """
    check_target(target)
    wanted = [head] if isinstance(head, str) else head
    moments = ClassMoments(scatter=True)
    names: tuple[str, ...] = ()
    with evaluation(model), torch.no_grad(), HeadInput(model) as taps:
        for batch in loader:
            x, y = unpack(batch)
            call(model, x)
            names = names or linear_chain(taps, wanted)
            moments.update(*checked(entered(taps, names), y))
        if not names:
            raise ValueError("the loader gave no batches")
        classes, means = moments.classes, moments.means
        weight = head_product(model, names)
        if len(classes) < 2:
            raise ValueError("neural collapse needs examples of at least two classes")
        if int(classes.max()) >= len(weight) or int(classes.min()) < 0:
            found = f"from {classes.min()} to {classes.max()}"
            raise ValueError(f"labels run {found}, but the head has {len(weight)} outputs")
        weight = weight[classes.to(weight.device)]
        differ, total = 0.0, 0
        for batch in loader:
            x, y = unpack(batch)
            decided = call(model, x).argmax(1)
            nearest = classes.to(decided.device)[torch.cdist(precise(entered(taps, names)), means).argmin(1)]
            differ += float((decided != nearest).sum())
            total += len(y)
        if total != int(moments.counts.sum()):
            raise ValueError("the loader must give the same examples twice: pass a list or a DataLoader, no generator")
    centred = means - means.mean(0)
    values, directions = torch.linalg.svd(centred / math.sqrt(len(means)), full_matrices=False)[1:]
    kept = values > values[0] * 1e-10
    within = ((directions @ moments.scatter) * directions).sum(1)
    k = len(classes)
    pairwise = pairwise_variance(moments)
    nc2_w, nc2_h, nc3 = gram_distances(weight, means, target)
    return CollapseReport(
        classes=classes, counts=moments.counts, means=means, weight=weight, head=names,
        nc1=float((within[kept] / values[kept].square()).sum()) / k,
        nc4=differ / total,
        cdnv=float(pairwise.fill_diagonal_(0).sum()) / (k * (k - 1)),
        nc2_w=nc2_w, nc2_h=nc2_h, nc3=nc3,
        target=target if isinstance(target, str) else "prediction",
    )  # fmt: skip


def gram_distances(
    weight: Float[Tensor, "classes features"],
    means: Float[Tensor, "classes features"],
    target: Geometry | str,
) -> tuple[float, float, float]:
    """Distances of W W^T, of the means' Gram matrix and of W mu from a target, each divided by its Frobenius norm."""
    k = len(means)
    check_target(target)
    if isinstance(target, str):
        gram = torch.eye(k, dtype=means.dtype, device=means.device)
        if target == "simplex":
            gram, means = gram - 1 / k, means - means.mean(0)
        wanted = (gram, gram, gram)
    else:
        wanted = (target.gram_w.to(means), target.gram_h.to(means), target.wh.to(means))
        if wanted[0].shape != (k, k):
            raise ValueError(f"target is a geometry of {len(wanted[0])} classes, but there are {k}")
    found = (weight @ weight.T, means @ means.T, weight @ means.T)
    w, h, wh = (float((a / a.norm() - b / b.norm()).norm()) for a, b in zip(found, wanted, strict=True))
    return w, h, wh


def check_target(target: Geometry | str) -> None:
    """A `ValueError` unless it is one of the two names, or a geometry."""
    if isinstance(target, str) and target not in ("simplex", "orthogonal"):
        raise ValueError(f'target must be "simplex", "orthogonal" or a geometry, not {target!r}')


def cosine_matrix(rows: Float[Tensor, "rows features"]) -> Float[Tensor, "rows rows"]:
    """Cosines between rows; 0 with a row that is zero."""
    unit = nn.functional.normalize(rows, dim=1)
    return unit @ unit.T


def linear_chain(taps: HeadInput, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the head's layers, first to last, checked against what the last pass did between them."""
    calls = taps.calls
    if not calls:
        raise ValueError("the model calls no linear layer")
    if wanted is not None:
        used = {made.name: made for made in calls}
        missing = next((name for name in wanted if name not in used), None)
        if missing is not None or not wanted:
            raise ValueError(f"head: the model calls no linear layer {missing!r}; it calls {', '.join(used)}")
        calls = [used[name] for name in wanted]
    chain = [calls[-1]]
    for made in reversed(calls[:-1]):
        if not torch.equal(made.left, chain[0].entered):
            if wanted is None:
                break
            raise ValueError(f"between {made.name!r} and {chain[0].name!r} the model does something that is not linear")
        chain.insert(0, made)
    return tuple(made.name for made in chain)


def entered(taps: HeadInput, names: Sequence[str]) -> Float[Tensor, "batch features"]:
    """What entered the first layer of a head in the last pass, or a `ValueError` where it is not one vector each."""
    h = next(made.entered for made in reversed(taps.calls) if made.name == names[0])
    if h.dim() != 2:
        raise ValueError(f"layer {names[0]!r} takes {list(h.shape)}, not [batch, features]; name another in head")
    return h


def head_product(model: nn.Module, names: Sequence[str]) -> Float[Tensor, "outputs features"]:
    """W_M ... W_1 in double precision."""
    layers = [precise(model.get_submodule(name).get_parameter("weight")) for name in names]
    return functools.reduce(lambda product, layer: layer @ product, layers)
