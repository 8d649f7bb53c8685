"""What a tree asks at an operation that is linear in pieces, one question at a time."""

from __future__ import annotations

import numpy as np

from neurarium.probes.regions._affine_network import Bend
from neurarium.probes.regions._cells import Cell
from neurarium.probes.regions._polyhedron import THIN


class PieceQuestions:
    """On which piece is each unit of an activation? Halving, after what limits of the cell already tell."""

    def __init__(self, bend: Bend, cell: Cell) -> None:
        assert bend.pieces is not None
        self.bend, self.slopes, self.values = bend, bend.forms[1:].numpy(), bend.forms[0].numpy()
        self.breaks = bend.pieces.breaks.numpy()
        least, most = cell.bounds(self.slopes, self.values)
        self.low = np.searchsorted(self.breaks, least + THIN, side="left")
        self.high = np.searchsorted(self.breaks, most - THIN, side="left")
        self.high = np.maximum(self.low, self.high)
        self.unit = 0

    def copy(self) -> PieceQuestions:
        other = object.__new__(PieceQuestions)
        other.__dict__ |= self.__dict__
        other.low, other.high = self.low.copy(), self.high.copy()
        return other

    def next(self) -> tuple[np.ndarray, float] | None:
        """Normal and shift of ``normal @ x + shift > 0``, the next question; None where all is known."""
        while self.unit < len(self.low) and self.low[self.unit] == self.high[self.unit]:
            self.unit += 1
        if self.unit == len(self.low):
            return None
        middle = (self.low[self.unit] + self.high[self.unit]) // 2
        return self.slopes[:, self.unit], float(self.values[self.unit] - self.breaks[middle])

    def take(self, answer: bool) -> None:
        """The answer to `next`."""
        middle = (self.low[self.unit] + self.high[self.unit]) // 2
        if answer:
            self.low[self.unit] = middle + 1
        else:
            self.high[self.unit] = middle

    def choice(self) -> np.ndarray:
        """The piece of every unit, once all is known."""
        return self.low


class MaximumQuestions:
    """Which candidate of each window is largest? A tournament."""

    def __init__(self, bend: Bend) -> None:
        assert bend.maximum is not None
        self.bend, self.windows, self.forms = bend, bend.maximum.windows.numpy(), bend.forms.numpy()
        first = self.windows >= 0
        self.champion = self.windows[np.arange(len(first)), first.argmax(1)].copy()
        self.window, self.rival = 0, 0

    def copy(self) -> MaximumQuestions:
        other = object.__new__(MaximumQuestions)
        other.__dict__ |= self.__dict__
        other.champion = self.champion.copy()
        return other

    def next(self) -> tuple[np.ndarray, float] | None:
        """Normal and shift of ``rival - champion > 0``; None where all is known."""
        while self.window < len(self.windows):
            row = self.windows[self.window]
            while self.rival < len(row):
                rival = row[self.rival]
                if rival >= 0 and rival != self.champion[self.window]:
                    form = self.forms[:, rival] - self.forms[:, self.champion[self.window]]
                    return form[1:], float(form[0])
                self.rival += 1
            self.window, self.rival = self.window + 1, 0
        return None

    def take(self, answer: bool) -> None:
        """The answer to `next`."""
        if answer:
            self.champion[self.window] = self.windows[self.window, self.rival]
        self.rival += 1

    def choice(self) -> np.ndarray:
        """The candidate of every window, once all is known."""
        return self.champion


Questions = PieceQuestions | MaximumQuestions


def questions_of(bend: Bend, cell: Cell) -> Questions:
    """The questions of an operation within a cell."""
    return PieceQuestions(bend, cell) if bend.maximum is None else MaximumQuestions(bend)
