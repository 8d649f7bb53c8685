"""A recurrent network beside a memory that it reads from and acts on at every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

Cell = Literal["rnn", "lstm"]


class MemoryTrace(NamedTuple):
    """What happened while a sequence was read.

    Args:
        outputs: the network's answers at every step.
        actions: probabilities of what was done to the memory at every step, named by the model's ``action_names``.
        states: the hidden state after every step.
    """

    outputs: Float[Tensor, "batch steps outputs"]
    actions: Float[Tensor, "batch steps memories actions"]
    states: Float[Tensor, "batch steps hidden"]


class MemoryRNN(nn.Module, ABC):
    """Base: at each step the cell sees the input and what the memory shows, then acts on the memory.

    The answer is a linear map of the rectified state. A subclass says what its memory is by `blank`, `read` and `act`.

    Args:
        input_size: features of an input.
        output_size: outputs per step.
        hidden_size: units of the cell.
        cell: "rnn" (tanh) or "lstm".
        read_size: features that the memory shows.
        control_size: features by which the state acts on the memory.

    Raises:
        ValueError: a size below 1 or an unknown cell.
    """

    action_names: tuple[str, ...]
    """What the last dimension of the actions stands for."""

    def __init__(
        self, input_size: int, output_size: int, hidden_size: int, cell: Cell, read_size: int, control_size: int
    ) -> None:
        super().__init__()
        if min(input_size, output_size, hidden_size, read_size, control_size) < 1:
            raise ValueError("all sizes must be at least 1")
        if cell not in ("rnn", "lstm"):
            raise ValueError(f"cell must be 'rnn' or 'lstm', not {cell!r}")
        self.hidden_size = hidden_size
        self.cell: Cell = cell
        gates = (4 if cell == "lstm" else 1) * hidden_size
        self.inputs = nn.Linear(input_size, gates)
        self.recurrent = nn.Linear(read_size + hidden_size, gates, bias=False)
        self.control = nn.Linear(hidden_size, control_size)
        self.head = nn.Linear(hidden_size, output_size)

    @abstractmethod
    def blank(self, x: Float[Tensor, "batch steps features"]) -> Any:
        """The memory before the first step."""

    @abstractmethod
    def read(self, memory: Any) -> Float[Tensor, "batch read"]:
        """What the memory shows."""

    @abstractmethod
    def act(self, memory: Any, control: Float[Tensor, "batch control"], hidden: Tensor) -> tuple[Any, Tensor]:
        """The memory after a step, and the probabilities of the actions [batch, memories, actions]."""

    def step(self, driven: Tensor, hidden: Tensor, carry: Tensor, memory: Any) -> tuple[Tensor, Tensor, Any, Tensor]:
        """One step.

        Args:
            driven: the input as ``inputs`` maps it [batch, gates].
            hidden: the state [batch, hidden].
            carry: the cell state of an LSTM [batch, hidden].
            memory: as `blank` gives it.

        Returns:
            State, cell state, memory, and actions.
        """
        gates = driven + self.recurrent(torch.cat([self.read(memory), hidden], 1))
        if self.cell == "lstm":
            i, f, g, o = gates.chunk(4, 1)
            carry = f.sigmoid() * carry + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * carry.tanh()
        else:
            hidden = gates.tanh()
        memory, actions = self.act(memory, self.control(hidden), hidden)
        return hidden, carry, memory, actions

    def trace(self, x: Float[Tensor, "batch steps features"]) -> MemoryTrace:
        """Read sequences and keep what was done at every step.

        Raises:
            ValueError: ``x`` is not [batch, steps, features] with a step or more.
        """
        if x.dim() != 3 or x.shape[1] < 1:
            raise ValueError(f"x must be [batch, steps, features] with at least one step, not {tuple(x.shape)}")
        driven = self.inputs(x)
        hidden = carry = driven.new_zeros(len(x), self.hidden_size)
        memory = self.blank(x)
        states, actions = [], []
        for now in driven.unbind(1):
            hidden, carry, memory, acted = self.step(now, hidden, carry, memory)
            states.append(hidden)
            actions.append(acted)
        kept = torch.stack(states, 1)
        return MemoryTrace(self.head(kept.relu()), torch.stack(actions, 1), kept)

    def forward(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch steps outputs"]:
        """Answers at every step."""
        return self.trace(x).outputs
