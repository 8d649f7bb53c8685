"""Correlations of the units of one layer with those of another, and what a random rotation would leave of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from neurarium.probes._result import ProbeResult

DEAD = 1e-7
"""A unit whose deviation is at most this share of its mean is constant, up to rounding."""


@dataclass(frozen=True)
class CorrelationTable(ProbeResult):
    """Pearson correlations over samples (inputs, or inputs times positions).

    Args:
        matrix: correlation of unit i of a with unit j of b, [units of a, units of b]; 0 where one of them is dead.
        mean_a: each unit's mean.
        std_a: each unit's deviation.
        mean_b: the same for b.
        std_b: the same for b.
        samples: how many samples there were.
        within_a: correlations among a's units, where they were asked for.
        within_b: the same for b.
        layer_a: name of the layer.
        layer_b: name of the layer.
    """

    matrix: Float[Tensor, "a b"]
    mean_a: Float[Tensor, " a"]
    std_a: Float[Tensor, " a"]
    mean_b: Float[Tensor, " b"]
    std_b: Float[Tensor, " b"]
    samples: int
    within_a: Float[Tensor, "a a"] | None = None
    within_b: Float[Tensor, "b b"] | None = None
    layer_a: str = "a"
    layer_b: str = "b"

    @property
    def dead_a(self) -> tuple[int, ...]:
        """Units of a that give the same number for every sample."""
        return _dead(self.mean_a, self.std_a)

    @property
    def dead_b(self) -> tuple[int, ...]:
        """Units of b that give the same number for every sample."""
        return _dead(self.mean_b, self.std_b)

    def within(self, which: str) -> Float[Tensor, "u u"]:
        """Correlations among the units of ``"a"`` or ``"b"``.

        Raises:
            ValueError: they were not taken.
        """
        found = self.within_a if which == "a" else self.within_b
        if found is None:
            raise ValueError(f"the table holds no correlations among the units of {which}; take it with within=True")
        return found

    def rotated(self, rotation: int | Float[Tensor, "b b"] = 0) -> CorrelationTable:
        """The table that b's units would give after a change of basis, ``rotation @ b``; no pass over data is needed.

        It separates "the same units" from "the same space": the space that b spans is untouched, the units are not.

        Args:
            rotation: one row per new unit, or the seed of a random orthogonal matrix.

        Raises:
            ValueError: the correlations within b were not taken.
        """
        turn = (random_rotation(len(self.std_b), rotation) if isinstance(rotation, int) else rotation).to(self.matrix)
        covariance = self.std_b[:, None] * self.within("b") * self.std_b
        turned = turn @ covariance @ turn.T
        std = turned.diagonal().clamp_min(0).sqrt()
        scale = inverse(std)
        return replace(
            self,
            matrix=((self.matrix * self.std_b) @ turn.T * scale).clamp(-1, 1),
            mean_b=turn @ self.mean_b,
            std_b=std,
            within_b=(turned * scale[:, None] * scale).clamp(-1, 1),
        )

    def canonical(
        self, units_a: Int[Tensor, " i"], units_b: Int[Tensor, " j"], *, ridge: float = 1e-6
    ) -> Float[Tensor, " k"]:
        """Canonical correlations of some units of a with some of b, largest first.

        Args:
            units_a: units of a.
            units_b: units of b.
            ridge: directions with a smaller share of their group's largest variance do not count.

        Raises:
            ValueError: the correlations within a and b were not taken.
        """
        whitened = []
        for side, units in (("a", units_a), ("b", units_b)):
            values, vectors = torch.linalg.eigh(self.within(side)[units][:, units])
            keep = values > ridge * values[-1]
            whitened.append(vectors[:, keep] / values[keep].sqrt())
        return torch.linalg.svdvals(whitened[0].T @ self.matrix[units_a][:, units_b] @ whitened[1]).clamp(0, 1)

    def summary(self) -> str:
        """Size, dead units, and the mean of the best correlations."""
        best = self.matrix.amax(1)
        live = torch.ones(len(best), dtype=torch.bool)
        live[list(self.dead_a)] = False
        mean = float(best[live.to(best.device)].mean()) if bool(live.any()) else float("nan")
        dead = f", dead {len(self.dead_a)} and {len(self.dead_b)}" if self.dead_a or self.dead_b else ""
        return (
            f"{self.layer_a} ({self.matrix.shape[0]} units) against {self.layer_b} ({self.matrix.shape[1]}), "
            f"{self.samples:,} samples{dead}: a unit's best correlation is {mean:.2f} on average"
        )

    def plot(self, ax: Any) -> Any:
        """The table with matched units on the diagonal, the best match first."""
        matrix = self.matrix.cpu().numpy()
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        order = (-matrix[rows, columns]).argsort()
        rest = sorted(set(range(matrix.shape[0])) - set(rows.tolist()))
        others = sorted(set(range(matrix.shape[1])) - set(columns.tolist()))
        shown = matrix[[*rows[order], *rest]][:, [*columns[order], *others]]
        image = ax.imshow(shown, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        ax.figure.colorbar(image, ax=ax, label="correlation", shrink=0.8)
        ax.set(xlabel=f"{self.layer_b}, matched", ylabel=f"{self.layer_a}, best matched first")
        return ax


def _dead(mean: Tensor, std: Tensor) -> tuple[int, ...]:
    return tuple(torch.nonzero(std <= DEAD * mean.abs()).flatten().tolist())


def inverse(std: Tensor) -> Tensor:
    """1 / std, and 0 where it is 0."""
    return torch.where(std > 0, 1 / std.clamp_min(torch.finfo(std.dtype).tiny), 0.0)


def correlation_of(
    covariance: Float[Tensor, "a b"],
    mean_a: Float[Tensor, " a"],
    std_a: Float[Tensor, " a"],
    mean_b: Float[Tensor, " b"],
    std_b: Float[Tensor, " b"],
) -> Float[Tensor, "a b"]:
    """Covariances over both deviations; 0 for dead units."""
    scales = [
        torch.where(std <= DEAD * mean.abs(), 0.0, inverse(std)) for mean, std in ((mean_a, std_a), (mean_b, std_b))
    ]
    return (covariance * scales[0][:, None] * scales[1]).clamp(-1, 1)


def random_rotation(size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Float[Tensor, "size size"]:
    """A random orthogonal matrix (Haar), from a seed of its own."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype))
    return q * r.diagonal().sign()
