"""A recurrent network with all the stacks that it could have at once (DuSell and Chiang, 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from neurarium.models.memory._memory_rnn import Cell, MemoryRNN


@dataclass(frozen=True)
class Stacks:
    """The runs of a weighted pushdown automaton, by when their topmost symbol was pushed on what.

    Args:
        runs: [batch, from, to, state, symbol, state, symbol]: weight of all runs from a state over a symbol, at one
            time, to a state over a symbol that lies directly on it, at another.
        tops: [batch, time, state, symbol]: share of the runs in a state over a symbol.
    """

    runs: Float[Tensor, "batch start now q x r y"]
    tops: Float[Tensor, "batch now r y"]


class NondeterministicStackRNN(MemoryRNN):
    """Gives weights to all transitions of a pushdown automaton, and reads the mean top of the stack over its runs.

    Runs that share a suffix are summed together (Lang, 1974), which costs O(Q^4 S^3 T^2) at step T. Weights are a
    softmax over all transitions, and at each step they are scaled so that the runs' shares sum to one: the same
    reading, without the underflow of the products. A bottom symbol (0) cannot be popped.

    Args:
        input_size: features of an input.
        output_size: outputs per step.
        hidden_size: units of the cell.
        states: of the automaton.
        symbols: of the stack.
        cell: "rnn" (tanh) or "lstm".

    Raises:
        ValueError: a size below 1 or an unknown cell.
    """

    action_names = ("push", "replace", "pop")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 64,
        states: int = 2,
        symbols: int = 3,
        cell: Cell = "rnn",
    ) -> None:
        pairs = states * symbols
        super().__init__(input_size, output_size, hidden_size, cell, symbols, 2 * pairs**2 + pairs * states)
        self.states = states
        self.symbols = symbols

    def blank(self, x: Tensor) -> Stacks:
        """One run: the first state over the bottom symbol."""
        q, s = self.states, self.symbols
        runs = self.head.weight.new_zeros(len(x), 1, 2, q, s, q, s)
        runs[:, 0, 1, 0, 0, 0, 0] = 1.0
        tops = self.head.weight.new_zeros(len(x), 2, q, s)
        tops[:, :, 0, 0] = 1.0
        return Stacks(runs, tops)

    def read(self, memory: Stacks) -> Tensor:
        """Shares of the symbols on top."""
        return memory.tops[:, -1].sum(1)

    def act(self, memory: Stacks, control: Tensor, hidden: Tensor) -> tuple[Stacks, Tensor]:
        """The runs a step longer, and how much weight pushes, replacements and pops have."""
        q, s = self.states, self.symbols
        weights = control.softmax(1)
        push, replace, pop = weights.split([(q * s) ** 2, (q * s) ** 2, q * s * q], 1)
        shares = torch.stack([push.sum(1), replace.sum(1), pop.sum(1)], 1)[:, None]
        matrix = (len(control), q, s, q, s)
        grown = update_stacks(memory, push.view(matrix), replace.view(matrix), pop.view(len(control), q, s, q))
        return grown, shares


def update_stacks(
    stacks: Stacks,
    push: Float[Tensor, "batch q x r y"],
    replace: Float[Tensor, "batch q x r y"],
    pop: Float[Tensor, "batch q x r"],
) -> Stacks:
    """All runs after one more transition.

    Args:
        stacks: the runs so far.
        push: weight of putting y on x, on the way from state q to r.
        replace: of putting y in the place of x.
        pop: of taking x away.
    """
    runs, tops = stacks.runs, stacks.tops
    last = runs[:, :, -1]  # runs that end now, by their start
    replaced = torch.einsum("biqxsz,bszry->biqxry", last, replace)
    # a symbol pushed at time k comes off, and the run goes on with what lay below it since then
    taken = torch.einsum("bkuysz,bszr->bkuyr", last[:, 1:], pop)
    popped = torch.einsum("bikqxuy,bkuyr->biqxry", runs[:, :, 1 : 1 + taken.shape[1]], taken)
    new = torch.cat([replaced + popped, push[:, None]], 1)
    top = torch.einsum("biqx,biqxry->bry", tops, new)
    scale = 1 / top.sum((1, 2), keepdim=True).clamp_min(torch.finfo(top.dtype).tiny)
    new = new * scale[:, :, :, None, None, None]
    grown = pad(runs, (0,) * 10 + (0, 1))  # no run starts now and ended before
    return Stacks(torch.cat([grown, new[:, :, None]], 2), torch.cat([tops, (top * scale)[:, None]], 1))
