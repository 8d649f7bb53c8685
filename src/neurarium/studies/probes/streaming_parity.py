"""A recurrent network that learns parity becomes a finite automaton, all at once, and is then right at any length.

Van Rossem and Saxe train an RNN on the parities of all words of up to 10 bits. At some amount of data and time it goes
from fitting them to being right on words of 10,000; during that its hidden states of words that must be treated alike
fall together, and an automaton can be read off them that reduces to the two states of parity. Small initial weights
bring this about, large ones keep words apart. A theory of two representations under one read-out says who merges.

Small: 100 rectifier units, SGD at 0.05 on half the squared error, batches of 128, lengths in order within an epoch; all
words up to 7 bits (``L7``, 450 epochs), 5 (1,000) and 3 (1,500), ``L7-large`` with ten times the initial scale (400),
and ``automaton``, all words up to 7 for a random automaton of 4 states in place of parity, which is in no claim. States
are looked at every 10 epochs (every 20 to 50 where no claim needs it); words are together within a share of 0.03 of the
states' spread (0.01 and 0.1 are reported). Accuracy is that of 50 words each of 25, 1,000 and 10,000 bits. ``L7`` was
tried on seed 100. The motion of three pairs of words that merge is drawn beside the theory's, whose one free number,
the initial scale of the read-out, is fitted.

Paper: words up to 10 bits, 1,000 epochs at 0.02. The transformer on subtraction modulo 96 is left out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.data import Arrays, Automaton, Batches, automaton_task, counting_automaton, random_automaton
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop
from neurarium.models import SequenceReadout
from neurarium.probes import MergerRecorder, extract_automaton
from neurarium.theory import fit_merging
from neurarium.training import evaluation, fit


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    longest: int = 7
    epochs: int = 450
    gain: float = 0.1
    learning_rate: float = 0.05
    hidden: int = 100
    task: Literal["parity", "automaton"] = "parity"
    states: int = 4  # of the random automaton
    every: int = 10  # epochs between two looks
    tolerance: float = 0.03
    lengths: tuple[int, int, int] = (25, 1_000, 10_000)
    words: int = 50
    checked: int = 200  # words of the middle length on which the automaton is compared with the network


def trial(settings: Settings, run: Run) -> Metrics:
    """Accuracy, states and the automaton over a training."""
    generator = torch.Generator().manual_seed(run.seed)
    target = counting_automaton(2)
    if settings.task == "automaton":
        target = random_automaton(settings.states, generator=generator)
    parts = [part.to(run.device) for part in automaton_task(target, settings.longest)]
    cell = nn.RNN(2, settings.hidden, nonlinearity="relu", batch_first=True)
    model = SequenceReadout(cell, nn.Linear(settings.hidden, 2), 1.0, settings.gain, generator=generator).to(run.device)
    rule = Backprop(model, last_error)
    optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate)
    loaders = [Batches(part, 128, shuffle=True, seed=run.seed) for part in parts]
    test = {n: torch.randint(2, (settings.words, n), generator=generator) for n in settings.lengths}
    recorder = MergerRecorder(model, 2, settings.longest, 1)
    middle, curve = settings.lengths[1], []
    recorder.look(0)
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        for loader in loaders:
            fit(rule, loader, optimizer)
        if epoch % settings.every == 0 or epoch == settings.epochs:
            recorder.look(epoch)
            curve.append((epoch, right(model, test[middle], target)))
    history = recorder.history(settings.tolerance)
    total = 2 ** (settings.longest + 1) - 1
    for epoch, states in zip(history.steps, history.states, strict=True):
        run.record(epoch=epoch, states=states / total)
    for epoch, accuracy in curve:
        run.record(epoch=epoch, accuracy_long=accuracy)
    if settings.task == "parity" and settings.gain < 1 and settings.longest >= 5:
        for length, row in enumerate(history.merged_by_length().tolist(), start=1):
            for other, share in enumerate(row, start=1):
                run.record(length=length, other=other, together=share)
        pairs(recorder, history.together, parts, settings, run)
    reached = [right(model, words, target) for words in test.values()]
    return {
        "train_error": sum(error(model, part) * len(part) for part in parts) / sum(map(len, parts)),
        **dict(zip(("accuracy_short", "accuracy_long", "accuracy_longest"), reached, strict=True)),
        "sharpness": sharpness(curve),
        "share_over_peak": history.states[-1] / max(history.states),
        **read(model, target, total, settings, generator),
    }


def read(
    model: nn.Module, target: Automaton, total: int, settings: Settings, generator: torch.Generator
) -> dict[str, float]:
    """The automaton that the network is, at three tolerances."""
    found = {t: extract_automaton(model, 2, settings.longest, t) for t in {0.01, settings.tolerance, 0.1}}
    report = found[settings.tolerance]
    words = torch.randint(2, (settings.checked, settings.lengths[1]), generator=generator)
    agreement = report.agreement(model, words) if report.complete else 0.0
    same = report.complete and report.minimal.counterexample(target) is None
    return {
        "share": report.states / total,
        "share_at_0.01": found[0.01].states / total,
        "share_at_0.1": found[0.1].states / total,
        "complete": float(report.complete),
        "conflicts": float(report.conflicts),
        "minimal_states": float(report.minimal.states),
        "agreement": agreement,
        "automaton_right": float(same and report.minimal.states == target.states and agreement == 1.0),
        "wrong_share": report.wrong_merges / max(report.merged_pairs, 1),
        "merged_pairs": float(report.merged_pairs),
    }


def pairs(recorder: MergerRecorder, together: Tensor, parts: list[Arrays], settings: Settings, run: Run) -> None:
    """Distances of three pairs of words that merge, as measured and as the theory has them."""
    lengths, states = recorder.lengths, torch.stack(recorder.snapshots)
    y = torch.cat([part.y.cpu() for part in parts])
    same = (y[:, None] == y) & together.cpu() & (lengths[:, None] < lengths)
    start = torch.cdist(states[0], states[0])
    candidates = (same & (start > 0)).nonzero()
    chosen = candidates[torch.randperm(len(candidates), generator=torch.Generator().manual_seed(run.seed))[:3]]
    for number, (a, b) in enumerate(chosen.tolist(), start=1):
        distance = (states[:, a] - states[:, b]).norm(dim=1)
        time = torch.tensor(recorder.steps, dtype=torch.float64)
        even = torch.linspace(0, float(time[-1]), len(time), dtype=torch.float64)
        rate = settings.learning_rate
        rates = (rate * float(lengths[a]), rate * float(lengths[b]), rate / 4, rate)
        theory = fit_merging(even, distance, one_hot(y[[a, b]], 2).double(), rates)
        for epoch, measured, expected in zip(time.tolist(), distance.tolist(), theory.distance.tolist(), strict=True):
            run.record(epoch=epoch, distance=measured / float(distance[0]), pair=f"pair {number}")
            run.record(epoch=epoch, distance=expected / float(distance[0]), pair=f"pair {number}, theory")


def last_error(output: Tensor, y: Tensor) -> Tensor:
    """Half the squared error of the last output."""
    return (output[:, -1] - one_hot(y, 2)).square().sum(1).mean() / 2


@torch.no_grad()
def error(model: nn.Module, part: Arrays) -> float:
    """Mean squared error on all words of a length."""
    with evaluation(model):
        return float(2 * last_error(model(part.x), part.y))


@torch.no_grad()
def right(model: SequenceReadout, words: Tensor, target: Automaton) -> float:
    """Share of words whose output is the automaton's."""
    like = next(model.parameters())
    with evaluation(model):
        states = model.states(one_hot(words, 2).to(like.device, like.dtype))[:, -1]
        said = model.head(states).argmax(1).cpu()
    return float((said == target.run_all(words)).double().mean())


