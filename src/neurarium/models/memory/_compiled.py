"""Weights set by hand, with which a memory's network is exact at every length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from neurarium.models.memory._memory_rnn import MemoryRNN
from neurarium.models.memory._stack_rnn import StackRNN
from neurarium.models.memory._tape_rnn import TapeRNN

Memory = TypeVar("Memory", bound=MemoryRNN)
SHARP = 200.0
"""A slope at which tanh and softmax are 0, 1 and -1 exactly, in single precision too."""


def reversing_stack() -> StackRNN:
    """A `StackRNN` that says words of bits backwards (`formal_tasks["reverse_string"]`): push all, then pop all.

    Its units: the bit at hand (read, or on top of the stack) and its opposite, whether the word is being read, and the
    contrary.
    """
    model = _empty(lambda: StackRNN(3, 2, 4, 1))
    with torch.no_grad():
        _bit_and_phase(model)
        model.control.weight[0, 2] = model.control.weight[1, 3] = SHARP  # push while reading, pop at blanks
        model.control.weight[2].fill_(0.0)
        model.control.bias[2] = -SHARP  # never stay
        model.control.weight[3, 0] = 1.0  # push the bit
    return model


def duplicating_tape() -> TapeRNN:
    """A `TapeRNN` that says words of bits twice (`formal_tasks["duplicate_string"]`): write, then read, always right.

    The tape is a ring of the word's length, so that the head comes back to the first symbol when it is needed.
    """
    model = _empty(lambda: TapeRNN(3, 2, 4, 1, "word", ()))
    with torch.no_grad():
        _bit_and_phase(model)
        model.control.bias.fill_(-SHARP)
        model.control.bias[model.action_names.index("right")] = SHARP
        model.write.get_parameter("0.weight")[0, 0] = 1.0  # the bit at hand is written
    return model


def _empty(make: Callable[[], Memory]) -> Memory:
    """All weights 0, without a draw."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.detach().zero_()
    return model.requires_grad_(False)


def _bit_and_phase(model: MemoryRNN) -> None:
    """Units 0 and 1: the bit and its opposite, as 1 and -1; 2 and 3: reading, answering."""
    bit = torch.tensor([-2.0, 2.0, 0.0]) * SHARP  # what is read outweighs the memory's 1 or -1
    model.inputs.weight[0], model.inputs.weight[1] = bit, -bit
    model.recurrent.weight[0, 0], model.recurrent.weight[1, 0] = SHARP, -SHARP
    phase = torch.tensor([1.0, 1.0, -1.0]) * SHARP
    model.inputs.weight[2], model.inputs.weight[3] = phase, -phase
    model.head.weight[1, 0] = model.head.weight[0, 1] = 1.0
