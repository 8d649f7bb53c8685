"""Predict the units of one network from few units of another: one lasso per unit, solved on correlations alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softshrink

from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._correlation_table import CorrelationTable, inverse

PENALTIES = (0.1, 10**-1.5, 1e-2, 10**-2.2, 10**-2.4, 10**-2.6, 10**-2.8, 1e-3, 0.0)
"""Penalties of the original's sweep, from strong to none."""


@dataclass(frozen=True)
class SparseMapping(ProbeResult):
    """Linear predictions at a range of penalties; predicting nothing costs 1/2 per unit.

    Args:
        penalties: weight of the absolute values, from strong to none.
        weights: [penalties, units of b, units of a], between standardised units.
        loss: half the mean squared error of each unit of b, [penalties, units of b].
        held_out: the same on other data, where some were given.
        support: units of a that take part (more than a hundredth of the row's largest weight), [penalties, b].
        live: units of b that count (the others are dead).
    """

    penalties: tuple[float, ...]
    weights: Float[Tensor, "penalties b a"]
    loss: Float[Tensor, "penalties b"]
    held_out: Float[Tensor, "penalties b"] | None
    support: Int[Tensor, "penalties b"]
    live: Int[Tensor, " live"]

    @property
    def error(self) -> Float[Tensor, " penalties"]:
        """Mean loss of the live units at each penalty, on other data where there are any."""
        return (self.loss if self.held_out is None else self.held_out)[:, self.live].mean(1)

    def chosen(self, share: float = 0.95) -> int:
        """Place of the largest penalty that keeps this share of the variance that the best one explains."""
        explained = 0.5 - self.error
        best = explained.max()
        return int(torch.nonzero(explained >= best - (1 - share) * best.abs())[0])

    def summary(self) -> str:
        """Error and support at the chosen penalty, and without one."""
        at = self.chosen()
        support = self.support[:, self.live].double().median(1).values
        return (
            f"predicting nothing costs 0.5; all units together {float(self.error[-1]):.3f}; with penalty "
            f"{self.penalties[at]:.2g} it is {float(self.error[at]):.3f} from {float(support[at]):.0f} units (median)"
        )

    def plot(self, ax: Any) -> Any:
        """Error and median support against the penalty."""
        at = range(len(self.penalties))
        ax.plot(at, self.error.cpu(), marker="o", label="error")
        ax.axhline(0.5, color="grey", linestyle=":", linewidth=0.8)
        ax.axvline(self.chosen(), color="grey", linewidth=0.8)
        ax.set_xticks(list(at), [f"{p:.2g}" for p in self.penalties], rotation=45)
        ax.set(xlabel="penalty", ylabel="half the mean squared error", ylim=(0, 0.52))
        other = ax.twinx()
        other.plot(at, self.support[:, self.live].double().median(1).values.cpu(), color="C1", marker="s")
        other.set_ylabel("units used (median)", color="C1")
        other.set_ylim(bottom=0)
        return ax


def sparse_mapping(
    table: CorrelationTable,
    penalties: Sequence[float] = PENALTIES,
    held_out: CorrelationTable | None = None,
    *,
    tolerance: float = 1e-9,
    steps: int = 20_000,
) -> SparseMapping:
    """Lasso of every unit of b on all units of a, the whole path of penalties (Li et al., 2015, section 4).

    Minimises 1/2 E (y - w x)² + penalty ||w||_1 for standardised units by accelerated proximal gradients on their
    correlations, all rows at once; without penalty, by least squares. No pass over the data is needed.

    Args:
        table: correlations between the layers and within a.
        penalties: solved from the largest to the smallest, each from the last one's solution.
        held_out: moments of the same layers on other data, within both; the training means and deviations stay.
        tolerance: stop when no weight's gradient (less the penalty's) is larger.
        steps: at most so many gradient steps per penalty.

    Raises:
        ValueError: the table has no correlations within a (``held_out``: within a and b), a penalty is negative, the
            two tables differ in size, or no unit is alive.
    """
    if not penalties or min(penalties) < 0:
        raise ValueError("penalties must be numbers of at least 0")
    order = tuple(sorted(map(float, penalties), reverse=True))
    within, cross = table.within("a"), table.matrix
    live_a, live_b = (
        torch.tensor(sorted(set(range(n)) - set(dead)), device=cross.device, dtype=torch.long)
        for n, dead in zip(cross.shape, (table.dead_a, table.dead_b))
    )
    if not len(live_a) or not len(live_b):
        raise ValueError("all units of one side are dead; there is nothing to predict")
    gram = within[live_a][:, live_a]
    targets = cross[live_a].T
    weights, current = [], torch.zeros_like(targets)
    for penalty in order:
        if penalty == 0:
            current = torch.linalg.lstsq(
                gram, targets.T, driver="gelsd" if gram.device.type == "cpu" else None
            ).solution.T
        else:
            current = _shrink(gram, targets, penalty, current, tolerance, steps)
        full = cross.new_zeros(cross.shape[1], cross.shape[0])
        full[:, live_a] = current
        weights.append(full)
    stacked = torch.stack(weights)
    loss = _loss(stacked, within, cross, torch.ones_like(cross[0]))
    other = None if held_out is None else _loss(stacked, *_about(held_out, table))
    sizes = stacked.abs()
    support = (sizes > 0.01 * sizes.amax(2, keepdim=True)).sum(2)
    return SparseMapping(order, stacked, loss, other, support, live_b)


def _shrink(gram: Tensor, targets: Tensor, penalty: float, weights: Tensor, tolerance: float, steps: int) -> Tensor:
    """FISTA for all rows at once, its momentum dropped for a row where it points uphill (O'Donoghue, Candès 2015)."""
    rate = 1 / float(torch.linalg.matrix_norm(gram, 2))
    ahead, momentum = weights, torch.ones_like(weights[:, :1])
    for _ in range(steps):
        used, after = ahead, softshrink(ahead - rate * (ahead @ gram - targets), rate * penalty)
        uphill = ((ahead - after) * (after - weights)).sum(1, keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        step = after - weights
        ahead = after + torch.where(uphill, 0.0, (momentum - 1) / following) * step
        moved, weights, momentum = float((used - after).abs().max()), after, following
        if moved <= rate * tolerance:
            break
    return weights


def _loss(weights: Tensor, within: Tensor, cross: Tensor, target: Tensor) -> Tensor:
    """1/2 E (y - w x)² from E x x', E x y and E y²."""
    explained = (weights * cross.T).sum(2)
    spread = ((weights @ within) * weights).sum(2)
    return (0.5 * target - explained + 0.5 * spread).clamp_min(0)


def _about(other: CorrelationTable, table: CorrelationTable) -> tuple[Tensor, Tensor, Tensor]:
    """Second moments of other data, standardised by the means and deviations of the first."""
    if other.matrix.shape != table.matrix.shape:
        raise ValueError(f"held_out has shape {tuple(other.matrix.shape)}, the table {tuple(table.matrix.shape)}")
    scale_a, scale_b = inverse(table.std_a), inverse(table.std_b)
    mean_a, mean_b = (other.mean_a - table.mean_a) * scale_a, (other.mean_b - table.mean_b) * scale_b
    std_a, std_b = other.std_a * scale_a, other.std_b * scale_b
    within = torch.outer(std_a, std_a) * other.within("a") + torch.outer(mean_a, mean_a)
    cross = torch.outer(std_a, std_b) * other.matrix + torch.outer(mean_a, mean_b)
    return within, cross, std_b**2 + mean_b**2
