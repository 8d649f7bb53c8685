"""Examples of a map from functions to functions: what sensors saw, places, and the answers there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurarium.data.operators._fields import resample


@dataclass(frozen=True)
class OperatorData:
    """Functions at sensors, places, and the answers at the places.

    Args:
        u: input functions at the sensors, the same sensors for all [functions, sensors].
        y: places: [places, dim] where all functions share them, else [functions, places, dim].
        s: answers [functions, places, outputs], or [functions, places] for one output.
        mask: which answers are known [functions, places]; None for all. The others may be anything, NaN included.

    Raises:
        ValueError: shapes that do not belong together, or a NaN among the known answers (its index is named).
    """

    u: Float[Tensor, "functions sensors"]
    y: Float[Tensor, "*functions places dim"]
    s: Float[Tensor, "functions places *outputs"]
    mask: Bool[Tensor, "functions places"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.u, Tensor) or self.u.dim() != 2:
            raise ValueError(
                "u must be one tensor [functions, sensors]: all functions are seen by the same sensors. "
                "Bring functions that were measured at places of their own to common ones with resample()"
            )
        if self.y.dim() not in (2, 3):
            raise ValueError(f"y must be [places, dim] or [functions, places, dim], not {list(self.y.shape)}")
        if self.s.dim() == 2:
            object.__setattr__(self, "s", self.s[..., None])
        wanted = (len(self.u), self.y.shape[-2])
        if self.s.dim() != 3 or tuple(self.s.shape[:2]) != wanted or (not self.aligned and len(self.y) != len(self.u)):
            raise ValueError(
                f"s must be [{wanted[0]} functions, {wanted[1]} places, outputs] for u {list(self.u.shape)} and "
                f"y {list(self.y.shape)}, not {list(self.s.shape)}"
            )
        if self.mask is not None and tuple(self.mask.shape) != wanted:
            raise ValueError(f"mask must be {list(wanted)}, not {list(self.mask.shape)}")
        bad = ~torch.isfinite(self.s).all(2)
        bad = bad if self.mask is None else bad & self.mask
        if bool(bad.any()):
            function, place = bad.nonzero()[0].tolist()
            raise ValueError(f"s is not finite for function {function} at place {place}; give a mask of what is known")
        if self.mask is not None and not bool(self.mask.any(1).all()):
            raise ValueError(f"function {int((~self.mask.any(1)).nonzero()[0])} has no known answer")

    @property
    def aligned(self) -> bool:
        """Whether all functions share the places."""
        return self.y.dim() == 2

    def __len__(self) -> int:
        return len(self.u)

    def __getitem__(self, rows: slice | Tensor) -> OperatorData:
        """Some of the functions."""
        y = self.y if self.aligned else self.y[rows]
        return OperatorData(self.u[rows], y, self.s[rows], None if self.mask is None else self.mask[rows])

    def to(self, device: str | torch.device) -> OperatorData:
        """The same on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, u=self.u.to(device), y=self.y.to(device), s=self.s.to(device), mask=mask)

    def draw(self, places: int, generator: torch.Generator | None = None) -> OperatorData:
        """Some known places of each function, drawn for each by itself; without repetition where enough are known.

        Args:
            places: how many of each.
            generator: of the draws.

        Raises:
            ValueError: fewer than one place.
        """
        if places < 1:
            raise ValueError(f"places must be at least 1, not {places}")
        device = generator.device if generator is not None else self.s.device
        keys = torch.rand(self.s.shape[:2], generator=generator, device=device).to(self.s.device)
        known = self.s.shape[1] * torch.ones(len(self), dtype=torch.long, device=self.s.device)
        if self.mask is not None:
            keys, known = keys.masked_fill(~self.mask, 2.0), self.mask.sum(1)
        order = keys.argsort(1)  # the known ones first, in random order
        turns = torch.arange(places, device=self.s.device) % known[:, None]
        chosen = order.gather(1, turns)
        y = self.y.expand(len(self), -1, -1)
        s = self.s.gather(1, chosen[..., None].expand(-1, -1, self.s.shape[2]))
        return OperatorData(self.u, y.gather(1, chosen[..., None].expand(-1, -1, y.shape[2])), s)

    def triples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every known answer as a row: u [rows, sensors], y [rows, dim], s [rows, outputs]."""
        known = torch.ones(self.s.shape[:2], dtype=torch.bool, device=self.s.device) if self.mask is None else self.mask
        function, place = known.nonzero(as_tuple=True)
        y = self.y[place] if self.aligned else self.y[function, place]
        return self.u[function], y, self.s[function, place]


def operator_data(
    u: Float[Tensor, "functions points"],
    s: Float[Tensor, " functions *grid"],
    sensors: int = 100,
    places: int | None = None,
    generator: torch.Generator | None = None,
) -> OperatorData:
    """Examples from functions and answers on even grids of [0, 1].

    Args:
        u: input functions on an even grid.
        s: answers on an even grid: [functions, points] with places x, or [functions, times, points] with places (x, t).
        sensors: even sensors to read ``u`` at.
        places: random grid points for each function; None for the whole grid, which all functions share.
        generator: of the places.

    Raises:
        ValueError: answers of another number or another shape.
    """
    if len(u) != len(s) or s.dim() not in (2, 3):
        raise ValueError(f"s must be [{len(u)} functions, points] or [.., times, points], not {list(s.shape)}")
    seen = resample(u, _even(u.shape[1], u), _even(sensors, u))
    y = _even(s.shape[-1], u)[:, None]
    if s.dim() == 3:
        times, points = s.shape[1:]
        y = torch.cat([y.repeat(times, 1), _even(times, u).repeat_interleave(points)[:, None]], 1)
    whole = OperatorData(seen, y, s.flatten(1))
    return whole if places is None else whole.draw(places, generator)


class OperatorBatches:
    """Batches ``((u, y, aligned), s)`` of some functions at some places, for `fit` and `evaluate`.

    Args:
        data: the examples.
        functions: in a batch.
        places: of each function, drawn anew in every pass; None for all, or, where answers are missing, for as many as
            the function with the fewest has.
        shuffle: draw a new order of functions for each pass.
        seed: of order and places.

    Raises:
        ValueError: a batch of no function, or no data.
    """

    def __init__(
        self, data: OperatorData, functions: int, places: int | None = None, *, shuffle: bool = False, seed: int = 0
    ) -> None:
        if functions < 1 or len(data) == 0:
            raise ValueError("functions must be at least 1, in the batch and in the data")
        if places is None and data.mask is not None:
            places = int(data.mask.sum(1).min())
        self.data, self.functions, self.places, self.shuffle = data, functions, places, shuffle
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.data) // self.functions)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        count = len(self.data)
        order = torch.randperm(count, generator=self.generator) if self.shuffle else torch.arange(count)
        for rows in order.to(self.data.u.device).split(self.functions):
            part = self.data[rows]
            part = part if self.places is None else part.draw(self.places, self.generator)
            yield (part.u, part.y, part.aligned), part.s


def _even(points: int, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, points, dtype=like.dtype, device=like.device)
