"""Means of a Hebbian memory's spins without sampling: naive mean field, and Plefka's second order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurarium.learning.hebbian._hebbian_memory import HebbianMemory

_ELEMENTS = 2**22  # of the [neurons, rows] table that is held at once


@torch.no_grad()
def plefka(
    memory: HebbianMemory,
    state: Tensor,
    temperature: float,
    order: int = 2,
    *,
    steps: int = 100,
    damping: float = 0.5,
    tolerance: float = 1e-6,
) -> Tensor:
    """Solves ``mean_i = tanh((h_i - reaction_i) / T)`` for all spins at once by damped iteration; deterministic.

    h is the field averaged over independent spins with these means, without neuron i itself: through elementary
    symmetric polynomials where the indices of a product must differ, through the moments of a Gaussian overlap of the
    same mean and variance where they may coincide. The second order subtracts what neuron i has done to its neighbours,
    ``reaction_i = (mean_i / T) sum_j J_ij^2 (1 - mean_j^2)`` with ``J_ij = dh_i / dmean_j`` (Plefka, 1982).

    Args:
        memory: of any order; its couplings are those of `HebbianMemory.relax`.
        state: where to start, ``[num_neurons]``, entries in [-1, 1].
        temperature: T > 0, in the unit of the memory's energy.
        order: of the expansion: 1 (naive mean field) or 2 (with the reaction).
        steps: at most so many.
        damping: weight of the old means in a step, in [0, 1).
        tolerance: largest change of a mean at which it stops.

    Returns:
        Means ``[num_neurons]``. Cost per step: neurons x rows, for order 2 neurons^2 x rows.

    Raises:
        ValueError: an argument is out of its range or the state has the wrong size.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, not {temperature}; relax() serves temperature 0")
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, not {order}")
    if not 0 <= damping < 1:
        raise ValueError(f"damping must lie in [0, 1), not {damping}")
    if state.shape != (memory.num_neurons,):
        raise ValueError(f"state must have shape ({memory.num_neurons},), not {tuple(state.shape)}")
    coupling = memory.coupling()
    rows = coupling.rows
    means = state.to(rows)
    for _ in range(steps):
        field = mean_field(rows, means, memory.order, coupling.distinct) * (memory.order / coupling.denominator)
        if order == 2:
            response = _response(rows, means, memory.order, coupling.distinct) * (memory.order / coupling.denominator)
            field = field - means / temperature * (response.square() @ (1 - means.square()))
        new = damping * means + (1 - damping) * torch.tanh(field / temperature)
        change = float((new - means).abs().max())
        means = new
        if change < tolerance:
            break
    return means


def mean_field(rows: Tensor, means: Tensor, order: int, distinct: bool) -> Tensor:
    """``sum_r row_i <S_(P-1)>`` over the other spins, ``[num_neurons]``, for independent spins with these means.

    Args:
        rows: ``[num_rows, num_neurons]``.
        means: ``[num_neurons]``.
        order: P.
        distinct: whether the P - 1 indices must differ.
    """
    product = rows * means
    chunk = max(1, _ELEMENTS // max(1, len(rows)))
    highest = order - 1
    powers = [product**k for k in range(1, highest + 1)] if distinct else [product]
    totals = [p.sum(1, keepdim=True) for p in powers]
    spread = rows.square() * (1 - means.square())
    variance = spread.sum(1, keepdim=True)
    parts = []
    for at in torch.arange(rows.shape[1], device=rows.device).split(chunk):
        own = rows[:, at]
        others = [total - p[:, at] for total, p in zip(totals, powers, strict=True)]
        if distinct:
            moment = math.factorial(highest) * _elementary(others)
        else:
            moment = _gaussian_power(others[0], variance - spread[:, at], highest)
        parts.append((own * moment).sum(0))
    return torch.cat(parts)


def _response(rows: Tensor, means: Tensor, order: int, distinct: bool) -> Tensor:
    """d(mean_field)_i / d(means)_j to leading order in 1 / N, without the diagonal."""
    product = rows * means
    if distinct and order > 2:
        sums = [(product**k).sum(1) for k in range(1, order - 1)]
        moment = math.factorial(order - 2) * _elementary(sums)
    else:
        moment = _gaussian_power(product.sum(1), (rows.square() * (1 - means.square())).sum(1), order - 2)
    return (order - 1) * (rows * moment.unsqueeze(1)).T.matmul(rows).fill_diagonal_(0)


def _gaussian_power(mean: Tensor, variance: Tensor, power: int) -> Tensor:
    """E[x^power] of a Gaussian: ``E x^k = mean E x^(k-1) + (k-1) variance E x^(k-2)``."""
    before, now = torch.ones_like(mean), mean
    if power == 0:
        return before
    for k in range(2, power + 1):
        before, now = now, mean * now + (k - 1) * variance * before
    return now


def _elementary(power_sums: list[Tensor]) -> Tensor:
    """The elementary symmetric polynomial of degree ``len(power_sums)``, by Newton's identities."""
    symmetric = [torch.ones_like(power_sums[0])]
    for d in range(1, len(power_sums) + 1):
        terms = [(-1) ** (k - 1) * symmetric[d - k] * power_sums[k - 1] for k in range(1, d + 1)]
        symmetric.append(torch.stack(terms).sum(0) / d)
    return symmetric[-1]
