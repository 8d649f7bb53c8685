"""A Neural GPU compiled from a Turing machine: a cell of the state per cell of the tape, a step per step.

Channels of a cell: one per symbol where the head is not, one per pair of state and symbol where it is. All of the next
content is then one saturated sum over the cell and its two neighbours, since there is one head.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import ConvolutionalGRU
from neurarium.theory.computation._turing_machine import Trace, TuringMachine


class NeuralGPU(nn.Module):
    """Runs a machine in a convolutional gated recurrence; made by `compile_neural_gpu`.

    Args:
        machine: complete, with moves of -1 and 1.
        padding_mode: as for `ConvolutionalGRU`.
    """

    def __init__(self, machine: TuringMachine, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.machine = machine
        self.states, self.symbols = machine.states, machine.symbols
        q, s = len(self.states), len(self.symbols)
        self.channels = s + q * s
        self.unit = _still(self.channels, padding_mode)
        candidate = self.unit.candidate
        self._fill(candidate.weight.detach()[:, :, 0], candidate.bias.detach())  # type: ignore[union-attr]

    def pair(self, state: str, symbol: str) -> int:
        """The channel of a head in a state over a symbol."""
        s = len(self.symbols)
        return s + self.states.index(state) * s + self.symbols.index(symbol)

    def _fill(self, weight: Tensor, bias: Tensor) -> None:
        """Taps: 0 the cell to the left, 1 the cell itself, 2 the one to the right."""
        for (state, symbol), (to, written, move) in self.machine.table.items():
            here, tap = self.pair(state, symbol), 1 - move  # a head that moves right comes from the left
            for content in range(len(self.symbols)):
                weight[self.pair(to, self.symbols[content]), here, tap] += 1.0  # it arrives in its new state
                weight[content, here, tap] -= 1.0  # and the cell is no longer without it
            weight[self.symbols.index(written), here, 1] += 1.0
        for content, symbol in enumerate(self.symbols):
            weight[content, content, 1] += 1.0  # a cell without a head keeps its symbol
            for state in self.states:
                channel = self.pair(state, symbol)
                if state in self.machine.halting:
                    weight[channel, channel, 1] += 2.0  # one that halts stays
                weight[channel, content, 1] += 1.0
                bias[channel] = -1.0  # a head and a symbol

    def encode(self, cells: list[str], width: int) -> Float[Tensor, "1 channels 1 width"]:
        """The state for a tape, the head at its start."""
        tape = cells + [self.machine.blank] * (width - len(cells))
        state = self.unit.reset.weight.new_zeros(1, self.channels, 1, width)
        for place, symbol in enumerate(tape[1:], start=1):
            state[0, self.symbols.index(symbol), 0, place] = 1.0
        state[0, self.pair(self.machine.start, tape[0]), 0, 0] = 1.0
        return state

    def forward(self, state: Float[Tensor, "batch channels 1 width"]) -> Float[Tensor, "batch channels 1 width"]:
        """One step of the machine in every row of the batch."""
        return self.unit(state)

    @torch.no_grad()
    def run(self, word: Iterable[str], max_steps: int = 10_000, width: int | None = None) -> Trace:
        """Run on a word.

        Args:
            word: as for the machine.
            max_steps: after which it is stopped.
            width: cells of the state; by default two more than the word, and doubled, the run begun anew, when the
                head goes beyond.

        Raises:
            ValueError: the head leaves the tape on its left, or on its right where a width is given; or as for the
                machine.
        """
        cells = self.machine.cells(word)
        size = max(len(cells) + 2, width or 0)
        while True:
            found = self._run(cells, max_steps, size)
            if found is not None:
                return found
            if width is not None:
                raise ValueError(f"the head needs more than {size} cells; leave width out to have it doubled")
            size *= 2

    def _run(self, cells: list[str], max_steps: int, width: int) -> Trace | None:
        state = self.encode(cells, width)
        s, halting, blank = len(self.symbols), self.machine.halting, self.machine.blank
        moves: list[int] = []
        states, symbols, heads = [self.machine.start], [cells[0]], [0]
        while states[-1] not in halting and len(moves) < max_steps:
            state = self(state)
            channel, place = divmod(int(state[0, s:, 0].argmax()), width)
            if not state[0, s + channel, 0, place]:  # there is no head
                if heads[-1] == 0:
                    raise ValueError(f"the head leaves the tape at step {len(moves) + 1}; give the machine an offset")
                return None
            moves.append(place - heads[-1])
            heads.append(place)
            states.append(self.states[channel // s])
            symbols.append(self.symbols[channel % s])
        content = (state[0, :s, 0] + state[0, s:, 0].unflatten(0, (-1, s)).sum(0)).argmax(0).tolist()
        tape = {place: self.symbols[i] for place, i in enumerate(content) if self.symbols[i] != blank}
        parts = tuple(states), tuple(symbols), tuple(heads), tuple(moves)
        return Trace(*parts, tape, states[-1] in halting, states[-1] in self.machine.accept)


def compile_neural_gpu(machine: TuringMachine, *, split_stay: bool = False, padding_mode: str = "zeros") -> NeuralGPU:
    """A Neural GPU that runs a machine step for step.

    Args:
        machine: what it is to run.
        split_stay: turn stays into a move and one back; else they are refused.
        padding_mode: "zeros" or "circular".

    Raises:
        ValueError: the machine has stays and ``split_stay`` is False.
    """
    if any(rule[-1] == 0 for rule in machine.rules):
        if not split_stay:
            raise ValueError("the machine has moves of 0; give split_stay=True to turn each into two moves")
        machine = machine.without_stays()
    return NeuralGPU(machine.completed(), padding_mode)


def cellular_automaton(rule: int, padding_mode: str = "zeros") -> ConvolutionalGRU:
    """Wolfram's elementary cellular automaton as a convolutional gated recurrence, two steps a generation.

    Channel 0 holds the cells, the other eight, at first 0, which of the neighbourhoods 000 to 111 each cell is in.

    Args:
        rule: 0 to 255; 110 can compute whatever a Turing machine can.
        padding_mode: as for `ConvolutionalGRU`.

    Raises:
        ValueError: another number.
    """
    if not 0 <= rule <= 255:
        raise ValueError(f"rule must be 0 to 255, not {rule}")
    unit = _still(9, padding_mode)
    with torch.no_grad():
        weight, bias = unit.candidate.weight[:, :, 0], unit.candidate.bias
        for pattern in range(8):
            bits = [pattern >> 2 & 1, pattern >> 1 & 1, pattern & 1]
            weight[1 + pattern, 0] = torch.tensor([1.0 if bit else -1.0 for bit in bits])
            bias[1 + pattern] = 1.0 - sum(bits)  # type: ignore[index]
            weight[0, 1 + pattern, 1] = float(rule >> pattern & 1)
    return unit


def _still(channels: int, padding_mode: str) -> ConvolutionalGRU:
    """A unit that makes everything anew, out of weights that are all 0; nothing is drawn."""
    with torch.device("meta"):
        unit = ConvolutionalGRU(channels, (1, 3), padding_mode)  # type: ignore[arg-type]
    unit.to_empty(device="cpu")
    for parameter in unit.parameters():
        parameter.detach().zero_()
    nn.init.ones_(unit.reset.bias)  # type: ignore[arg-type]
    return unit.requires_grad_(False)
