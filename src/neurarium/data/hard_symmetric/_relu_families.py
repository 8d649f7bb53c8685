"""Parities of a few coordinates and high harmonics in a plane, as sums of rectifiers, made invariant under a group.

A ReLU network without biases has simple moments under normal inputs: for projections on unit vectors at an angle of
cosine ρ, E relu(u) relu(v) = (√(1 − ρ²) + ρ (π − arccos ρ)) / 2π, so the variance of each target is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import skip_init

from neurarium.data.hard_symmetric._target import SymmetricTarget, checked_group, gaussian


def subset_parity(n: int, subset: Sequence[int], group: Int[Tensor, "order n"] | None = None) -> SymmetricTarget:
    """Σ_w (Π_i w_i) relu(⟨w, x_S⟩ / √k) over all signs w, summed over the images of S under a group.

    A network of 2^k hidden units per image of S (arXiv 2401.01869, family of Goel et al., 2020). It is odd in every
    coordinate of S, so those of different orbits are uncorrelated under normal inputs.

    Args:
        n: coordinates.
        subset: S, of an even number k of coordinates (or of one).
        group: permutations of the coordinates, closed under composition; none by default. With `cyclic_shifts` the
            target is a convolutional layer of 2^k channels with sum pooling.

    Raises:
        ValueError: a coordinate out of range or twice, an odd k above 1 (the sum is then identically zero), or what is
            no group.
    """
    places, k = sorted(subset), len(subset)
    if not places or len(set(places)) < k or places[0] < 0 or places[-1] >= n:
        raise ValueError(f"subset must hold different coordinates from 0 to {n - 1}, not {list(subset)}")
    if k > 1 and k % 2:
        raise ValueError(f"subset has {k} coordinates: for an odd number above 1 the target is identically zero")
    permutations = checked_group(group, n)
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=k)), dtype=torch.float64)
    images = sorted({tuple(sorted(row)) for row in permutations[:, places].tolist()})
    weights = torch.zeros(len(images), len(signs), n, dtype=torch.float64)
    for i, image in enumerate(images):
        weights[i, :, list(image)] = signs / math.sqrt(k)
    name = f"parity of {k} in {n}, orbit of {len(images)}"
    network = relu_network(weights.flatten(0, 1), signs.prod(1).repeat(len(images)))
    return SymmetricTarget(gaussian(n), network, name, None if group is None else permutations)


def planar_harmonic(
    k: int, plane: Float[Tensor, "2 inputs"], group: Int[Tensor, "order inputs"] | None = None
) -> SymmetricTarget:
    """Σ_m (−1)^m relu(⟨(cos πm/k, sin πm/k), U x⟩), m = 1 ... 2k, summed over a group (Diakonikolas et al., 2020).

    Its angular frequencies are odd multiples of k, so it is uncorrelated with all polynomials of lower degree, and two
    planes U, V correlate by at most ‖U Vᵀ‖₂^k.

    Args:
        k: even.
        plane: U, two orthonormal rows.
        group: permutations of the coordinates, closed under composition; none by default.

    Raises:
        ValueError: k is odd (the sum is then identically zero) or below 2, rows that are not orthonormal, or what is no
            group.
    """
    if k < 2 or k % 2:
        raise ValueError(f"k must be even and at least 2, not {k}: for odd k the target is identically zero")
    u = plane.detach().cpu().double()
    if not torch.allclose(u @ u.T, torch.eye(2).double(), atol=1e-5):
        raise ValueError("plane must have two orthonormal rows")
    permutations = checked_group(group, u.shape[1])
    angle = math.pi * torch.arange(1, 2 * k + 1).double() / k
    directions = torch.stack([angle.cos(), angle.sin()], 1) @ u  # [2k, inputs]
    weights = directions[:, permutations.argsort(1)].permute(1, 0, 2)  # ⟨w, x g⟩ = ⟨w g⁻¹, x⟩
    signs = torch.tensor([(-1.0) ** m for m in range(1, 2 * k + 1)]).double().repeat(len(permutations))
    network = relu_network(weights.flatten(0, 1), signs)
    name = f"harmonic {k} in a plane of {u.shape[1]} dimensions"
    return SymmetricTarget(gaussian(u.shape[1]), network, name, None if group is None else permutations)


def relu_network(weights: Float[Tensor, "hidden inputs"], signs: Float[Tensor, " hidden"]) -> nn.Sequential:
    """Σ_j signs_j relu(⟨weights_j, x⟩), scaled to variance 1 under standard normal inputs; mean 0 is the caller's.

    Args:
        weights: of the hidden layer.
        signs: of the read-out.

    Raises:
        ValueError: the sum is zero.
    """
    variance = float(signs @ relu_moments(weights, weights) @ signs)
    if variance < 1e-9 * len(signs):
        raise ValueError("the target is identically zero")
    hidden = skip_init(nn.Linear, weights.shape[1], len(weights), bias=False)
    out = skip_init(nn.Linear, len(weights), 1, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(weights)
        out.weight.copy_(signs[None] / math.sqrt(variance))
    return nn.Sequential(hidden, nn.ReLU(), out).requires_grad_(False)


def relu_moments(u: Float[Tensor, "a inputs"], v: Float[Tensor, "b inputs"]) -> Float[Tensor, "a b"]:
    """E relu(⟨u_i, x⟩) relu(⟨v_j, x⟩) for standard normal x (the arc-cosine kernel).

    Args:
        u: vectors.
        v: vectors.
    """
    lengths = u.norm(dim=1)[:, None] * v.norm(dim=1)
    cosine = (u @ v.T / lengths).clamp(-1, 1)
    return lengths * ((1 - cosine.square()).sqrt() + cosine * (math.pi - cosine.arccos())) / (2 * math.pi)
