"""A recurrent network with differentiable stacks (Joulin and Mikolov, 2015; Delétang et al., 2022)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from neurarium.models.memory._memory_rnn import Cell, MemoryRNN


class StackRNN(MemoryRNN):
    """Pushes, pops or leaves alone, in proportion to a softmax over the three.

    The stacks are as deep as the sequence is long: they grow by a cell with each step, so that nothing falls off the
    bottom at lengths that training never saw. Below the bottom are zeros.

    Args:
        input_size: features of an input.
        output_size: outputs per step.
        hidden_size: units of the cell.
        cell_size: features of a stack's cell.
        stacks: how many.
        cell: "rnn" (tanh) or "lstm".

    Raises:
        ValueError: a size below 1 or an unknown cell.
    """

    action_names = ("push", "pop", "stay")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 256,
        cell_size: int = 8,
        stacks: int = 1,
        cell: Cell = "rnn",
    ) -> None:
        super().__init__(
            input_size, output_size, hidden_size, cell, stacks * cell_size, stacks * (3 + cell_size)
        )  # fmt: skip
        self.cell_size = cell_size
        self.stacks = stacks

    def blank(self, x: Tensor) -> Float[Tensor, "batch stacks depth cell"]:
        """Stacks of one empty cell."""
        return self.head.weight.new_zeros(len(x), self.stacks, 1, self.cell_size)

    def read(self, memory: Tensor) -> Tensor:
        """The tops."""
        return memory[:, :, 0].flatten(1)

    def act(self, memory: Tensor, control: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The stacks, a cell deeper, and the actions."""
        control = control.unflatten(1, (self.stacks, 3 + self.cell_size))
        actions = control[..., :3].softmax(-1)
        return update_stack(memory, actions, control[..., 3:]), actions


def update_stack(
    stack: Float[Tensor, "*batch depth cell"], actions: Float[Tensor, "*batch 3"], value: Float[Tensor, "*batch cell"]
) -> Float[Tensor, "*batch deeper cell"]:
    """Stacks after a push, a pop or neither, mixed in proportion; a cell deeper than before.

    Args:
        stack: the top cell first.
        actions: shares of push, pop and stay.
        value: what is pushed.
    """
    push, pop, stay = actions[..., None, None].unbind(-3)
    pushed = torch.cat([value.unsqueeze(-2), stack], -2)
    popped = pad(stack[..., 1:, :], (0, 0, 0, 2))
    return torch.addcmul(push * pushed, pop, popped).addcmul(stay, pad(stack, (0, 0, 0, 1)))
