"""A saturated-linear network that runs a Turing machine on two stacks, each held in one number (Siegelmann, Sontag).

The cells left of the head are a stack, and so are those from the head on. A stack of symbols a_1 (on top), a_2, ... is
the number sum (2 a_k + 1) / B^k, B a power of two of at least twice the alphabet: popping and pushing are linear, and
which symbol is on top is seen by saturated units, since numbers with different tops are apart (a Cantor set). A step of
the machine takes three layers: look at the tops, find the rule, choose between the stacks of either move.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.theory.computation._rational import Matrix, Rational
from neurarium.theory.computation._turing_machine import Trace, TuringMachine


class CantorStackRNN(nn.Module):
    """Three saturated layers per step of the machine; made by `compile_stack_rnn`.

    The state is: machine's state one-hot, left stack, right stack, 1, and whether the last move was to the right.

    Args:
        machine: complete, with moves of -1 and 1.
    """

    def __init__(self, machine: TuringMachine) -> None:
        super().__init__()
        self.machine = machine
        self.states, self.symbols = machine.states, machine.symbols
        self.base = 1 << (2 * len(self.symbols) - 1).bit_length()
        self.pairs = [(q, a) for q in self.states if q not in machine.halting for a in self.symbols]
        for name, weight in self._weights().items():
            self.register_buffer(name, torch.from_numpy(weight).double() / self.base**2)

    def _weights(self) -> dict[str, np.ndarray]:
        """The layers times base^2, in which they are whole."""
        q, s, p, b = len(self.states), len(self.symbols), len(self.pairs), self.base
        left, right, one = q, q + 1, q + 2
        whole = b * b
        # layer 1: state, stacks and 1 go on; units of the right top (at least a), then of the left top
        look = np.zeros((q + 3 + 2 * s, q + 4), np.int64)
        look[: q + 3, : q + 3] = np.eye(q + 3, dtype=np.int64) * whole
        for side, column in enumerate((right, left)):
            for a in range(s):
                look[q + 3 + side * s + a, column] = b * whole
                look[q + 3 + side * s + a, one] = -2 * a * whole
        # layer 2: a unit per rule; the stacks, 1 and the tops go on
        top = {right: q + 3, left: q + 3 + s}
        rule = np.zeros((p + 3 + 2 * s, q + 3 + 2 * s), np.int64)
        for unit, (state, symbol) in enumerate(self.pairs):
            a = self.symbols.index(symbol)
            rule[unit, self.states.index(state)] += whole
            rule[unit, top[right] + a] += whole  # at least a, and not more
            if a + 1 < s:
                rule[unit, top[right] + a + 1] -= whole
            if a == 0:  # below the bottom are blanks
                rule[unit, top[right]] -= whole
            else:
                rule[unit, one] -= whole
        for place in range(3 + 2 * s):
            rule[p + place, q + place] = whole
        # layer 3: new state; the stacks of a move to the right, and of one to the left, where it is the rule's
        old = {left: p, right: p + 1, one: p + 2}
        seen = {right: p + 3, left: p + 3 + s}
        choose = np.zeros((q + 6, p + 3 + 2 * s), np.int64)
        rows = {"left after right": q, "left after left": q + 1, "right after right": q + 2, "right after left": q + 3}
        for unit, (state, symbol) in enumerate(self.pairs):
            to, written, move = self.machine.table[state, symbol]
            choose[self.states.index(to), unit] = whole
            digit = 2 * self.symbols.index(written) + 1
            kept = ("left after right", "right after right") if move == 1 else ("left after left", "right after left")
            for name in kept:
                choose[rows[name], unit] += whole  # open
            if move == 1:
                choose[q + 5, unit] = whole
                choose[rows["left after right"], unit] += digit * b  # written symbol goes to the left stack
            else:
                choose[rows["right after left"], unit] += digit  # it is second on the right, below the left top
        for row in rows.values():
            choose[row, old[one]] = -whole  # closed, if no rule opens it
        choose[rows["left after right"], old[left]] += b
        for name, stack, scale in (
            ("left after left", left, whole), ("right after right", right, whole), ("right after left", right, 1)
        ):  # fmt: skip
            choose[rows[name], old[stack]] += scale * b  # popped: B times the stack less the top's digit
            choose[rows[name], seen[stack]] -= scale
            choose[rows[name], seen[stack] + 1 : seen[stack] + s] -= 2 * scale
        choose[rows["right after left"], seen[left]] += b  # the left top goes to the right stack
        choose[rows["right after left"], seen[left] + 1 : seen[left] + s] += 2 * b
        choose[q + 4, old[one]] = whole
        # the two stacks are sums of two units each, which the next step's first layer takes together
        join = np.zeros((q + 4, q + 6), np.int64)
        join[:q, :q] = np.eye(q, dtype=np.int64)
        join[left, q : q + 2] = join[right, q + 2 : q + 4] = join[one, q + 4] = join[one + 1, q + 5] = 1
        return {"look": look, "rule": rule, "choose": choose, "join": join * whole}

    def encode(self, cells: list[str]) -> Rational:
        """The state at the start: an empty left stack, the tape on the right."""
        q, b = len(self.states), self.base
        below, right = 1, 0
        for symbol in reversed(cells):
            right += (2 * self.symbols.index(symbol) + 1) * below
            below *= b
        numerators = np.zeros(q + 4, dtype=object)
        numerators[self.states.index(self.machine.start)] = numerators[q + 2] = below
        numerators[q + 1] = right
        return Rational(numerators, below)

    def forward(self, state: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """One step of the machine, in floating point."""
        for name in ("look", "rule", "choose"):
            state = (state @ self.get_buffer(name).to(state).T).clamp(0, 1)
        return state @ self.get_buffer("join").to(state).T

    def run(
        self, word: Iterable[str], max_steps: int = 10_000, *, exact: bool = True, dtype: torch.dtype = torch.float64
    ) -> Trace:
        """Run on a word.

        In floating point a stack of more than `safe_depth` symbols is rounded, and the run goes wrong sooner or later.

        Args:
            word: as for the machine.
            max_steps: after which it is stopped.
            exact: compute in rationals.
            dtype: of the floating-point path.

        Raises:
            ValueError: the head leaves the tape on its left; or as for the machine.
        """
        cells = self.machine.cells(word)
        q, state = len(self.states), self.encode(cells)
        layers = [Matrix((self.get_buffer(n) * self.base**2).cpu().numpy(), self.base**2) for n in self._names]
        floating = torch.from_numpy(state.floats()).to(self.get_buffer("look").device, dtype)[None]
        moves: list[int] = []
        states, symbols, heads = [self.machine.start], [cells[0]], [0]
        while states[-1] not in self.machine.halting and len(moves) < max_steps:
            if exact:
                for layer in layers[:3]:
                    state = state.apply(layer).saturated()
                state = state.apply(layers[3])
                now, moved = int(np.argmax(state.numerators[:q])), bool(state.numerators[-1])
                digit = int(self.base * state.numerators[q + 1] // state.denominator)
            else:
                floating = self(floating)
                now, moved = int(floating[0, :q].argmax()), float(floating[0, -1]) > 0.5
                digit = int(self.base * float(floating[0, q + 1]))
            moves.append(1 if moved else -1)
            heads.append(heads[-1] + moves[-1])
            if heads[-1] < 0:
                raise ValueError(f"the head leaves the tape at step {len(moves)}; give the machine an offset")
            states.append(self.states[now])
            symbols.append(self._symbol(digit))
        final = state if exact else Rational(*_dyadic(floating[0]))
        tape = dict(enumerate([*reversed(self.decode(final, q)), *self.decode(final, q + 1)]))
        parts = tuple(states), tuple(symbols), tuple(heads), tuple(moves)
        return Trace(*parts, tape, states[-1] in self.machine.halting, states[-1] in self.machine.accept)

    def decode(self, state: Rational, place: int) -> list[str]:
        """The symbols of a stack, the top first."""
        rest, below, found = int(state.numerators[place]), state.denominator, []
        while rest > 0:
            digit, rest = divmod(rest * self.base, below)
            found.append(self._symbol(digit))
        return found

    def _symbol(self, digit: int) -> str:
        return self.symbols[min(max(digit - 1, 0) // 2, len(self.symbols) - 1)]

    _names = ("look", "rule", "choose", "join")

    def safe_depth(self, dtype: torch.dtype = torch.float64) -> int:
        """Symbols of a stack that a floating-point type holds: 26 of two in double precision."""
        return int(-np.log2(torch.finfo(dtype).eps)) // (self.base.bit_length() - 1)


def compile_stack_rnn(machine: TuringMachine, *, split_stay: bool = False) -> CantorStackRNN:
    """A saturated-linear recurrent network that runs a machine, a step in three layers.

    Args:
        machine: what it is to run.
        split_stay: turn stays into a move and one back; else they are refused.

    Raises:
        ValueError: the machine has stays and ``split_stay`` is False.
    """
    if any(rule[-1] == 0 for rule in machine.rules):
        if not split_stay:
            raise ValueError("the machine has moves of 0; give split_stay=True to turn each into two moves")
        machine = machine.without_stays()
    return CantorStackRNN(machine.completed())


def _dyadic(state: Tensor) -> tuple[np.ndarray, int]:
    """Floating-point numbers as fractions over one power of two, exactly."""
    ratios = [float(number).as_integer_ratio() for number in state]
    below = max(ratio[1] for ratio in ratios)
    return np.array([top * (below // under) for top, under in ratios], dtype=object), below
