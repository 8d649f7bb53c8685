"""Two classes in the plane whose positive region has known homology: discs, rings, rings around discs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError


@dataclass(frozen=True)
class Shapes:
    """A union of rings, a disc being a ring without a hole, in the square [-1, 1]^2.

    Args:
        centres: [shapes, 2].
        outer: radius of each.
        inner: radius of its hole; 0 for a disc.
        betti: connected parts and holes of the union.
    """

    centres: Float[Tensor, "shapes 2"]
    outer: Float[Tensor, " shapes"]
    inner: Float[Tensor, " shapes"]
    betti: tuple[int, int]

    def contains(self, x: Float[Tensor, "points 2"]) -> Bool[Tensor, " points"]:
        """Which points are positive."""
        away = torch.cdist(x.double(), self.centres.to(x.device).double())
        return ((away <= self.outer.to(away)) & (away >= self.inner.to(away))).any(1)

    def sample(self, count: int, seed: int = 0) -> Arrays:
        """Points drawn evenly from the square, x [count, 2], and whether they are positive, y [count] of 0 and 1."""
        x = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1
        return Arrays(x, self.contains(x).long())


def discs(count: int, *, fill: float = 0.55, gap: float = 0.05, spread: str = "grid", seed: int = 0) -> Shapes:
    """Discs that do not touch: ``betti == (count, 0)``.

    Args:
        count: how many.
        fill: radius of a disc over half the side of a cell of the grid of discs; largest radius, where they are spread
            at random.
        gap: distance between any two, and to the square's border, at least.
        spread: "grid", or "random" places and radii.
        seed: of the random ones.

    Raises:
        DataError: they do not fit.
    """
    centres, outer = _places(count, fill, gap, spread, seed)
    return _checked(centres, outer, torch.zeros_like(outer), (count, 0), gap)


def annuli(
    count: int, *, fill: float = 0.75, hole: float = 0.5, gap: float = 0.05, spread: str = "grid", seed: int = 0
) -> Shapes:
    """Rings that do not touch: ``betti == (count, count)``.

    Args:
        count: how many.
        fill: as in `discs`.
        hole: radius of the hole over that of the ring.
        gap: as in `discs`.
        spread: as in `discs`.
        seed: as in `discs`.

    Raises:
        DataError: they do not fit, or ``hole`` is not between 0 and 1.
    """
    if not 0 < hole < 1:
        raise DataError(f"hole must be between 0 and 1, not {hole}")
    centres, outer = _places(count, fill, gap, spread, seed)
    return _checked(centres, outer, hole * outer, (count, count), gap)


def nested(count: int, *, fill: float = 0.85, gap: float = 0.05) -> Shapes:
    """Rings on a grid with a disc in each one's hole: ``betti == (2 * count, count)``.

    Args:
        count: rings.
        fill: as in `discs`.
        gap: as in `discs`; also between a ring and its disc.

    Raises:
        DataError: they do not fit.
    """
    centres, outer = _places(count, fill, gap, "grid", 0)
    middle = torch.cat([outer, 0.25 * outer])
    inner = torch.cat([0.6 * outer, torch.zeros_like(outer)])
    if bool((0.35 * outer < gap).any()):
        raise DataError(f"{count} rings leave no gap of {gap} around their discs")
    _checked(centres, outer, 0.6 * outer, (count, count), gap)
    return Shapes(centres.repeat(2, 1), middle, inner, (2 * count, count))


def _places(count: int, fill: float, gap: float, spread: str, seed: int) -> tuple[Tensor, Tensor]:
    if count < 1 or not 0 < fill < 1:
        raise DataError(f"count must be at least 1 and fill between 0 and 1, not {count} and {fill}")
    if spread not in ("grid", "random"):
        raise DataError(f"spread must be 'grid' or 'random', not {spread!r}")
    side = math.ceil(math.sqrt(count))
    if spread == "grid":
        line = (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
        centres = torch.cartesian_prod(line, line)[:count]
        return centres, torch.full((count,), fill / side, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    centres, outer = torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    for _ in range(3000):
        radius = fill / side * (0.5 + 0.5 * torch.rand(1, generator=draw, dtype=torch.float64))
        reach = 1 - radius - gap
        place = reach * (2 * torch.rand(1, 2, generator=draw, dtype=torch.float64) - 1)
        if bool((torch.cdist(place, centres)[0] - outer - radius >= gap).all()):
            centres, outer = torch.cat([centres, place]), torch.cat([outer, radius])
        if len(outer) == count:
            return centres, outer
    raise DataError(f"{count} shapes with gaps of {gap} do not fit into the square; lower fill or gap")


def _checked(centres: Tensor, outer: Tensor, inner: Tensor, betti: tuple[int, int], gap: float) -> Shapes:
    """The shapes, if no two touch and none leaves the square."""
    apart = torch.cdist(centres, centres) - outer[:, None] - outer
    apart.fill_diagonal_(math.inf)
    border = 1 - centres.abs().amax(1) - outer
    if float(min(apart.min(), border.min())) < gap - 1e-9:
        raise DataError(f"{len(outer)} shapes leave no gap of {gap} between each other; lower fill or gap")
    return Shapes(centres, outer, inner, betti)