def sharpness(curve: list[tuple[int, float]]) -> float:
    """Epochs from the last accuracy below 0.6 to the first above 0.99, over the latter; 1 where it never got there."""
    arrived = next((epoch for epoch, accuracy in curve if accuracy > 0.99), None)
    if arrived is None:
        return 1.0
    before = max((epoch for epoch, accuracy in curve if accuracy < 0.6 and epoch < arrived), default=0)
    return (arrived - before) / arrived


STUDY = Study(
    paper=Paper(
        "Algorithm Development in Neural Networks: Insights from the Streaming Parity Task", "van Rossem and Saxe",
        2025, "2507.09897",
    ),
    trial=trial,
    arms={
        "L7": Settings(),
        "L5": Settings(longest=5, epochs=1000, every=25),
        "L3": Settings(longest=3, epochs=1500, every=50),
        "L7-large": Settings(gain=1.0, epochs=400, every=20),
        "automaton": Settings(task="automaton", every=25),
    },
    scales={
        "smoke": {"epochs": 2, "longest": 5, "hidden": 8, "every": 1, "lengths": (6, 8, 10), "words": 4, "checked": 4},
        "paper": lambda s: dataclasses.replace(
            s, longest=s.longest + 3, epochs=1000, learning_rate=0.02, lengths=(50, 1_000, 10_000), words=100
        ),
    },
    claims=[
        Claim(
            "with enough data the network is right on words far longer than any it saw, with less it fits alone",
            "abstract",
            all_of(
                difference("accuracy_long", "L7", "L3") > 0.3,
                value("train_error", "L7") < 0.01,
                value("train_error", "L3") < 0.01,
            ),
        ),
        Claim(
            "it gets there in a sharp transition", "abstract", value("sharpness", "L7") < 0.35,
        ),
        Claim(
            "hidden states of different words merge", "representational merger",
            all_of(value("share", "L7") < 0.25, value("share_over_peak", "L7") < 0.8),
        ),
        Claim(
            "what results is a finite automaton that computes parity and reduces to two states", "abstract",
            value("automaton_right", "L7") > 0.99,
        ),
        Claim(
            "words merge only where they are to be treated alike", "theory of two points",
            value("wrong_share", "L7") < 0.001,
        ),
        Claim(
            "small initial weights merge, large ones keep words apart", "larger weights",
            difference("share", "L7-large", "L7") > 0.3,
        ),
    ],
    figures=[
        Curve("Right on words of 1,000 bits: all at once", x="epoch", y="accuracy_long"),
        Curve("States as a share of the words", x="epoch", y="states", note="Words within 3 % of the spread."),
        Heatmap("Pairs of words that end together, by their lengths", x="length", y="other", value="together",
                arms=("L7",)),
        Curve("Three pairs that merge, measured and in theory", x="epoch", y="distance", series="pair", arms=("L7",)),
    ],
    seeds=(3, 5),
)  # fmt: skip
