"""Transformers and Neural GPUs run any Turing machine, on a fixed set of weights; without places they cannot.

Pérez, Marinković and Barceló prove it by construction: a transformer with hard attention and positional encodings, and
a convolutional gated recurrence (Neural GPU), each simulate every machine in their internal vectors alone. Without
positional encodings a transformer cannot tell a word from the same word said twice, nor can a Neural GPU on a ring.
There are no experiments in the paper.

Small: our compilers turn a machine into weights, and the networks run. Six known machines on 12 words each of up to 12
symbols (half of them in the language, its truth computed in Python) and the busy beaver of four states, and 60 random
machines per seed (2 to 8 states, 2 or 3 symbols besides the mark at the left end; up to 400 steps). ``trace_match`` is
the share of steps with the machine's state, symbol and move, ``answers_correct`` that of words answered as they should
be. Arms: the transformer in float64 and in rationals, the Neural GPU, Siegelmann and Sontag's stacks in one number
(rationals), which the paper's proof for the Neural GPU goes through and ours does not. ``parameters`` counts weights
that are not 0: they are fixed when the network is compiled, whatever the word and the time.

``no-position`` is the same transformer with the first position's features everywhere, ``ring`` a convolutional gated
recurrence on a circle, with random weights. ``same_twice`` is the share of words w of 1 to 6 symbols on which the
network does exactly the same as on ww; ``softmax_same_twice`` says so of torch's own transformer with random weights.

``precision`` runs a machine that walks to and fro over an ever longer stretch, flipping its digits, in four
floating-point types, and finds the first step that goes wrong (``first_error_...``; one more than the run's steps
where none does), beside the number of steps that `safe_steps` vouches for. Nothing is trained or tuned.

Paper: more and longer of the same, the long run of 100,000 steps.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.lab import Arm, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, value
from neurarium.lab.claims import Predicate
from neurarium.studies.theory._said_twice import Repetition, repeat
from neurarium.studies.theory._turing_words import LANGUAGES, TO_AND_FRO, words
from neurarium.theory import (
    Trace,
    TuringMachine,
    TuringTransformer,
    compile_neural_gpu,
    compile_stack_rnn,
    compile_transformer,
    machines,
    random_machine,
    safe_steps,
)

LOW = ("bfloat16", "float16", "float32")  # types that go wrong within the run
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Simulation:
    """A compiler, and what its networks are run on."""

    network: Literal["transformer", "neural-gpu", "stack-rnn"] = "transformer"
    exact: bool = False
    words: int = 12  # per machine
    longest: int = 12
    sizes: tuple[int, ...] = (2, 4, 6, 8)  # states of random machines
    symbols: tuple[int, ...] = (2, 3)
    draws: int = 8  # random machines of a size; 60 or so in all
    steps: int = 400
    film: int = 90  # steps of the busy beaver that are shown


@dataclass(frozen=True)
class Endurance:
    """How long the run is in each type."""

    steps: int = 5_000


def simulate(settings: Simulation, run: Run) -> Metrics:
    """Runs of compiled networks beside those of the machines."""
    generator = torch.Generator().manual_seed(run.seed)
    matches: list[float] = []
    correct: list[bool] = []
    counts: list[int] = []
    steps = 0
    for name in run.track(LANGUAGES, "known machines"):
        network = compiled(machines[name], settings)
        for word in itertools.islice(words(name, settings.longest, generator), settings.words):
            expected, found = network.machine.run(word), execute(network, word, 10_000, settings)
            matches.append(match(found, expected))
            correct.append(LANGUAGES[name](word, found))
            steps += expected.steps
    beaver = compiled(machines["busy-beaver"], settings)
    matches.append(match(execute(beaver, "0", 200, settings), beaver.machine.run("0")))
    for states, symbols in run.track(list(itertools.product(settings.sizes, settings.symbols)), "sizes"):
        for _ in range(settings.draws):
            machine = random_machine(states, symbols, generator=generator)
            network = compiled(machine, settings)
            length = int(torch.randint(4, settings.longest + 1, (), generator=generator))
            mark_and_digits = [">", *map(str, torch.randint(symbols, (length,), generator=generator).tolist())]
            expected = machine.run(mark_and_digits, settings.steps)
            matches.append(match(execute(network, mark_and_digits, settings.steps, settings), expected))
            steps += expected.steps
            counts.append(parameters(network))
            run.record(pairs=len(machine.states) * len(machine.symbols), parameters=counts[-1])
    pictures(beaver, settings, run)
    return {
        "trace_match": statistics.fmean(matches),
        "answers_correct": statistics.fmean(correct),
        "steps": steps,
        "parameters": statistics.fmean(counts),
    }


def compiled(machine: TuringMachine, settings: Simulation) -> Any:
    """A machine's network."""
    makers: dict[str, Callable[[TuringMachine], Any]] = {
        "transformer": compile_transformer, "neural-gpu": compile_neural_gpu, "stack-rnn": compile_stack_rnn,
    }  # fmt: skip
    return makers[settings.network](machine)


