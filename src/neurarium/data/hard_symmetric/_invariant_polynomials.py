"""Orbit sums of Hermite monomials: exactly orthonormal invariant polynomials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.data.hard_symmetric._target import SymmetricTarget, checked_group, gaussian


class HermiteOrbit(nn.Module):
    """|orbit|^(-1/2) Σ Π_i H_{a_i}(x_i) over the orbit of the exponents, H_a the normalised Hermite polynomials.

    Args:
        orbit: exponents, one member of the orbit in each row.
    """

    def __init__(self, orbit: Int[Tensor, "members inputs"]) -> None:
        super().__init__()
        self.register_buffer("orbit", orbit)
        self.orbit: Tensor

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, " batch"]:
        """Values of the polynomial."""
        values = [torch.ones_like(x), x]
        for a in range(1, int(self.orbit.max())):  # He_{a+1} = x He_a - a He_{a-1}, each over √a!
            values.append((x * values[a] - math.sqrt(a) * values[a - 1]) / math.sqrt(a + 1))
        table = torch.stack(values, 2)  # [batch, inputs, degree]
        place = torch.arange(x.shape[1], device=x.device)
        return table[:, place, self.orbit].prod(2).sum(1) / math.sqrt(len(self.orbit))


def invariant_polynomial(exponents: Sequence[int], group: Int[Tensor, "order inputs"] | None = None) -> SymmetricTarget:
    """The orbit sum of a Hermite monomial; those of different orbits are orthonormal under normal inputs.

    Args:
        exponents: a_i for each coordinate, not all zero.
        group: permutations of the coordinates, closed under composition; none by default.

    Raises:
        ValueError: a negative exponent, none above zero, or what is no group.
    """
    powers = torch.tensor(list(exponents))
    if not len(powers) or powers.min() < 0 or powers.max() == 0:
        raise ValueError(f"exponents must not be negative, and one must be positive, not {list(exponents)}")
    permutations = checked_group(group, len(powers))
    orbit = powers[permutations].unique(dim=0)
    name = f"polynomial of degree {int(powers.sum())}, orbit of {len(orbit)}"
    return SymmetricTarget(gaussian(len(powers)), HermiteOrbit(orbit), name, None if group is None else permutations)
