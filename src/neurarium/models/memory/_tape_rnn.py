"""A recurrent network with a differentiable tape (Delétang et al., 2022)."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.models.memory._memory_rnn import Cell, MemoryRNN


class TapeRNN(MemoryRNN):
    """Writes under its head, then stays, moves by one cell or jumps by the length of the word, either way.

    The tape is a ring, the head is always at cell 0 and the tape moves under it, as a mixture of five turns in
    proportion to a softmax. How long the word is, is read off the input: its last channel marks the blanks after it.

    Args:
        input_size: features of an input, the last of which is 1 for a blank and 0 for a symbol.
        output_size: outputs per step.
        hidden_size: units of the cell.
        cell_size: features of a tape's cell.
        memory_size: cells: "double" for two more than twice the word, "word" for as many as the word has symbols, so
            that the head is back at the start when it has been read, or a number.
        write_sizes: hidden layers of the network that says what is written.
        cell: "rnn" (tanh) or "lstm".

    Raises:
        ValueError: a size below 1 or an unknown cell; in the forward pass, a word that is longer than the tape.
    """

    action_names = ("stay", "right", "left", "jump right", "jump left")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 256,
        cell_size: int = 8,
        memory_size: int | Literal["double", "word"] = "double",
        write_sizes: tuple[int, ...] = (64, 64),
        cell: Cell = "rnn",
    ) -> None:
        super().__init__(input_size, output_size, hidden_size, cell, cell_size, 5)
        if memory_size not in ("double", "word") and not (isinstance(memory_size, int) and memory_size > 0):
            raise ValueError(f"memory_size must be 'double', 'word' or a number of at least 1, not {memory_size!r}")
        self.cell_size = cell_size
        self.memory_size = memory_size
        sizes = (hidden_size, *write_sizes)
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        self.write = nn.Sequential(*layers, nn.Linear(sizes[-1], cell_size))

    def blank(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """An empty tape, and for each of the five turns where each of its cells comes from."""
        word = int((x[..., -1] < 0.5).sum(1).max())
        sizes = {"double": 2 * word + 2, "word": max(word, 1)}
        size = self.memory_size if isinstance(self.memory_size, int) else sizes[self.memory_size]
        if word > size:
            raise ValueError(f"the tape has {size} cells, but a word of {word} symbols; give a greater memory_size")
        cells = torch.arange(size, device=x.device)
        turns = torch.stack([(cells + head) % size for head in (0, 1, -1, word, -word)])
        return self.head.weight.new_zeros(len(x), size, self.cell_size), turns

    def read(self, memory: tuple[Tensor, Tensor]) -> Tensor:
        """The cell under the head."""
        return memory[0][:, 0]

    def act(
        self, memory: tuple[Tensor, Tensor], control: Tensor, hidden: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The tape and the actions."""
        actions = control.softmax(1)
        tape, turns = memory
        return (update_tape(tape, turns, actions, self.write(hidden)), turns), actions[:, None]


def update_tape(
    tape: Float[Tensor, "batch cells cell"],
    turns: Tensor,
    actions: Float[Tensor, "batch turns"],
    value: Float[Tensor, "batch cell"],
) -> Float[Tensor, "batch cells cell"]:
    """A tape on which cell 0 is overwritten, turned by a mixture of turns.

    Args:
        tape: cells, the head at the first.
        turns: for every turn, where each cell comes from [turns, cells].
        actions: shares of the turns.
        value: what is written.
    """
    written = torch.cat([value.to(tape.dtype)[:, None], tape[:, 1:]], 1)
    return torch.einsum("bk,bkmc->bmc", actions.to(tape.dtype), written[:, turns])