def execute(network: Any, word: Any, steps: int, settings: Simulation) -> Trace:
    """A run of the network."""
    found: Trace = (
        network.run(word, steps) if settings.network == "neural-gpu" else network.run(word, steps, exact=settings.exact)
    )
    return found


def match(found: Trace, expected: Trace) -> float:
    """The share of steps with the machine's state, symbol and move; 0 if they are not equally many."""
    if found.steps != expected.steps:
        return 0.0
    both = (list(zip(t.states[1:], t.symbols[1:], t.moves, strict=True)) for t in (found, expected))
    same = [a == b for a, b in zip(*both, strict=True)]
    return statistics.fmean(same)


def parameters(network: nn.Module) -> int:
    """Weights that are not 0."""
    return sum(int((weight != 0).sum()) for weight in (*network.parameters(), *network.buffers()))


def pictures(network: Any, settings: Simulation, run: Run) -> None:
    """The busy beaver's tape over time as the network has it, and where the head for last visits looks."""
    first = network.machine.offset
    for time in range(first, first + settings.film, 2):
        tape = execute(network, "0", time, settings).tape
        for cell in range(first - 10, first + 8):
            run.record(cell=cell - first, time=time - first, symbol=float(tape.get(cell, "0") == "1"))
    if isinstance(network, TuringTransformer) and not settings.exact:
        weights = last_visits(network, settings.film)
        for step, row in enumerate(weights.tolist()):
            for seen, weight in enumerate(row):
                run.record(seen=seen, step=step, weight=weight)


def last_visits(network: TuringTransformer, steps: int) -> Tensor:
    """Attention of every step to the steps before, in the head that looks for the last visit of a cell."""
    caught: list[tuple[Tensor, ...]] = []
    hook = network.attention.register_forward_pre_hook(lambda _, inputs: caught.append(inputs))
    cells = network.machine.cells("0")
    indices = torch.tensor([network.symbols.index(c) for c in cells])
    word = nn.functional.one_hot(indices, len(network.symbols)).double()
    network(network.encode(network.machine.run("0", steps)), word)
    hook.remove()
    query, key, _, mask = caught[1]  # after the one that reads the word
    return network.attention(query, key, torch.eye(len(key)).to(key), mask)


def endure(settings: Endurance, run: Run) -> Metrics:
    """The first step that goes wrong in each floating-point type."""
    digits = torch.randint(2, (4,), generator=torch.Generator().manual_seed(run.seed)).tolist()
    word = [">", *map(str, digits)]
    network = compile_transformer(TO_AND_FRO)
    expected = network.machine.run(word, settings.steps)
    metrics: dict[str, float] = {}
    for name, dtype in run.track(DTYPES.items(), "types"):
        found = network.first_error(word, expected, dtype)
        metrics[f"first_error_{name}"] = settings.steps + 1 if found is None else found
        metrics[f"vouched_{name}"] = safe_steps(dtype)
        bits = 1 - round(math.log2(torch.finfo(dtype).eps))
        if found is not None:
            run.record(bits=bits, at=found, what="first wrong step")
        run.record(bits=bits, at=safe_steps(dtype), what="steps vouched for")
    return metrics


