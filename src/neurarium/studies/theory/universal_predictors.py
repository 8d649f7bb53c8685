"""A network trained on what random programs print predicts other sequences as well: Solomonoff induction, amortised.

Grau-Moya et al. draw programs of a universal machine, train networks with log-loss on the outputs, and let them predict
in context: outputs of new programs, variable-order Markov sources, tasks of the Chomsky hierarchy. Larger networks do
better; on Markov sources the best come close to context-tree weighting, the Bayes mixture; LSTMs go on to longer
sequences better than transformers. Results are in figures, without a table.

Small: a machine of 5 symbols, 10 cells and 200 steps; 12,000 programs that print 8 symbols or more (6 of 10 do) once
for all seeds, 48 symbols at most. Arms ``*-utm`` are trained on them, ``lstm-iid`` on as many sequences of independent
symbols, each for 700 batches of 32 with Adam at 3e-3 (the better of 1e-3 and 3e-3 for both kinds of network on seed
100). Tested on 300 sequences each, drawn anew for each seed: new programs; pieces of 2 to 8 symbols, repeated; context
trees of depth 3 (bits); parities of 4 bits, one question after another; and programs that print 96 symbols. ``kt`` and
``ctw-8`` are the Bayes mixtures over independent symbols and context trees of depth 8, ``ctw-3`` that over the very
trees, ``solomonoff-bound`` the shortest program that we know for each output. All margins were fixed before the run.

Paper: 17 symbols, 200 cells, 1,000 steps, sequences of 256, 500,000 fresh batches of 128. Departures: the paper's
programs come from a filtered Markov prior too (`MarkovPrior`); the transformer adds sinusoids to embeddings that are
not scaled.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.data import (
    Arrays,
    Batches,
    BrainPhoque,
    ContextTreeSource,
    FormalSource,
    IndependentSource,
    PeriodicSource,
    ProgramRuns,
    Sequences,
    SourceBatches,
    formal_tasks,
)
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, ratio
from neurarium.learning import Backprop
from neurarium.models import SequenceEncoder, SequencePredictor, SequenceReadout
from neurarium.objectives import cumulative_log_loss
from neurarium.probes import code_length
from neurarium.theory import KT, ContextTreeWeighting
from neurarium.training import evaluation, fit

Kind = Literal["lstm", "transformer", "kt", "ctw", "bound"]


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    kind: Kind = "lstm"
    source: Literal["utm", "iid", "none"] = "utm"
    width: int = 96
    layers: int = 1
    depth: int = 8  # of context trees
    symbols: int = 5
    memory: int = 10
    machine_steps: int = 200
    length: int = 48
    pool: int = 12_000  # sequences to train on; 0 draws new ones for every batch
    steps: int = 700
    batch_size: int = 32
    learning_rate: float = 3e-3
    tests: int = 300


class OneHot(nn.Module):
    """Symbols and the start as unit vectors."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols

    def forward(self, tokens: Tensor) -> Tensor:
        return one_hot(tokens, self.symbols + 1).float()


