"""How the components for formal languages and sequences are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium import layers, models, probes, theory
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "CantorStackRNN": lambda w: (theory.compile_stack_rnn(mover()), (w.x(1, 6),)),
    "HardAttention": lambda w: (layers.HardAttention(), (w.x(2, 3), w.x(4, 3, seed=1), w.x(4, 2, seed=2))),
    "NeuralGPU": lambda w: (theory.compile_neural_gpu(mover()), (w.positive(1, 6, 1, 4),)),
    "TuringTransformer": lambda w: (
        theory.compile_transformer(mover()), (w.x(3, 5), one_hot(w.whole(0, 1), 2).to(w.dtype)),
    ),
    "NondeterministicStackRNN": lambda w: (models.NondeterministicStackRNN(4, 3, 6, 2, 2), (w.x(2, 5, 4),)),
    "SequenceEncoder": lambda w: (models.SequenceEncoder(4, 3, 8, 2, 2, positions="relative"), (w.x(2, 5, 4),)),
    "SequenceReadout": lambda w: (
        models.SequenceReadout(nn.RNN(4, 6, batch_first=True), nn.Linear(6, 3)), (w.x(2, 5, 4),),
    ),
    "StackRNN": lambda w: (models.StackRNN(4, 3, 6, 2, 2), (w.x(2, 5, 4),)),
    "TapeRNN": lambda w: (models.TapeRNN(4, 3, 6, 2, write_sizes=(5,)), (w.x(2, 5, 4),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "MergerRecorder": lambda w: recorded(w),
    "alibi_bias": lambda w: layers.alibi_bias(2, 4, device=w.device, dtype=w.dtype),
    "cellular_automaton": lambda w: w.put(theory.cellular_automaton(110))(w.positive(1, 9, 1, 6)),
    "compile_neural_gpu": lambda w: w.put(theory.compile_neural_gpu(mover()))(w.positive(1, 6, 1, 4)),
    "compile_stack_rnn": lambda w: w.put(theory.compile_stack_rnn(mover()))(w.x(1, 6)),
    "compile_transformer": lambda w: w.put(theory.compile_transformer(mover())).get_buffer("output"),
    "duplicating_tape": lambda w: w.put(models.duplicating_tape())(asked(w)),
    "automaton_from_states": lambda w: probes.automaton_from_states(
        [(0,), (1,), (0, 0), (0, 1)], w.x(4, 3), [0, 1, 0, 1], 2
    ).groups,
    "extract_automaton": lambda w: probes.extract_automaton(reader(w), 2, 3).groups,
    "fit_merging": lambda w: theory.fit_merging(torch.arange(5.0), w.positive(5), w.x(2, 2), (1, 1, 1, 1)).scale,
    "length_curve": lambda w: probes.length_curve(
        stack(w), "reverse_string", (1, 3, 5), samples=8, trained=3, generator=seed()
    ),
    "memory_film": lambda w: probes.memory_film(stack(w), asked(w)),
    "merger_history": lambda w: probes.merger_history([w.x(4, 3), w.x(4, 3, seed=1)], w.whole(1, 1, 2, 2)).states,
    "merging_dynamics": lambda w: theory.merging_dynamics((0.1, 0.9), w.x(2, 3), (1, 1, 1, 1), 0.5, 2.0, 5).scale,
    "reversing_stack": lambda w: w.put(models.reversing_stack())(asked(w)),
    "rotate_positions": lambda w: layers.rotate_positions(w.x(2, 5, 4), w.x(5)),
    "sinusoidal_positions": lambda w: layers.sinusoidal_positions(w.x(5), 4),
    "state_map": lambda w: probes.state_map(stack(w), asked(w)).explained,
}  # fmt: skip


def asked(w: World) -> Tensor:
    """Two words of three bits and blanks for the answer."""
    words = torch.tensor([[0, 1, 1, 2, 2, 2], [1, 0, 1, 2, 2, 2]])
    return one_hot(words, 3).to(w.device, w.dtype)


def stack(w: World) -> Any:
    """A network with a stack."""
    return w.new(lambda: models.StackRNN(3, 2, 6, 2))


def mover() -> theory.TuringMachine:
    """A machine that goes to the first 1."""
    return theory.TuringMachine((("q", "0", "q", "0", 1), ("q", "1", "yes", "1", 1)), "q", ("yes",), "0")


def reader(w: World) -> Any:
    """A recurrent network that reads bits."""
    return w.new(lambda: models.SequenceReadout(nn.RNN(2, 5, batch_first=True), nn.Linear(5, 2)))


def recorded(w: World) -> Any:
    """Groups of words after one look."""
    recorder = probes.MergerRecorder(reader(w), 2, 3, 1)
    recorder(1, 0.0)
    return recorder.history().states
