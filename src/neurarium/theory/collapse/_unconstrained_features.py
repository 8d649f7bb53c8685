"""The deep linear model with free features as a module: gradient descent can check what the closed form says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.theory.collapse._geometry import Decay, check_counts, check_decays


class DeepLinearUFM(nn.Module):
    """Free features H [features, N] under M linear layers W_M ... W_1, with decay on both.

    Entries start normal with a deviation of ``scale`` / sqrt(inputs of the layer). Beyond depth 1 zero is an attractor,
    so that a small start ends there although a better minimum exists: that is a failure of the optimiser, not of the
    geometry.

    Args:
        class_counts: examples of each class; columns of H are grouped by class.
        weight_decay: lambda_j, one for all layers or one per layer.
        feature_decay: lambda_H.
        depth: M.
        features: size of a feature; the number of classes by default.
        width: of the layers between; ``features`` by default.
        loss: ``"mse"`` (half the squared error over N) or ``"cross-entropy"``.
        bias: a bias on the last layer, without decay.
        scale: of the start.
        generator: of the start.
        dtype: of all parameters.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        weight_decay: Decay,
        feature_decay: float,
        depth: int = 1,
        *,
        features: int | None = None,
        width: int | None = None,
        loss: str = "mse",
        bias: bool = False,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        counts = check_counts(class_counts).long()
        if loss not in ("mse", "cross-entropy"):
            raise ValueError(f'loss must be "mse" or "cross-entropy", not {loss!r}')
        self.weight_decay, self.feature_decay, self.loss = check_decays(weight_decay, depth), feature_decay, loss
        classes, features = len(counts), features or len(counts)
        sizes = [features, *[width or features] * (depth - 1), classes]
        self.register_buffer("target", torch.arange(classes).repeat_interleave(counts))

        def draw(rows: int, columns: int, fan: int) -> nn.Parameter:
            drawn = torch.randn(rows, columns, generator=generator, dtype=dtype)
            return nn.Parameter(drawn * (scale / math.sqrt(fan)))

        self.features = draw(features, int(counts.sum()), features)
        self.layers = nn.ParameterList(draw(b, a, a) for a, b in itertools.pairwise(sizes))
        self.bias = nn.Parameter(torch.zeros(classes, dtype=dtype)) if bias else None

    target: Int[Tensor, examples]

    def classifier(self) -> Float[Tensor, "classes features"]:
        """W_M ... W_1."""
        product = self.layers[0]
        for layer in self.layers[1:]:
            product = layer @ product
        return product

    def class_means(self) -> Float[Tensor, "features classes"]:
        """Mean feature of each class."""
        counts = torch.bincount(self.target).to(self.features)
        sums = self.features.new_zeros(len(self.features), len(counts)).index_add(1, self.target, self.features)
        return sums / counts

    def forward(self) -> Float[Tensor, "examples classes"]:
        """Logits of all examples."""
        logits = (self.classifier() @ self.features).T
        return logits if self.bias is None else logits + self.bias

    def objective(self) -> Float[Tensor, ""]:
        """Fit and decay: what `CollapseGeometry.loss` is the minimum of."""
        logits = self()
        if self.loss == "mse":
            targets = nn.functional.one_hot(self.target, logits.shape[1]).to(logits)
            fit = (logits - targets).square().sum() / (2 * len(logits))
        else:
            fit = cross_entropy(logits, self.target)
        decay = self.feature_decay * self.features.square().sum()
        for strength, layer in zip(self.weight_decay, self.layers, strict=True):
            decay = decay + strength * layer.square().sum()
        return fit + decay / 2

    def minimise(self, steps: int = 500) -> float:
        """Descend by L-BFGS with line search until it rests, from where the parameters are; returns the objective.

        Args:
            steps: iterations at most.
        """
        optimizer = torch.optim.LBFGS(
            self.parameters(), max_iter=steps, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe",
            history_size=20,
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.objective()
            loss.backward()
            return loss

        optimizer.step(closure)
        return float(self.objective().detach())
