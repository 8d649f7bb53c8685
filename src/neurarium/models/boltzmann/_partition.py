"""The normalising constant of a restricted Boltzmann machine: by enumeration, or by annealed importance sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from neurarium.models.boltzmann._annealing import ImportanceEstimate, annealed_importance
from neurarium.models.boltzmann._rbm import RBM, coins

ENUMERABLE = 25
"""Units of the smaller side up to which all their states are summed: 2^25 take about a minute."""


@dataclass(frozen=True)
class LogPartition:
    """``log Z`` of a machine.

    Args:
        value: the number, or its estimate.
        standard_error: 0 where it is exact.
        estimate: the weights of the chains, where it is not.
    """

    value: float
    standard_error: float = 0.0
    estimate: ImportanceEstimate | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The value and three standard errors on both sides."""
        return self.value - 3 * self.standard_error, self.value + 3 * self.standard_error

    def __str__(self) -> str:
        if self.estimate is None:
            return f"log Z = {self.value:.4f}, exactly"
        low, high = self.interval
        chains, effective = len(self.estimate.log_weights), self.estimate.effective
        return f"log Z = {self.value:.3f} ({low:.3f} to {high:.3f}), {effective:.0f} of {chains} chains effective"


@torch.no_grad()
def log_partition(
    machine: RBM,
    method: Literal["auto", "exact", "ais"] = "auto",
    *,
    chains: int = 200,
    temperatures: int = 1000,
    base_bias: Float[Tensor, " visible"] | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    """``log Z = log Σ exp(−E(v, h))``, for the log-likelihood ``−F(v) − log Z``.

    Args:
        machine: any `RBM`.
        method: "exact" sums over all states of the smaller side, "ais" estimates; "auto" is exact up to 20 units.
        chains: of the estimate.
        temperatures: steps from the machine without weights to the machine itself.
        base_bias: visible biases of that machine; those of a machine with the data's means serve best (Salakhutdinov
            and Murray, 2008). The machine's own by default.
        generator: source of the chains.

    Raises:
        ValueError: the method is unknown, or there are too many states to be summed.
    """
    if method not in ("auto", "exact", "ais"):
        raise ValueError(f"method must be 'auto', 'exact' or 'ais', not {method!r}")
    side = _smaller_side(machine)
    if method == "exact" or (method == "auto" and side <= 20):
        if side > ENUMERABLE:
            raise ValueError(f"2^{side} states are too many to be summed: choose method='ais'")
        return LogPartition(_enumerated(machine))
    estimate = _annealed(machine, chains, temperatures, base_bias, generator)
    bias = machine.visible_bias if base_bias is None else base_bias.to(machine.visible_bias)
    base = float(visible_log_sum(machine, bias.double())[0]) + machine.hidden * math.log(2)
    return LogPartition(base + estimate.log_mean, estimate.standard_error, estimate)


def _smaller_side(machine: RBM) -> int:
    """Units whose states have to be enumerated; real-valued ones cannot be."""
    if machine.visible_units == "gaussian":
        return machine.hidden
    return min(machine.hidden, machine.visible + math.ceil(math.log2(max(machine.num_labels, 1))))


def _enumerated(machine: RBM) -> float:
    wide = machine.weights(torch.eye(len(machine.visible_bias)).to(machine.visible_bias))
    hidden_bias = machine.weights.bias.double()
    weight = (wide - machine.weights.bias).double()  # [visible, hidden], whatever the layer stores
    bias = machine.visible_bias.double()
    total = bias.new_tensor(-math.inf)
    if _smaller_side(machine) == machine.hidden:
        for h in binary_states(machine.hidden, like=bias):
            part = h @ hidden_bias + visible_log_sum(machine, bias, h @ weight.T)
            total = torch.logaddexp(total, part.logsumexp(0))
        return float(total)
    groups = torch.eye(machine.num_labels).to(bias) if machine.num_labels else bias.new_zeros(1, 0)
    for x in binary_states(machine.visible, like=bias):
        for group in groups:
            v = torch.cat([x, group.expand(len(x), -1)], 1)
            part = v @ bias + softplus(v @ weight + hidden_bias).sum(1)
            total = torch.logaddexp(total, part.logsumexp(0))
    return float(total)


def visible_log_sum(
    machine: RBM, bias: Float[Tensor, " visible"], drive: Float[Tensor, "batch visible"] | None = None
) -> Float[Tensor, " batch"]:
    """``log Σ_v exp(v·drive − visible energy)``, an integral for Gaussian units; ``drive`` is what hidden units add."""
    drive = bias.new_zeros(1, len(bias)) if drive is None else drive
    sizes = [machine.visible, machine.num_labels]
    (near, group), (features, labels) = bias.split(sizes), drive.split(sizes, 1)
    if machine.visible_units == "binary":
        found = softplus(features + near).sum(1)
    else:
        found = (features * near + features.square() / 2).sum(1) + machine.visible / 2 * math.log(2 * math.pi)
    return found + (labels + group).logsumexp(1) if machine.num_labels else found


def binary_states(units: int, like: Tensor, part: int = 2**14) -> Iterator[Float[Tensor, "states units"]]:
    """All states of binary units, some thousands at a time."""
    places = torch.arange(units, device=like.device)
    for start in range(0, 2**units, part):
        numbers = torch.arange(start, min(start + part, 2**units), device=like.device)
        yield ((numbers[:, None] >> places) & 1).to(like)


def _annealed(
    machine: RBM, chains: int, temperatures: int, base_bias: Tensor | None, generator: torch.Generator | None
) -> ImportanceEstimate:
    """From the machine (0, 0, base bias) to (W, b, a), every parameter in proportion."""
    own = machine.visible_bias
    base = own if base_bias is None else base_bias.to(own)

    def between(beta: float) -> Tensor:
        return (1 - beta) * base + beta * own

    def log_ratio(v: Tensor, before: float, after: float) -> Tensor:
        drive = machine.weights(v)
        gain = softplus(after * drive).double().sum(1) - softplus(before * drive).double().sum(1)
        return gain - machine.visible_energy(v, between(after)) + machine.visible_energy(v, between(before))

    def transition(v: Tensor, beta: float) -> Tensor:
        h = coins((beta * machine.weights(v)).sigmoid(), generator)
        return machine.draw_visible(machine.means_of(beta * machine.downward(h) + between(beta)), generator)

    start = machine.draw_visible(machine.means_of(base.expand(chains, -1)), generator)
    betas = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64)
    return annealed_importance(start, log_ratio, transition, betas)
