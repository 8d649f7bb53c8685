"""The cell of a branch while a tree grows: which side of a plane it lies on, and its two parts where on both."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch

from neurarium.probes.regions._polyhedron import THIN, Polyhedron, clip, largest_ball


class Cell(ABC):
    """A convex set with interior: a domain, and the half-spaces that cut it.

    Args:
        domain: what it was cut from.
    """

    def __init__(self, domain: Polyhedron) -> None:
        self.domain = domain
        self.cuts: tuple[tuple[np.ndarray, float], ...] = ()

    @property
    @abstractmethod
    def inside(self) -> np.ndarray:
        """A point in the interior."""

    @abstractmethod
    def bounds(self, rows: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Limits, perhaps wide ones, of ``x @ rows + shifts`` within the cell."""

    @abstractmethod
    def split(self, normal: np.ndarray, shift: float) -> tuple[Cell | None, Cell | None]:
        """The parts where ``normal @ x + shift`` is not positive and where it is; None for one without interior."""

    def polyhedron(self) -> Polyhedron:
        """The cell as half-spaces: those of the domain and all that cut it."""
        if not self.cuts:
            return self.domain
        normals, ends = np.stack([n for n, _ in self.cuts]), np.array([e for _, e in self.cuts])
        return self.domain.cut(torch.from_numpy(normals), torch.from_numpy(ends))


class Corners(Cell):
    """A segment or a convex polygon by its corners: no linear programme is needed.

    Args:
        domain: bounded, of one or two dimensions.
    """

    def __init__(self, domain: Polyhedron) -> None:
        super().__init__(domain)
        low, high = (side.numpy() for side in domain.bounds)
        self.corners = np.stack([low, high]) if domain.dimensions == 1 else domain.polygon().numpy()
        if domain.dimensions == 1:
            for row, end in zip(domain.normals.numpy(), domain.offsets.numpy()):
                self.corners = clip(self.corners, self.corners @ row - end)

    @property
    def inside(self) -> np.ndarray:
        return self.corners.mean(0)

    def bounds(self, rows: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self.corners @ rows + shifts
        return values.min(0), values.max(0)

    def split(self, normal: np.ndarray, shift: float) -> tuple[Corners | None, Corners | None]:
        values = self.corners @ normal + shift
        if values.max() <= THIN:
            return self, None
        if values.min() >= -THIN:
            return None, self
        return self._part(clip(self.corners, values), normal, -shift), self._part(
            clip(self.corners, -values), -normal, shift
        )

    def _part(self, corners: np.ndarray, normal: np.ndarray, end: float) -> Corners:
        part = object.__new__(Corners)
        part.corners, part.domain, part.cuts = corners, self.domain, (*self.cuts, (normal, end))
        return part


class HalfSpaces(Cell):
    """Any dimension: a point inside shows one side of a plane to be there, a linear programme decides on the other.

    Args:
        domain: with interior.
    """

    def __init__(self, domain: Polyhedron) -> None:
        super().__init__(domain)
        ball = domain.centre()
        if ball is None:
            raise ValueError("the domain has no interior")
        self.centre = ball[0].numpy()
        self.rows, self.ends = domain.normals.numpy(), domain.offsets.numpy()
        low, high = (side.numpy() for side in domain.bounds)
        if domain.bounded:
            self.middle, self.reach = (low + high) / 2, (high - low) / 2
        self.programmes = [0]  # one counter for the whole tree

    @property
    def inside(self) -> np.ndarray:
        return self.centre

    def bounds(self, rows: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.domain.bounded:
            wide = np.full(rows.shape[1], np.inf)
            return -wide, wide
        middle, reach = self.middle @ rows + shifts, self.reach @ np.abs(rows)
        return middle - reach, middle + reach

    def split(self, normal: np.ndarray, shift: float) -> tuple[HalfSpaces | None, HalfSpaces | None]:
        low, high = self.bounds(normal[:, None], np.array([shift]))
        if high[0] <= THIN:
            return self, None
        if low[0] >= -THIN:
            return None, self
        height = float(normal @ self.centre + shift)
        below = self._part(normal, -shift, -height)
        above = self._part(-normal, shift, height)
        if above is None:  # the plane cuts nothing off: the whole cell stays
            return self, None
        return (None, self) if below is None else (below, above)

    def _part(self, normal: np.ndarray, end: float, margin: float) -> HalfSpaces | None:
        rows, ends = np.vstack([self.rows, normal]), np.append(self.ends, end)
        centre = self.centre
        if margin <= 1e-6:
            self.programmes[0] += 1
            ball = largest_ball(rows, ends)
            if ball is None:
                return None
            centre = ball[0]
        part = object.__new__(HalfSpaces)
        part.__dict__ |= self.__dict__
        part.rows, part.ends, part.centre, part.cuts = rows, ends, centre, (*self.cuts, (normal, end))
        return part


def cell_of(domain: Polyhedron) -> Cell:
    """The quickest kind of cell for a domain.

    Raises:
        ValueError: the domain has no interior.
    """
    if domain.dimensions <= 2 and domain.bounded:
        cell = Corners(domain)
        if len(cell.corners) > domain.dimensions and domain.centre() is not None:
            return cell
    return HalfSpaces(domain)