def exactly(arm: str) -> Predicate:
    """All steps as the machine's, all answers right."""
    return all_of(value("trace_match", arm) > 0.9999, value("answers_correct", arm) > 0.9999)


SIMULATIONS = {
    "transformer": Simulation(),
    "transformer-exact": Simulation(exact=True),
    "neural-gpu": Simulation("neural-gpu"),
    "stack-rnn": Simulation("stack-rnn", exact=True),
}
REPETITIONS: tuple[Literal["positions", "no-position", "zero-padded", "ring"], ...] = (
    "positions", "no-position", "zero-padded", "ring",
)  # fmt: skip

STUDY = Study(
    paper=Paper(
        "On the Turing Completeness of Modern Neural Network Architectures", "Pérez et al.", 2019, "1901.03429"
    ),
    trial=None,
    arms={
        **{name: Arm(simulate, settings) for name, settings in SIMULATIONS.items()},
        **{name: Arm(repeat, Repetition(name)) for name in REPETITIONS},
        "precision": Arm(endure, Endurance()),
    },
    scales={
        "smoke": {
            Simulation: {"words": 2, "longest": 4, "sizes": (2,), "symbols": (2,), "draws": 1, "steps": 20, "film": 20},
            Repetition: {"words": 4, "steps": 20},
            Endurance: {"steps": 60},
        },
        "small": {},
        "paper": {
            Simulation: {"words": 100, "longest": 30, "draws": 100, "steps": 2_000},
            Repetition: {"words": 200, "longest": 20},
            Endurance: {"steps": 100_000},
        },
    },
    claims=[
        Claim(
            "transformers run any Turing machine, step for step, on weights that do not grow with word or time",
            "section 3, theorem", all_of(exactly("transformer"), exactly("transformer-exact")),
        ),
        Claim("so does the Neural GPU, a convolutional gated recurrence", "section 4, theorem", exactly("neural-gpu")),
        Claim(
            "without positional encodings no transformer can: it does the same on a word and on the word said twice",
            "section 3, on positional encodings",
            all_of(
                value("same_twice", "no-position") > 0.9999,
                value("softmax_same_twice", "no-position") > 0.9999,
                value("even_length_correct", "no-position") < 0.76,
                value("even_length_correct", "positions") > 0.9999,
            ),
        ),
        Claim(
            "nor can a Neural GPU on a ring, where one with zeros at its ends can",
            "section 4, on circular convolutions",
            all_of(value("same_twice", "ring") > 0.9999, value("same_twice", "zero-padded") < 0.05),
        ),
        Claim(
            "it takes rational numbers of any precision: fewer bits go wrong sooner",
            "sections 1 and 5",
            all_of(
                value("first_error_float32", "precision") - value("first_error_bfloat16", "precision") > 0,
                value("first_error_float64", "precision") - value("first_error_float32", "precision") > 0,
            ),
        ),
        Claim(
            "up to as many steps as our bound vouches for, no type goes wrong",
            "our addition",
            all_of(*(value(f"first_error_{t}", "precision") - value(f"vouched_{t}", "precision") > 0 for t in LOW)),
        ),
    ],
    figures=[
        Heatmap(
            "The busy beaver's tape, out of the networks' own vectors", x="cell", y="time", value="symbol",
            arms=tuple(SIMULATIONS),
        ),
        Heatmap(
            "Where the transformer looks for what was last written in a cell", x="seen", y="step", value="weight",
            note="Each row is a step; on the diagonal are first visits, which have no earlier one.",
        ),
        Curve("Weights that are not 0, by states times symbols", x="pairs", y="parameters", arms=tuple(SIMULATIONS)),
        Curve(
            "The first wrong step, by bits of the numbers", x="bits", y="at", series="what", log_y=True,
            note="float64 makes no mistake within the 5,000 steps.",
        ),
    ],
    seeds=(3, 8),
)  # fmt: skip