def trial(settings: Settings, run: Run) -> Metrics:
    """Train on a source, and code sequences of the others."""
    machine = BrainPhoque(settings.symbols, settings.memory, settings.machine_steps)
    tests = draw_tests(settings, run.seed)
    programs = tests["bp"]
    assert isinstance(programs, ProgramRuns)
    if settings.kind == "bound":
        return {"bp_nats": float(programs.bounds().mean()), "kept": len(programs) / programs.drawn}
    if settings.kind in ("kt", "ctw"):
        matched = settings.kind == "ctw" and settings.symbols == 2
        tree = KT(settings.symbols) if settings.kind == "kt" else ContextTreeWeighting(settings.depth, settings.symbols)
        return assess(tree, {"voms": tests["voms"]} if matched else tests, run)
    torch.manual_seed(run.seed)
    model = SequencePredictor(network(settings), settings.symbols).to(run.device)
    if settings.source != "none":
        rule = Backprop(model, cumulative_log_loss)
        optimizer = torch.optim.Adam(rule.parameters(), lr=settings.learning_rate)
        source = machine if settings.source == "utm" else IndependentSource(settings.symbols)
        for part in run.track(range(10), "tenths"):
            steps = max(settings.steps // 10, 1)
            losses = fit(rule, batches(settings, source, run, part, steps), optimizer)
            run.record(step=(part + 1) * steps, nats=losses[-1])
    return assess(model, tests, run)


def draw_tests(settings: Settings, seed: int) -> dict[str, Sequences]:
    """New sequences of every source."""
    draw = torch.Generator().manual_seed(1_000_003 + seed)
    size, length, symbols = settings.tests, settings.length, max(settings.symbols, 5)
    machine = BrainPhoque(symbols, settings.memory, settings.machine_steps)
    longer = BrainPhoque(symbols, settings.memory, 4 * settings.machine_steps)
    return {
        "bp": machine.sample(size, length, draw),
        "periodic": PeriodicSource(symbols).sample(size, length, draw),
        "voms": ContextTreeSource(3).sample(size, length, draw),
        "parity": FormalSource(formal_tasks["parity_check"], 4).sample(size, length, draw),
        "long": longer.sample(size, 2 * length, draw, min_output=2 * length),
    }


def batches(settings: Settings, source: Any, run: Run, part: int, steps: int) -> Any:
    """Some batches to train on."""
    seed = 100 * run.seed + part
    if not settings.pool:
        return SourceBatches(
            source, settings.batch_size, steps, settings.length, seed=2_000_003 + seed, device=run.device
        )
    known = pool(settings.source, settings.symbols, settings.memory, settings.machine_steps, settings.length,
                 settings.pool)  # fmt: skip
    rows = torch.randint(settings.pool, (steps * settings.batch_size,), generator=torch.Generator().manual_seed(seed))
    return Batches(Arrays(known.x[rows], known.y[rows]).to(run.device), settings.batch_size)


@functools.lru_cache(maxsize=2)
def pool(source: str, symbols: int, memory: int, machine_steps: int, length: int, count: int) -> Arrays:
    """The sequences of all seeds and arms."""
    drawn = (BrainPhoque(symbols, memory, machine_steps) if source == "utm" else IndependentSource(symbols)).sample(
        count, length, torch.Generator().manual_seed(0)
    )
    return Arrays(drawn.tokens, drawn.targets)


def network(settings: Settings) -> nn.Module:
    """Logits of the next symbol."""
    symbols, width = settings.symbols, settings.width
    if settings.kind == "transformer":
        body: nn.Module = SequenceEncoder(symbols + 1, symbols, width, 4, settings.layers, causal=True, dropout=0.0)
    else:
        cell = nn.LSTM(symbols + 1, width, settings.layers, batch_first=True)
        body = SequenceReadout(cell, nn.Linear(width, symbols))
    return nn.Sequential(OneHot(symbols), body)


def assess(model: Any, tests: dict[str, Sequences], run: Run) -> Metrics:
    """Nats of a sequence and accuracies, by source; curves of bits by place."""
    metrics: dict[str, float] = {}
    for name, drawn in tests.items():
        tokens, mask = drawn.tokens.to(run.device), drawn.mask.to(run.device)
        found = code_length(model, tokens, mask)
        metrics[f"{name}_nats"] = float(found.total.mean()) * math.log(2)
        metrics[f"{name}_bits"] = found.per_symbol
        right = (best_guess(model, tokens) == tokens) & mask
        last = slice(-16, None)
        metrics[f"{name}_accuracy"] = float(right[:, last].sum() / mask[:, last].sum().clamp(min=1))
        half = slice(tokens.shape[1] // 2, None)
        if name == "long":
            metrics["beyond_bits"] = float(found.bits[:, half].sum() / mask[:, half].sum())
            metrics["within_bits"] = float(found.bits[:, : half.start].sum() / mask[:, : half.start].sum())
        for place, bits in enumerate(found.by_place.tolist()):
            if not math.isnan(bits):
                run.record(place=place, **{f"{name}_by_place": bits})
        if drawn.truth is not None:
            for place, regret in enumerate(found.regret(drawn.truth).tolist()):
                run.record(place=place, regret=regret)
            metrics[f"{name}_regret"] = regret
    return metrics


@torch.no_grad()
def best_guess(model: Any, tokens: Tensor) -> Tensor:
    """The likeliest symbol at every place."""
    if isinstance(model, nn.Module):
        with evaluation(model):
            return torch.cat([model(part).argmax(-1) for part in tokens.split(256)])
    return model.conditionals(tokens).argmax(-1).to(tokens.device)


def smoke(settings: Settings) -> Settings:
    """A few steps of everything."""
    return dataclasses.replace(settings, width=8, machine_steps=60, length=24, pool=64, steps=10, batch_size=8, tests=8)


def paper_scale(settings: Settings) -> Settings:
    """The paper's sizes."""
    symbols = settings.symbols if settings.symbols == 2 else 17
    return dataclasses.replace(
        settings, symbols=symbols, memory=200, machine_steps=1000, length=256, pool=0, steps=500_000, batch_size=128,
        learning_rate=1e-4, layers=4 if settings.kind == "transformer" else 1, depth=min(settings.depth * 3, 24),
    )  # fmt: skip


NETWORKS = ("lstm-utm", "transformer-utm", "lstm-iid", "lstm-untrained", "lstm-small")

STUDY = Study(
    paper=Paper("Learning Universal Predictors", "Grau-Moya et al.", 2024, "2401.14953"),
    trial=trial,
    arms={
        "lstm-utm": Settings(),
        "lstm-small": Settings(width=16),
        "transformer-utm": Settings("transformer", width=64, layers=2),
        "lstm-iid": Settings(source="iid"),
        "lstm-untrained": Settings(source="none"),
        "kt": Settings("kt", "none"),
        "ctw-8": Settings("ctw", "none"),
        "ctw-3": Settings("ctw", "none", depth=3, symbols=2),
        "solomonoff-bound": Settings("bound", "none"),
    },
    scales={"smoke": smoke, "paper": paper_scale},
    claims=[
        Claim(
            "trained on programs, a network predicts what new programs print better than one trained on symbols "
            "without structure",
            "section 5, UTM", ratio("bp_nats", "lstm-utm", "lstm-iid") < 0.9,
        ),
        Claim(
            "and better than counting", "section 5, UTM", difference("bp_nats", "kt", "lstm-utm") > 0,
        ),
        Claim(
            "what it learned from programs transfers to repetitions, which it was never trained on",
            "section 5, transfer", difference("periodic_accuracy", "lstm-utm", "lstm-iid") > 0.15,
        ),
        Claim(
            "nothing predicts context trees better than context-tree weighting of their depth",
            "section 5, VOMS",
            all_of(*(difference("voms_nats", arm, "ctw-3") > 0 for arm in ("lstm-utm", "transformer-utm", "lstm-iid"))),
        ),
        Claim(
            "larger networks do better", "abstract", difference("bp_nats", "lstm-small", "lstm-utm") > 0,
        ),
        Claim(
            "beyond the length of training an LSTM predicts better than a transformer",
            "section 5, length generalisation", difference("beyond_bits", "transformer-utm", "lstm-utm") > 0,
        ),
    ],
    figures=[
        Bars("Nats of what a new program prints", metric="bp_nats",
             arms=("solomonoff-bound", "kt", "ctw-8", *NETWORKS),
             note="The bound is the length of the shortest program that we know."),
        Curve("Bits a symbol of what new programs print, trained to 48", x="place", y="long_by_place",
              arms=("kt", "ctw-8", "lstm-utm", "transformer-utm", "lstm-iid")),
        Curve("Bits a symbol of pieces of 2 to 8 symbols that repeat", x="place", y="periodic_by_place",
              arms=("kt", "ctw-8", "lstm-utm", "transformer-utm", "lstm-iid")),
        Curve("Bits beyond those of the source, context trees of depth 3", x="place", y="regret",
              arms=("kt", "ctw-3", "ctw-8", "lstm-utm", "transformer-utm", "lstm-iid")),
        Curve("Nats of a sequence while training", x="step", y="nats"),
    ],
    seeds=(3, 4),
)  # fmt: skip
