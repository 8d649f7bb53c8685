"""A transformer compiled from a Turing machine (Pérez et al., 2019), one decoder vector per step.

A vector says the state, the symbol under the head and the last move. For the next one the network needs the rule
(a feed-forward layer), the cell of the head (the mean of all moves so far), and the symbol there: what was written when
that cell was last visited (attention to the position of the same cell, of several to the latest), or else the word's.

The stream of position i has, one after another: state, symbol and last move; positions 1, i+1, 1/(i+1), 1/(i+1)^2; then
what the layers find: next state, symbol written, move; the symbol that cell i+1 had at the start; the mean of the
moves and of the moves before; and the next symbol. All weights are whole numbers, so that the same matrices compute in
floating point and, exactly, in rationals.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import HardAttention
from neurarium.theory.computation._decoders import ExactDecoder, FloatingDecoder
from neurarium.theory.computation._turing_machine import Trace, TuringMachine


class TuringTransformer(nn.Module):
    """Runs a machine, one forward step of the decoder per step of the machine; made by `compile_transformer`.

    Args:
        machine: complete, with moves of -1 and 1.
        positions: False puts the first position's features everywhere: the network without positional encodings.
    """

    def __init__(self, machine: TuringMachine, positions: bool = True) -> None:
        super().__init__()
        self.machine = machine
        self.positions = positions
        self.states, self.symbols = machine.states, machine.symbols
        q, s = len(self.states), len(self.symbols)
        sizes = {
            "state": q, "symbol": s, "last": 1, "one": 1, "next": 1, "rate": 1, "square": 1,  # input and positions
            "word": s, "place": 1, "new": q, "written": s, "move": 1, "initial": s,  # layer 1
            "cell": 1, "here": 1,  # layer 2: the means of the moves, and of the moves before
            "kept": s, "visited": 1, "given": s, "read": s,  # layer 3
        }  # fmt: skip
        starts = list(itertools.accumulate(sizes.values(), initial=0))
        self.slots = {name: slice(a, a + n) for (name, n), a in zip(sizes.items(), starts, strict=False)}
        self.width = starts[-1]
        for name, weight in self._weights().items():
            self.register_buffer(name, torch.from_numpy(weight).double())
        self.attention = HardAttention("negative-abs")

    def _weights(self) -> dict[str, np.ndarray]:
        """All matrices, as whole numbers."""
        at, s = self.slots, len(self.symbols)

        def matrix(rows: int, *entries: tuple[int, int, int]) -> np.ndarray:
            filled = np.zeros((rows, self.width), np.int64)
            for row, column, value in entries:
                filled[row, column] += value
            return filled

        def pick(*names: str) -> np.ndarray:
            return np.eye(self.width, dtype=np.int64)[np.concatenate([np.r_[at[name]] for name in names])]

        def put(*names: str) -> np.ndarray:
            return pick(*names).T.copy()

        one, following, rate, square = (at[n].start for n in ("one", "next", "rate", "square"))
        live = [state for state in self.states if state not in self.machine.halting]
        pairs = [(state, symbol) for state in live for symbol in self.symbols]
        hidden = len(pairs) + s + 1
        first = np.zeros((hidden, self.width), np.int64)
        back = np.zeros((self.width, hidden), np.int64)
        for unit, (state, symbol) in enumerate(pairs):  # u = sigma(state + symbol - 1), and what the rule says
            to, written, move = self.machine.table[state, symbol]
            first[unit, at["state"].start + self.states.index(state)] = 1
            first[unit, at["symbol"].start + self.symbols.index(symbol)] = 1
            first[unit, one] = -1
            back[at["new"].start + self.states.index(to), unit] = 1
            back[at["written"].start + self.symbols.index(written), unit] = 1
            back[at["move"].start, unit] = move
        beyond = {one: 1, following: 1, at["place"].start: -1}  # i + 2 - t*: 0 within the word
        for content in range(s + 1):  # the word's symbol within it, the blank beyond
            unit, past = len(pairs) + content, content == s
            for column, value in beyond.items():
                first[unit, column] = value if past else -value
            if not past:
                first[unit, at["word"].start + content] = 1
            back[at["initial"].start + (0 if past else content), unit] = 1
        choose = np.zeros((3 * s, self.width), np.int64)
        chosen = np.zeros((self.width, 3 * s), np.int64)
        since = {following: 1, at["visited"].start: -1}  # i - j*: 0 on a first visit
        for content in range(s):  # sigma(given - (i - j*)) + kept - sigma(kept - (i - j*))
            for block, name in enumerate(("given", "kept", "kept")):
                unit = block * s + content
                choose[unit, at[name].start + content] = 1
                if block != 1:
                    for column, value in since.items():
                        choose[unit, column] = -value
                chosen[at["read"].start + content, unit] = -1 if block == 2 else 1
        cell, here = at["cell"].start, at["here"].start
        return {
            "cross_query": matrix(2, (0, following, 1), (0, one, 1), (1, one, -1)),  # (i + 2, -1) for keys (1, t)
            "cross_put": put("word", "place"),
            "rule_in": first,
            "rule_out": back,
            "mean_value": pick("move", "last"),
            "mean_put": put("cell", "here"),
            "visit_query": matrix(3, (0, cell, 3), (1, rate, 3), (2, square, 1)),
            "visit_key": matrix(3, (0, rate, 1), (1, here, -1), (2, rate, 1)),
            "visit_value": pick("written", "next"),
            "visit_put": put("kept", "visited"),
            "given_query": matrix(2, (0, cell, 1), (1, rate, -1)),
            "given_key": matrix(2, (0, one, 1), (1, following, 1)),
            "given_value": pick("initial"),
            "given_put": put("given"),
            "select_in": choose,
            "select_out": chosen,
            "output": pick("new", "read", "move"),
        }

    @property
    def parameter_count(self) -> int:
        """Weights that are not zero; the same for every word and time."""
        return int(sum((weight != 0).sum() for weight in self.buffers()))

    def features(self, place: int) -> tuple[int, int, int]:
        """Position's features over one denominator n^2: (n^3, n, 1) for n = place + 1; and 1, which is n^2 over it."""
        n = place + 1 if self.positions else 1
        return n**3, n, 1

    def run(
        self,
        word: Iterable[str],
        max_steps: int = 10_000,
        *,
        exact: bool = False,
        dtype: torch.dtype = torch.float64,
        check_precision: bool = True,
    ) -> Trace:
        """Run the network on a word.

        Args:
            word: as for the machine.
            max_steps: after which it is stopped.
            exact: compute in rationals.
            dtype: of the floating-point path.
            check_precision: refuse more steps than `safe_steps` vouches for.

        Raises:
            ValueError: ``max_steps`` is more than the precision vouches for, or as for the machine's `run`.
        """
        cells = self.machine.cells(word)
        if not exact and check_precision and max_steps > safe_steps(dtype):
            raise ValueError(
                f"{dtype} vouches for {safe_steps(dtype)} steps, not {max_steps}; use a wider type or exact=True"
            )
        decoder = ExactDecoder(self, cells) if exact else FloatingDecoder(self, cells, dtype)
        q, s = len(self.states), len(self.symbols)
        y = np.zeros(q + s + 1, np.int64)
        y[self.states.index(self.machine.start)] = 1
        y[q + self.symbols.index(cells[0])] = 1
        moves: list[int] = []
        states, symbols, heads = [self.machine.start], [cells[0]], [0]
        tape = dict(enumerate(cells))
        while states[-1] not in self.machine.halting and len(moves) < max_steps:
            y, written = decoder.step(y)
            tape[heads[-1]] = self.symbols[int(written.argmax())]
            moves.append(1 if y[-1] > 0 else -1)
            heads.append(heads[-1] + moves[-1])
            states.append(self.states[int(y[:q].argmax())])
            symbols.append(self.symbols[int(y[q : q + s].argmax())])
            if heads[-1] < 0:
                raise ValueError(f"the head leaves the tape at step {len(moves)}; give the machine an offset")
        parts = tuple(states), tuple(symbols), tuple(heads), tuple(moves)
        return Trace(*parts, tape, states[-1] in self.machine.halting, states[-1] in self.machine.accept)

    def encode(self, trace: Trace) -> Float[Tensor, "steps inputs"]:
        """A run's vectors, one per moment: state and symbol one-hot, and the last move.

        Args:
            trace: of the network's ``machine``, or of `run`.
        """
        states = torch.tensor([self.states.index(state) for state in trace.states])
        symbols = torch.tensor([self.symbols.index(symbol) for symbol in trace.symbols])
        last = torch.tensor([0, *trace.moves])
        parts = nn.functional.one_hot(states, len(self.states)), nn.functional.one_hot(symbols, len(self.symbols))
        return torch.cat([*parts, last[:, None]], 1).to(self.get_buffer("output"))

    def first_error(self, word: Iterable[str], trace: Trace, dtype: torch.dtype = torch.float64) -> int | None:
        """The first step of a machine's run that the network does not follow; None if it follows all.

        Up to it the network's own vectors are the machine's, so that it is shown these; it stops there.

        Args:
            word: as for the machine.
            trace: the machine's run on it.
            dtype: of the floating-point path.
        """
        decoder = FloatingDecoder(self, self.machine.cells(word), dtype)
        vectors = self.encode(trace).cpu().numpy()
        for step, (given, expected) in enumerate(itertools.pairwise(vectors), start=1):
            if not np.array_equal(decoder.step(given)[0], expected):
                return step
        return None

    def forward(
        self, y: Float[Tensor, "steps inputs"], word: Float[Tensor, "length symbols"]
    ) -> Float[Tensor, "steps inputs"]:
        """All next vectors at once, from the vectors of a run: what `run` computes step by step.

        Args:
            y: state and symbol one-hot and the last move, per step.
            word: the encoder's symbols, one-hot.
        """
        stream, keys, values = self.embed(y, word)
        causal = torch.ones(len(y), len(y), dtype=torch.bool, device=y.device).tril()
        stream = self.first_layer(stream, keys, values)
        moves = stream @ self.weight("mean_value", stream).T
        mean = (moves.cumsum(0) / torch.arange(1, len(y) + 1, device=y.device, dtype=y.dtype)[:, None]).to(stream)
        stream = stream + mean @ self.weight("mean_put", stream).T
        for name in ("visit", "given"):
            query, key, value = (stream @ self.weight(f"{name}_{part}", stream).T for part in ("query", "key", "value"))
            stream = stream + self.attention(query, key, value, causal) @ self.weight(f"{name}_put", stream).T
        return self.last_layer(stream)

    def embed(self, y: Tensor, word: Tensor, first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """The streams of some positions, and the encoder's keys and values."""
        places = torch.arange(first + 1, first + 1 + len(y), device=y.device, dtype=y.dtype)
        numbers = torch.arange(1, len(word) + 1, device=y.device, dtype=y.dtype)
        if not self.positions:
            places, numbers = torch.ones_like(places), torch.ones_like(numbers)
        position = torch.stack([torch.ones_like(places), places, 1 / places, 1 / places**2], 1)
        rest = y.new_zeros(len(y), self.width - y.shape[1] - 4)
        keys = torch.stack([torch.ones_like(numbers), numbers], 1)
        return torch.cat([y, position, rest], 1), keys, torch.cat([word.to(y), numbers[:, None]], 1)

    def first_layer(self, stream: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Cross-attention to the word, and the machine's rules."""
        found = self.attention(stream @ self.weight("cross_query", stream).T, keys, values)
        stream = stream + found @ self.weight("cross_put", stream).T
        return stream + self.feed("rule", stream)

    def last_layer(self, stream: Tensor) -> Tensor:
        """The choice of the next symbol, and the output."""
        stream = stream + self.feed("select", stream)
        return stream @ self.weight("output", stream).T

    def feed(self, name: str, stream: Tensor) -> Tensor:
        """A feed-forward network with saturated linear units."""
        hidden = (stream @ self.weight(f"{name}_in", stream).T).clamp(0, 1)
        return hidden @ self.weight(f"{name}_out", stream).T

    def weight(self, name: str, like: Tensor) -> Tensor:
        """A matrix in the precision of a stream."""
        return self.get_buffer(name).to(like.dtype)


def compile_transformer(
    machine: TuringMachine, *, split_stay: bool = False, positions: bool = True
) -> TuringTransformer:
    """A transformer that runs a machine step for step.

    Its ``machine`` is the given one with rules for all pairs of state and symbol.

    Args:
        machine: what it is to run.
        split_stay: turn stays into a move and one back; else they are refused.
        positions: False leaves the positional encodings out, to see what becomes of it.

    Raises:
        ValueError: the machine has stays and ``split_stay`` is False.
    """
    if any(rule[-1] == 0 for rule in machine.rules):
        if not split_stay:
            raise ValueError("the machine has moves of 0; give split_stay=True to turn each into two moves")
        machine = machine.without_stays()
    return TuringTransformer(machine.completed(), positions)


def safe_steps(dtype: torch.dtype) -> int:
    """Steps up to which rounding in a floating-point type cannot change where the network looks.

    The scores of two visits at steps j and j' of a cell differ by 1 / (i+1)^2 (1 / (j+1) - 1 / (j'+1)), at least
    1 / (i+1)^4; each is a difference of numbers of up to 3 / (j+1), off by no more than a few roundings of these.
    """
    return int((1 / (8 * torch.finfo(dtype).eps)) ** (1 / 3))
