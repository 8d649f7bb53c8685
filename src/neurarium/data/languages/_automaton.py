"""Finite automata with an output in every state (Moore machines): run, minimised, compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.data._errors import DataError

Step = int | None
"""A state, or None where no transition is known."""


@dataclass(frozen=True)
class Automaton:
    """States with outputs, and where each symbol leads from each state.

    An automaton may be incomplete: a transition or an output that is None is unknown.

    Args:
        transitions: for each state, the next one by symbol.
        outputs: of the states.
        start: the state of the empty word.

    Raises:
        DataError: rows of different lengths, a state that does not exist, or none at all.
    """

    transitions: tuple[tuple[Step, ...], ...]
    outputs: tuple[int | None, ...]
    start: int = 0

    def __post_init__(self) -> None:
        states = len(self.transitions)
        if not states or len(self.outputs) != states or not 0 <= self.start < states:
            raise DataError("an automaton needs a state or more, an output for each, and a start among them")
        if len({len(row) for row in self.transitions}) != 1 or not self.transitions[0]:
            raise DataError("all states need the same number of symbols, one or more")
        if any(to is not None and not 0 <= to < states for row in self.transitions for to in row):
            raise DataError(f"transitions must lead to states 0 to {states - 1}")

    @property
    def states(self) -> int:
        """How many there are."""
        return len(self.transitions)

    @property
    def symbols(self) -> int:
        """Size of the alphabet."""
        return len(self.transitions[0])

    @property
    def complete(self) -> bool:
        """Whether every state has every transition."""
        return all(to is not None for row in self.transitions for to in row)

    def run(self, word: Iterable[int]) -> int | None:
        """The output after a word.

        Raises:
            DataError: a symbol outside the alphabet, or a transition that is unknown; names state and symbol.
        """
        state = self.start
        for symbol in word:
            if not 0 <= symbol < self.symbols:
                raise DataError(f"symbol {symbol} is outside the alphabet of {self.symbols}")
            to = self.transitions[state][symbol]
            if to is None:
                raise DataError(f"the automaton is incomplete: state {state} has no transition for symbol {symbol}")
            state = to
        return self.outputs[state]

    def run_all(self, words: Int[Tensor, "count length"]) -> Int[Tensor, " count"]:
        """Outputs after many words of one length, together; -1 where the output is unknown.

        Raises:
            DataError: a symbol outside the alphabet, or the automaton is incomplete.
        """
        if not self.complete:
            raise DataError("the automaton is incomplete; run single words to see where")
        if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < self.symbols:
            raise DataError(f"words must hold symbols 0 to {self.symbols - 1}")
        table = torch.tensor(self.transitions, device=words.device)
        state = torch.full((len(words),), self.start, device=words.device)
        for symbol in words.unbind(1):
            state = table[state, symbol]
        said = [-1 if output is None else output for output in self.outputs]
        return torch.tensor(said, device=words.device)[state]

    def reachable(self) -> Automaton:
        """Without the states that no word leads to, the others numbered in the order of their shortest words."""
        order, queue = {self.start: 0}, deque([self.start])
        while queue:
            for to in self.transitions[queue.popleft()]:
                if to is not None and to not in order:
                    order[to] = len(order)
                    queue.append(to)
        rows = tuple(
            tuple(None if to is None else order[to] for to in self.transitions[state]) for state in order
        )  # fmt: skip
        return Automaton(rows, tuple(self.outputs[state] for state in order))

    def minimal(self) -> Automaton:
        """The smallest automaton that gives the same outputs, by Hopcroft's algorithm.

        An unknown transition counts as one to a state of its own, so that states are not joined where only one of them
        goes on. A state without an output takes the one with which the result is smallest (one state after another).
        """
        automaton = self.reachable()
        for state, output in enumerate(automaton.outputs):
            if output is None:
                known = sorted({o for o in automaton.outputs if o is not None}) or [0]
                tries = [_replaced(automaton, state, o) for o in known]
                automaton = min(tries, key=lambda one: len(set(_classes(one))))
        classes = _classes(automaton)
        first = {c: state for state, c in reversed(list(enumerate(classes)))}
        names = {c: n for n, c in enumerate(sorted(first, key=first.__getitem__))}
        rows = tuple(
            tuple(None if to is None else names[classes[to]] for to in automaton.transitions[state])
            for state in sorted(first.values())
        )
        outputs = tuple(automaton.outputs[state] for state in sorted(first.values()))
        return Automaton(rows, outputs, names[classes[automaton.start]]).reachable()

    def counterexample(self, other: Automaton) -> tuple[int, ...] | None:
        """A shortest word on which the two give different outputs; None where there is none.

        Words that one of them cannot read, and outputs that one does not know, are no difference.

        Raises:
            DataError: the alphabets differ in size.
        """
        if self.symbols != other.symbols:
            raise DataError(f"the alphabets have {self.symbols} and {other.symbols} symbols")
        begin = (self.start, other.start)
        seen = {begin}
        queue: deque[tuple[tuple[int, int], tuple[int, ...]]] = deque([(begin, ())])
        while queue:
            (mine, its), word = queue.popleft()
            said = self.outputs[mine], other.outputs[its]
            if None not in said and said[0] != said[1]:
                return word
            for symbol, (a, b) in enumerate(zip(self.transitions[mine], other.transitions[its], strict=True)):
                if a is not None and b is not None and (a, b) not in seen:
                    seen.add((a, b))
                    queue.append(((a, b), (*word, symbol)))
        return None

    def to_text(self) -> str:
        """A line per state: its output, and where the symbols lead."""
        lines = []
        for state, (row, output) in enumerate(zip(self.transitions, self.outputs, strict=True)):
            mark = ">" if state == self.start else " "
            steps = "  ".join(f"{symbol}->{'?' if to is None else to}" for symbol, to in enumerate(row))
            lines.append(f"{mark}{state} [{'?' if output is None else output}]  {steps}")
        return "\n".join(lines)


def _replaced(automaton: Automaton, state: int, output: int) -> Automaton:
    outputs = list(automaton.outputs)
    outputs[state] = output
    return Automaton(automaton.transitions, tuple(outputs), automaton.start)


def _classes(automaton: Automaton) -> list[int]:
    """For each state the number of its class of equivalent ones (Hopcroft, 1971: the smaller half is worked off)."""
    sink = automaton.states
    rows = [[sink if to is None else to for to in row] for row in automaton.transitions] + [[sink] * automaton.symbols]
    before: list[list[set[int]]] = [[set() for _ in rows] for _ in range(automaton.symbols)]
    for state, row in enumerate(rows):
        for symbol, to in enumerate(row):
            before[symbol][to].add(state)
    blocks: list[set[int]] = []
    for output in dict.fromkeys(automaton.outputs):
        blocks.append({s for s, o in enumerate(automaton.outputs) if o == output})
    blocks.append({sink})
    member = [next(i for i, block in enumerate(blocks) if state in block) for state in range(len(rows))]
    work = {(block, symbol) for block in range(len(blocks)) for symbol in range(automaton.symbols)}
    while work:
        splitter, symbol = work.pop()
        leads = set().union(*(before[symbol][state] for state in blocks[splitter]))
        for index in {member[state] for state in leads}:
            inside = blocks[index] & leads
            if len(inside) == len(blocks[index]):
                continue
            outside, new = blocks[index] - inside, len(blocks)
            small, large = sorted((inside, outside), key=len)
            blocks[index] = large
            blocks.append(small)
            for state in small:
                member[state] = new
            work |= {(new, s) for s in range(automaton.symbols)}
    return member[:sink]


def counting_automaton(modulus: int, symbols: Sequence[int] = (0, 1)) -> Automaton:
    """Counts modulo a number: parity for 2.

    Args:
        modulus: number of states; the output is the count.
        symbols: by how much each symbol counts.
    """
    rows = tuple(tuple((state + step) % modulus for step in symbols) for state in range(modulus))
    return Automaton(rows, tuple(range(modulus)))


def random_automaton(
    states: int, symbols: int = 2, *, outputs: int = 2, generator: torch.Generator | None = None
) -> Automaton:
    """An automaton drawn uniformly among those of which no state can be spared.

    Args:
        states: in the minimal automaton.
        symbols: size of the alphabet.
        outputs: how many different ones there may be.
        generator: source of the draws; torch's own by default.

    Raises:
        DataError: a number below 1, or no such automaton (several states need two symbols' worth of outputs).
    """
    if min(states, symbols, outputs) < 1 or (outputs == 1 and states > 1):
        raise DataError("states, symbols and outputs must be at least 1, and outputs 2 where there are several states")
    while True:
        rows = torch.randint(states, (states, symbols), generator=generator).tolist()
        said = torch.randint(outputs, (states,), generator=generator).tolist()
        drawn = Automaton(tuple(map(tuple, rows)), tuple(said))
        if drawn.minimal().states == states:
            return drawn.reachable()
