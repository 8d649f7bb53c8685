"""The algorithm that networks learn for a group's product, written down as exact weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.data import FiniteGroup, RealIrrep
from neurarium.models.groups._fast_products import matrix_product, number_product, over
from neurarium.models.groups._hadamard_net import HadamardNet


def composition_network(
    group: FiniteGroup,
    irreps: Iterable[str] | None = None,
    *,
    scale: Literal["trace", "projector"] = "trace",
    dtype: torch.dtype = torch.float32,
) -> HadamardNet:
    """Group composition via representations (arXiv 2302.03025, section 4), with few products (arXiv 2509.06931).

    Embeddings hold ρ(a) and ρ(b), the products give ρ(ab), the read-out tr ρ(ab) ρ(c)ᵀ = χ(ab c⁻¹): the largest logit
    is at c = ab, and there alone where the representations are faithful together. A representation of m x m matrices
    takes 7 products for m = 2, 23 for 3, 49 for 4 and m³ beyond; 3 times as many over the complex numbers (the
    rotations of Z_n), 8 times over the quaternions.

    Args:
        group: the group.
        irreps: names of its representations; all by default.
        scale: "trace": logits Σ_ρ χ_ρ(ab c⁻¹); "projector": each χ is weighted so that all representations together
            give 1 at c = ab and 0 elsewhere.
        dtype: of the weights.

    Raises:
        ValueError: an unknown representation (the message lists them), none, or an unknown scale.
    """
    if scale not in ("trace", "projector"):
        raise ValueError(f"scale must be 'trace' or 'projector', not {scale!r}")
    chosen = group.irreps if irreps is None else [group.irrep(name) for name in irreps]
    if not chosen:
        raise ValueError("irreps must name at least one representation")
    lefts, rights, outs = [], [], []
    for irrep in chosen:
        entries = over_numbers(irrep).flatten(1)  # [order, m m commuting]
        algorithm = over(number_product(irrep.commuting), matrix_product(irrep.dim // irrep.commuting))
        weight = float(irrep.commuting)  # the real trace is so many times the sum of products of entries
        if scale == "projector":
            weight *= irrep.dim / (group.order * irrep.commuting)
        lefts.append(entries @ algorithm.left)
        rights.append(entries @ algorithm.right)
        outs.append(weight * entries @ algorithm.out)
    return HadamardNet.from_factors(*(torch.cat(parts, 1).to(dtype) for parts in (lefts, rights, outs)))


def over_numbers(irrep: RealIrrep) -> Float[Tensor, "order rows columns parts"]:
    """The matrices ρ(g) over the numbers that commute with them: reals, complex numbers or quaternions.

    Args:
        irrep: of any kind; ``parts`` is 1, 2 or 4.
    """
    size = irrep.commuting
    units = _units(irrep)  # [parts, dim, dim], 1, i, j, k
    lines: list[Tensor] = []  # of size columns each: v, i v, j v, k v
    for axis in torch.eye(irrep.dim, dtype=torch.float64):
        taken = torch.cat(lines, 1) if lines else axis.new_zeros(irrep.dim, 0)
        rest = axis - taken @ (taken.T @ axis)
        if len(lines) < irrep.dim // size and rest.norm() > 1e-3:  # a short rest would lose digits
            lines.append((units @ (rest / rest.norm())).T)
    basis = torch.stack(lines, 1)  # [dim, m, parts]
    found = torch.einsum("dip,gde,ej->gijp", basis, irrep.matrices, basis[:, :, 0])
    if size == 4:  # i, j, k multiply from the other side: the conjugates multiply in the order of the elements
        found = found * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    return found


def _units(irrep: RealIrrep) -> Tensor:
    """What commutes with the representation: 1, and with it i, or i, j and k."""
    eye = torch.eye(irrep.dim, dtype=torch.float64)
    units = [eye]
    generator = torch.Generator().manual_seed(0)
    while len(units) < irrep.commuting:
        if len(units) == 3:
            units.append(units[1] @ units[2])
            continue
        draw = torch.randn(irrep.dim, irrep.dim, generator=generator, dtype=torch.float64)
        mean = (irrep.matrices @ (draw - draw.T) @ irrep.matrices.transpose(1, 2)).mean(0)
        for unit in units[1:]:
            mean = mean - unit * (unit * mean).sum() / irrep.dim
        units.append(mean * irrep.dim**0.5 / mean.norm())
    return torch.stack(units)
