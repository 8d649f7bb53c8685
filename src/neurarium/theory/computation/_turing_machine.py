"""Turing machines with one tape that begins at cell 0, run step by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

Rule = tuple[str, str, str, str, int]
"""State, symbol read, next state, symbol written, move: -1, 0 or 1."""


@dataclass(frozen=True)
class Trace:
    """A run: what the machine was in, read and did at each step.

    Args:
        states: before each step, and the last one.
        symbols: under the head, at the same moments.
        heads: cell of the head, at the same moments.
        moves: of the steps.
        tape: symbols by cell, where something was written or given.
        halted: whether it came to a halting state.
        accepted: whether that one accepts.
    """

    states: tuple[str, ...]
    symbols: tuple[str, ...]
    heads: tuple[int, ...]
    moves: tuple[int, ...]
    tape: dict[int, str] = field(repr=False)
    halted: bool = False
    accepted: bool = False

    @property
    def steps(self) -> int:
        """How many there were."""
        return len(self.moves)

    def text(self, blank: str) -> str:
        """What is on the tape, without the blanks around it."""
        cells = range(max(self.tape, default=-1) + 1)
        return "".join(self.tape.get(cell, blank) for cell in cells).strip(blank)


@dataclass(frozen=True)
class TuringMachine:
    """A deterministic machine on cells 0, 1, 2 ...; the word stands at the start, blanks follow.

    A state and symbol without a rule halt and reject.

    Args:
        rules: state, symbol, next state, symbol written and move, for each.
        start: the first state.
        accept: states in which it halts and accepts.
        blank: the symbol of empty cells.
        reject: states in which it halts and rejects.
        offset: blanks before the word, room for a machine that goes to its left.

    Raises:
        ValueError: two rules for a state and symbol, a move other than -1, 0 and 1, or a rule from a halting state.
    """

    rules: tuple[Rule, ...]
    start: str
    accept: tuple[str, ...]
    blank: str = "_"
    reject: tuple[str, ...] = ()
    offset: int = 0

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for state, symbol, _, _, move in self.rules:
            if (state, symbol) in seen:
                raise ValueError(f"the table is not deterministic: two rules for state {state!r} and symbol {symbol!r}")
            if move not in (-1, 0, 1):
                raise ValueError(f"a move must be -1, 0 or 1, not {move!r} (state {state!r}, symbol {symbol!r})")
            if state in self.halting:
                raise ValueError(f"the halting state {state!r} has a rule")
            seen.add((state, symbol))

    @property
    def halting(self) -> tuple[str, ...]:
        """States in which it halts."""
        return self.accept + self.reject

    @property
    def table(self) -> dict[tuple[str, str], tuple[str, str, int]]:
        """The rules by state and symbol."""
        return {(state, symbol): (to, written, move) for state, symbol, to, written, move in self.rules}

    @property
    def states(self) -> tuple[str, ...]:
        """All of them, the start first, the halting ones last."""
        named = [self.start, *(s for rule in self.rules for s in (rule[0], rule[2]))]
        return tuple(dict.fromkeys([s for s in named if s not in self.halting] + list(self.halting)))

    @property
    def symbols(self) -> tuple[str, ...]:
        """All of them, the blank first."""
        return tuple(dict.fromkeys([self.blank, *(s for rule in self.rules for s in (rule[1], rule[3]))]))

    def cells(self, word: Iterable[str]) -> list[str]:
        """The tape at the start.

        Raises:
            ValueError: a symbol that is not in the alphabet, or an empty word and no offset.
        """
        cells = [self.blank] * self.offset + list(word)
        for place, symbol in enumerate(cells):
            if symbol not in self.symbols:
                raise ValueError(f"symbol {symbol!r} at place {place} is not in the alphabet {self.symbols}")
        if not cells:
            raise ValueError("the word is empty; give one symbol or more (a blank will do)")
        return cells

    def run(self, word: Iterable[str], max_steps: int = 10_000) -> Trace:
        """Run on a word.

        Raises:
            ValueError: the head would leave the tape; names the step. As `cells` otherwise.
        """
        tape, table = dict(enumerate(self.cells(word))), self.table
        state, head = self.start, 0
        moves: list[int] = []
        states, symbols, heads = [state], [tape.get(0, self.blank)], [0]
        while state not in self.halting and len(moves) < max_steps:
            if (state, symbols[-1]) not in table:
                return Trace(tuple(states), tuple(symbols), tuple(heads), tuple(moves), tape, True, False)
            state, tape[head], move = table[state, symbols[-1]]
            head += move
            if head < 0:
                raise ValueError(f"the head leaves the tape at step {len(moves) + 1}; give the machine an offset")
            states.append(state)
            symbols.append(tape.get(head, self.blank))
            heads.append(head)
            moves.append(move)
        parts = tuple(states), tuple(symbols), tuple(heads), tuple(moves)
        return Trace(*parts, tape, state in self.halting, state in self.accept)

    def completed(self) -> TuringMachine:
        """The same with a rule for every state and symbol: where there was none, it goes on into a rejecting state."""
        table = self.table
        live = [s for s in self.states if s not in self.halting]
        missing = [(s, a) for s in live for a in self.symbols if (s, a) not in table]
        if not missing:
            return self
        stuck = _fresh("stuck", self.states)
        added = tuple((state, symbol, stuck, symbol, 1) for state, symbol in missing)
        return TuringMachine(
            self.rules + added, self.start, self.accept, self.blank, (*self.reject, stuck), self.offset
        )

    def without_stays(self) -> TuringMachine:
        """The same with moves of -1 and 1 only: a stay becomes a move to the right and one back."""
        rules: list[Rule] = []
        back: dict[str, str] = {}
        for state, symbol, to, written, move in self.rules:
            if move == 0:
                back.setdefault(to, _fresh(f"back to {to}", self.states))
                rules.append((state, symbol, back[to], written, 1))
            else:
                rules.append((state, symbol, to, written, move))
        rules += [(name, symbol, to, symbol, -1) for to, name in back.items() for symbol in self.symbols]
        return TuringMachine(tuple(rules), self.start, self.accept, self.blank, self.reject, self.offset)

    def shifted(self, cells: int) -> TuringMachine:
        """The same with room for ``cells`` cells to the left of the word, which it crosses first.

        Raises:
            ValueError: ``cells`` is negative.
        """
        if cells < 0:
            raise ValueError(f"cells must not be negative, not {cells}")
        names = [_fresh(f"cross {i}", self.states) for i in range(cells)] + [self.start]
        crossing = tuple((a, self.blank, b, self.blank, 1) for a, b in itertools.pairwise(names))
        return TuringMachine(
            crossing + self.rules, names[0], self.accept, self.blank, self.reject, self.offset + cells
        )  # fmt: skip

    def two_symbols(self) -> TuringMachine:
        """The same on an alphabet of 0 and 1, each symbol in as many bits as it takes; the blank is zeros.

        It reads a block to the right, writes it from the right, and goes to the next one. `bits` encodes words.
        """
        machine, width = self.without_stays(), self.width
        code = self.bits
        rules: list[Rule] = []
        for state, symbol, to, written, move in machine.rules:
            read = code(symbol)
            for place in range(width - 1):
                seen, more = read[:place], read[: place + 1]
                rules.append((f"{state}:{seen}", read[place], f"{state}:{more}", read[place], 1))
            text = code(written)
            for place in range(width - 1, -1, -1):
                last = place == width - 1
                now = f"{state}:{read[:-1]}" if last else f"{to}<{text[: place + 1]}{move:+d}"
                for bit in (read[-1],) if last else "01":
                    if place > 0:
                        rules.append((now, bit, f"{to}<{text[:place]}{move:+d}", text[place], -1))
                    else:  # the block is written; its neighbour is a block's width away
                        rules.append((now, bit, _walk(to, width - 1, move), text[0], move))
            for left in range(width - 1, 0, -1):
                for bit in "01":
                    rules.append((_walk(to, left, move), bit, _walk(to, left - 1, move), bit, move))
        unique = tuple(dict.fromkeys(rules))
        accept, reject = (tuple(f"{s}:" for s in kind) for kind in (self.accept, self.reject))
        return TuringMachine(unique, f"{self.start}:", accept, "0", reject, self.offset * width)

    @property
    def width(self) -> int:
        """Bits that a symbol takes in `two_symbols`."""
        return max(math.ceil(math.log2(len(self.symbols))), 1)

    def bits(self, word: Iterable[str]) -> str:
        """A word in the code of `two_symbols`."""
        return "".join(f"{self.symbols.index(symbol):0{self.width}b}" for symbol in word)


def random_machine(states: int, symbols: int, *, generator: torch.Generator | None = None) -> TuringMachine:
    """A machine with random rules that never leaves the tape: cell 0 must hold the mark ``>``, which turns it back.

    Args:
        states: that do not halt; a step leads into the halting one with the same probability as into each of them.
        symbols: besides the mark, "0", "1" ...; the first is the blank.
        generator: source of the draws; torch's own by default.

    Raises:
        ValueError: a number below 1.
    """
    if states < 1 or symbols < 1:
        raise ValueError(f"states and symbols must be at least 1, not {states} and {symbols}")
    names: Sequence[str] = [*(f"q{i}" for i in range(states)), "halt"]
    rules: list[Rule] = []
    for state in names[:-1]:
        drawn = torch.rand(symbols + 1, 3, generator=generator).tolist()
        for symbol, (to, written, move) in enumerate(drawn[:-1]):
            target = names[int(to * len(names))]
            rules.append((state, str(symbol), target, str(int(written * symbols)), 1 if move < 0.5 else -1))
        rules.append((state, ">", names[int(drawn[-1][0] * states)], ">", 1))
    return TuringMachine(tuple(rules), "q0", ("halt",), "0")


def _fresh(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "'"
    return name


def _walk(state: str, left: int, move: int) -> str:
    return f"{state}>{left}{move:+d}" if left else f"{state}:"
