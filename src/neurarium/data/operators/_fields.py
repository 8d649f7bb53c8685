"""Random functions on an even grid of [0, 1]."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

JITTER = 1e-13


def grid(points: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, " points"]:
    """Even places from 0 to 1, ends included: where fields are given and solvers answer.

    Raises:
        ValueError: fewer than two points.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, not {points}")
    return torch.linspace(0, 1, points, dtype=dtype)


def gaussian_field(
    functions: int,
    length: float = 0.2,
    points: int = 1000,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "functions points"]:
    """Draws of a Gaussian random field with mean 0 and covariance ``exp(-|x - x'|² / 2 length²)``.

    Args:
        functions: how many.
        length: over which a function changes; the smaller, the rougher.
        points: of the grid on [0, 1].
        generator: of the draws; torch's global one by default. They lie on its device.
        dtype: of the result; computed in double precision.

    Raises:
        ValueError: ``length`` is not above 0, or there are fewer than two points.
    """
    if length <= 0:
        raise ValueError(f"length must be above 0, not {length}")
    x = grid(points)
    covariance = torch.exp(-0.5 * ((x[:, None] - x) / length).square())
    failed, jitter = 1, JITTER
    while failed:  # smooth fields have eigenvalues below the rounding
        factor, info = torch.linalg.cholesky_ex(covariance + jitter * torch.eye(points, dtype=x.dtype))
        failed, jitter = int(info), 10 * jitter
    device = generator.device if generator is not None else None
    draws = torch.randn(functions, points, generator=generator, dtype=x.dtype, device=device)
    return (draws @ factor.mT.to(draws.device)).to(dtype)


def polynomial_field(
    functions: int,
    terms: int = 10,
    bound: float = 1.0,
    points: int = 1000,
    basis: Literal["chebyshev", "power"] = "chebyshev",
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "functions points"]:
    """``Σ a_i T_i(2x - 1)`` with Chebyshev's polynomials, or ``Σ a_i x^i``; coefficients uniform in [-bound, bound].

    Args:
        functions: how many.
        terms: of a sum.
        bound: of its coefficients.
        points: of the grid on [0, 1].
        basis: "chebyshev" or "power".
        generator: of the draws; torch's global one by default. They lie on its device.
        dtype: of the result.

    Raises:
        ValueError: no terms, an unknown basis, or fewer than two points.
    """
    if terms < 1:
        raise ValueError(f"terms must be at least 1, not {terms}")
    if basis not in ("chebyshev", "power"):
        raise ValueError(f"basis must be 'chebyshev' or 'power', not {basis!r}")
    x, order = grid(points)[:, None], torch.arange(terms)
    values = x**order if basis == "power" else torch.cos(order * torch.acos(2 * x - 1))
    device = generator.device if generator is not None else None
    draws = torch.rand(functions, terms, generator=generator, dtype=x.dtype, device=device)
    return (bound * (2 * draws - 1) @ values.mT.to(draws.device)).to(dtype)


def resample(
    values: Float[Tensor, "functions known"],
    places: Float[Tensor, " known"] | Float[Tensor, "functions known"],
    at: Float[Tensor, " wanted"] | Float[Tensor, "functions wanted"],
) -> Float[Tensor, "functions wanted"]:
    """Functions of one variable at other places, by straight lines between the known ones.

    Brings functions that were measured each at places of its own to common sensors.

    Args:
        values: of each function where it is known.
        places: ascending; the same for all functions, or a row for each.
        at: where values are wanted; the same for all functions, or a row for each. Beyond the ends the value there.

    Raises:
        ValueError: places that are not ascending, or fewer than two.
    """
    places = places.expand_as(values).contiguous()
    if places.shape[1] < 2 or not bool((places.diff(dim=1) > 0).all()):
        raise ValueError("places must be ascending, and at least two")
    at = at.expand(len(values), -1).contiguous()
    right = torch.searchsorted(places, at).clamp(1, places.shape[1] - 1)
    x0, x1 = places.gather(1, right - 1), places.gather(1, right)
    y0, y1 = values.gather(1, right - 1), values.gather(1, right)
    return y0 + (y1 - y0) * ((at - x0) / (x1 - x0)).clamp(0, 1)
