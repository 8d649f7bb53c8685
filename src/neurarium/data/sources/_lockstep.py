"""Many BrainPhoque programs at once: every step is done for all of them with a few operations on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from neurarium.data.sources._programs import CLOSE, LATER, OPEN, PRINT

HALTED, TIMEOUT, FULL = range(3)
COUNTS = np.array([1, -1, 0, 0, 0, 0, 0, 0])
MOVES = np.array([0, 0, 1, -1, 0, 0, 0, 0])


@dataclass(frozen=True)
class Machines:
    """States of machines that have stopped; the first axis of every array is the program.

    Args:
        text: the programs as they were stored, 0 after their ends.
        length: of each text.
        jumps: where brackets lead, -1 where that was not decided.
        kept: length of the text when the last symbol was printed.
        output: what was printed, 0 after the end.
        printed: how much.
        steps: instructions that were executed.
        status: 0 halted, 1 timeout, 2 output limit.
    """

    text: np.ndarray
    length: np.ndarray
    jumps: np.ndarray
    kept: np.ndarray
    output: np.ndarray
    printed: np.ndarray
    steps: np.ndarray
    status: np.ndarray

    def rows(self, chosen: Any) -> Machines:
        """Some of them."""
        return Machines(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Machines]) -> Machines:
        """Several batches as one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def run_together(given: np.ndarray, alphabet: int, memory: int, max_steps: int, max_output: int) -> Machines:
    """Run programs until each has stopped; the same as `BrainPhoque.run` of each.

    Args:
        given: tokens [programs, length], numbers below 7.
        alphabet: values of a cell.
        memory: cells.
        max_steps: instructions after which a program is stopped.
        max_output: symbols after which it is stopped.
    """
    programs, size = given.shape
    given = given.astype(np.int8)
    text = np.zeros((programs, size), np.int8)
    jumps = np.full((programs, size), -1, np.int32)
    still_open = np.zeros((programs, size), np.int32)
    tape = np.zeros((programs, memory), np.int16)
    output = np.zeros((programs, max_output), np.int16)
    length, depth, at, head, kept, printed, steps = np.zeros((7, programs), np.int64)
    status = np.full(programs, HALTED, np.int8)
    alive = np.arange(programs) if size else np.zeros(0, np.int64)
    for step in range(1, max_steps + 1):
        if not len(alive):
            break
        here, cells = at[alive], head[alive]
        value = tape[alive, cells]
        new = here == length[alive]
        token = np.where(new, given[alive, here], text[alive, here])
        token[new & (token == OPEN) & (value == 0)] = LATER
        text[alive[new], here[new]] = token[new]
        length[alive] += new
        tape[alive, cells] = (value + COUNTS[token]) % alphabet
        head[alive] = (cells + MOVES[token]) % memory
        prints = alive[token == PRINT]
        output[prints, printed[prints]] = value[token == PRINT]
        printed[prints] += 1
        kept[prints] = length[prints]
        follow = here + 1
        _brackets(alive, here, token, new, value, follow, text, jumps, still_open, length, depth)
        at[alive] = follow
        steps[alive] = step
        ended, full = follow == size, printed[alive] == max_output
        status[alive[full]] = FULL
        if step == max_steps:
            status[alive] = TIMEOUT
        status[alive[ended]] = HALTED
        alive = alive[~(ended | full)]
    return Machines(text, length, jumps, kept, output, printed, steps, status)


def _brackets(
    alive: np.ndarray, here: np.ndarray, token: np.ndarray, new: np.ndarray, value: np.ndarray, follow: np.ndarray,
    text: np.ndarray, jumps: np.ndarray, still_open: np.ndarray, length: np.ndarray, depth: np.ndarray,
) -> None:  # fmt: skip
    """Where the programs that stand at a bracket go on; ``follow`` and the tables are changed in place."""
    stand = (token == OPEN) | (token == CLOSE) | (token == LATER)
    if not stand.any():
        return
    chosen = np.flatnonzero(stand)
    who, where, kind, first, zero = alive[chosen], here[chosen], token[chosen], new[chosen], value[chosen] == 0
    known = jumps[who, where]
    leaves = (kind == OPEN) & ~first & zero  # a loop ends: what comes after it
    enters = (kind == LATER) & ~first & ~zero  # a body that was left for later
    fresh = (leaves | enters) & (known < 0)
    known[fresh] = length[who[fresh]]
    pushes = ((kind == OPEN) & first) | (enters & fresh)
    still_open[who[pushes], depth[who[pushes]]] = where[pushes]
    depth[who[pushes]] += 1
    closes = (kind == CLOSE) & first
    paired = closes & (depth[who] > 0)
    depth[who[paired]] -= 1
    known[paired] = still_open[who[paired], depth[who[paired]]]
    known[closes & ~paired] = where[closes & ~paired]
    jumps[who, where] = known
    goes = leaves | enters | ((kind == CLOSE) & (known != where))
    follow[chosen[goes]] = known[goes]
