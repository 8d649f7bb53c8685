"""Networks compose only what substitution covers, and covering needs more than quadratically many examples.

Chang et al. hold that a learner which matches patterns can answer a new combination of known parts only if swaps of
fragments that were seen to behave alike lead to it from a training item. On f2(f1(x1, x2), x3) with random functions
they show transformers that are accurate on what is covered, near chance elsewhere, and whose need of data grows with
the vocabulary n as n^2.26 (theory: between n^2 and n^2.5, as n^(2.5 - 1 / 2k) for k shared contexts), whatever the
model's size; an input that reaches the answer by two paths breaks it.

Small: coverage itself, without training, for n = 16, 24, 32 and 48 (``curves``), and networks of one block per function
(`HopMLP`, 64 features, 256 units, AdamW at 2e-3 with weight decay 1, batches of 256, 3,000 steps) at n = 20 with 500,
1,000 and 1,500 training items; the same with the bridge as a second target (``cot``), and on the task with two paths
(``non-tree``). ``gpt`` is a transformer of two layers after a few hundred steps, which is far from learning to compose
(it takes tens of thousands), and carries no claim. Rank correlation over three sizes is 1 where both rise, so that is
what the claim asks.

Paper: GPT-2 of eight layers, n to 200, 62,500 steps of 4,096. Departures: the network knows which input goes where.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, CompositionSplit, non_tree, two_hop
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop
from neurarium.models import CausalTransformer, HopMLP
from neurarium.probes import cluster_gap, coverage, coverage_curve, patch_effect
from neurarium.training import evaluate, fit

LEVELS = 6


@dataclass(frozen=True)
class Curves:
    """What the arm without training changes.

    Args:
        tokens: vocabulary sizes n.
        points: training sizes per n.
        tests: test items.
    """

    tokens: tuple[int, ...] = (16, 24, 32, 48)
    points: int = 9
    tests: int = 400


def curves(settings: Curves, run: Run) -> Metrics:
    """Training items at which half of the new combinations is covered, and how that number grows with n."""
    required: dict[int, list[float]] = {k: [] for k in (1, 2, 3)}
    for n in run.track(settings.tokens, "vocabularies"):
        generator = torch.Generator().manual_seed(run.seed * 1000 + n)
        task = two_hop(n, generator)
        sizes = np.unique(np.geomspace(0.25 * n**2.1, min(2.2 * n**2.2, 0.4 * n**3), settings.points).astype(int))
        curve = coverage_curve(task, sizes.tolist(), tests=settings.tests, generator=generator)
        for size, shares in zip(curve.sizes, curve.shares.tolist(), strict=True):
            run.record(items=size, covered=shares[1], n=f"n = {n}")
        for k, found in required.items():
            found.append(curve.required(k))
            run.record(vocabulary=n, needed=found[-1], k=f"k = {k}")
    logs = np.log(settings.tokens)
    slopes = {f"exponent_{k}": float(np.polyfit(logs, np.log(found), 1)[0]) for k, found in required.items()}
    return slopes | {f"half_{n}": found for n, found in zip(settings.tokens, required[2], strict=True)}


@dataclass(frozen=True)
class Settings:
    """What the arms that train change.

    Args:
        model: blocks of a dense network, or a transformer.
        task: a chain of two functions, or one whose second function sees x2 again.
        items: training items.
        chain: the bridge is a second target.
        tokens: n.
        steps: of training.
        batch: items per step.
    """

    model: Literal["mlp", "gpt"] = "mlp"
    task: Literal["two-hop", "non-tree"] = "two-hop"
    items: int = 1500
    chain: bool = False
    tokens: int = 20
    steps: int = 3000
    batch: int = 256
    width: int = 64
    layers: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1.0


class LastPosition(nn.Module):
    """A transformer whose answer is what it says at the last position."""

    def __init__(self, transformer: CausalTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, n]."""
        return self.transformer(x)[:, -1]


def trial(settings: Settings, run: Run) -> Metrics:
    """Train, and hold accuracy against coverage."""
    generator = torch.Generator().manual_seed(run.seed)
    task = (two_hop if settings.task == "two-hop" else non_tree)(settings.tokens, generator)
    split = task.sample(settings.items, generator)
    found = coverage(*parts(split, "all seen"), evidence=LEVELS)
    width = settings.width
    model: nn.Module = (
        HopMLP(settings.tokens, task.hops, 3, width, 4 * width)
        if settings.model == "mlp"
        else LastPosition(CausalTransformer(settings.tokens, width, 4, settings.layers, 4 * width, context=3))
    )
    model.to(run.device)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output.flatten(0, -2), y.flatten())

    train = split.train.to(run.device)
    if settings.chain:
        train = dataclasses.replace(train, y=task.trace(split.train.x).to(run.device))
    rule = Backprop(Traced(model) if settings.chain and isinstance(model, HopMLP) else model, loss)
    optimizer = torch.optim.AdamW(rule.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    loader = Batches(train, min(settings.batch, len(train)), shuffle=True, drop_last=True, seed=run.seed)
    epochs = math.ceil(settings.steps / len(loader))
    new = split.tests["all seen"].to(run.device)
    for part in run.track(range(20), "parts"):
        fit(rule, loader, optimizer, epochs=epochs * (part + 1) // 20 - epochs * part // 20)
        step = epochs * (part + 1) // 20 * len(loader)
        run.record(step=step, accuracy=evaluate(model, Batches(new, 1024)))
    metrics = by_level(model, split, found.levels, run)
    if isinstance(model, LastPosition):
        inside(model, split, task.trace(new.x.cpu())[:, 0].to(run.device), run)
    return metrics


class Traced(nn.Module):
    """A network of blocks that answers with all its blocks."""

    def __init__(self, model: HopMLP) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, hops, n]."""
        return self.model.trace(x)


def parts(split: CompositionSplit, kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test items, as `coverage` takes them."""
    return split.train.x, split.train.y, split.tests[kind].x, split.tests[kind].y


def by_level(model: nn.Module, split: CompositionSplit, levels: Tensor, run: Run) -> dict[str, float]:
    """Accuracy on the training items, by level of coverage, and on each kind of test."""
    new = split.tests["all seen"]
    with torch.no_grad():
        right = (model.eval()(new.x.to(run.device)).argmax(-1).cpu() == new.y).double()
    for level in range(LEVELS + 1):
        if int((chosen := levels == level).sum()) >= 20:
            run.record(evidence=level, correct=float(right[chosen].mean()))
    kinds = {"type_1": "unseen: f1 f2", "type_2": "unseen: f1", "type_3": "unseen: f2"}
    others = {
        name: evaluate(model, Batches(split.tests[kind].to(run.device), 1024)) if kind in split.tests else math.nan
        for name, kind in kinds.items()
    }
    covered, bare = levels >= 2, levels < 2
    metrics = {
        "train_accuracy": evaluate(model, Batches(split.train.to(run.device), 1024)),
        "accuracy": float(right.mean()),
        "covered_share": float(covered.double().mean()),
        "accuracy_covered": float(right[covered].mean()) if covered.any() else math.nan,
        "accuracy_uncovered": float(right[bare].mean()) if bare.any() else math.nan,
        **others,
    }
    return {name: number for name, number in metrics.items() if math.isfinite(number)}


def inside(model: LastPosition, split: CompositionSplit, bridge: Tensor, run: Run) -> None:
    """Whether the transformer's states cluster by bridge, and whether its answer follows the state at x2."""
    x = split.tests["all seen"].x[:400].to(run.device)
    layers = [f"transformer.layers.{i}" for i in range(len(model.transformer.layers))]
    gap = cluster_gap(model, x, bridge[:400], layers).gap
    for layer in range(len(layers)):
        for position in range(3):
            run.record(position=position, layer=layer, gap=float(gap[layer, position]))
        effect = patch_effect(model, x, x.roll(1, 0), layers[layer], 1)
        run.record(patched_layer=layer, changed=float(effect.changed.double().mean()))


ARMS = {
    "mlp-500": Settings(items=500),
    "mlp-1000": Settings(items=1000),
    "mlp-1500": Settings(),
    "cot-1500": Settings(chain=True),
    "non-tree-1500": Settings(task="non-tree"),
    "gpt-1500": Settings("gpt", steps=400),
}


def smoke(settings: Settings) -> Settings:
    """A few steps on a small vocabulary."""
    return dataclasses.replace(settings, tokens=8, items=settings.items // 20, steps=40, batch=32, width=16)


def paper_scale(settings: Settings) -> Settings:
    """The paper's network and vocabulary; every arm is a transformer."""
    return dataclasses.replace(
        settings, model="mlp" if settings.chain else "gpt", tokens=50, items=settings.items * 10, steps=62_500,
        batch=4096, width=768, layers=8, learning_rate=8e-4, weight_decay=0.1,
    )  # fmt: skip


STUDY = Study(
    paper=Paper(
        "The Coverage Principle: A Framework for Understanding Compositional Generalization",
        "Chang et al.",
        2025,
        arxiv="2505.20278",
    ),
    trial=None,
    arms={**{name: Arm(trial, s) for name, s in ARMS.items()}, "curves": Arm(curves, Curves())},
    scales={
        "smoke": {Settings: smoke, Curves: {"tokens": (8, 10, 12), "points": 9, "tests": 100}},
        "paper": {Settings: paper_scale, Curves: {"tokens": (25, 50, 100, 200)}},
    },
    claims=[
        Claim(
            "Items needed for coverage grow faster than quadratically, and faster the more evidence is asked for",
            "Theorem 4.1: n^(2.5 - 1 / 2k)",
            all_of(
                value("exponent_2", "curves") > 2.0,
                value("exponent_2", "curves") < 2.4,
                value("exponent_3", "curves") - value("exponent_1", "curves") > 0,
            ),
            published="2.26 for two hops, measured on GPT-2",
        ),
        Claim(
            "New combinations that are covered by two shared contexts are answered better than those not covered",
            "Fig. 3",
            value("accuracy_covered", "mlp-1500") - value("accuracy_uncovered", "mlp-1500") > 0.15,
        ),
        Claim(
            "What is not covered, or was never seen, stays low",
            "Fig. 3",
            all_of(value("accuracy_uncovered", "mlp-1500") < 0.4, value("type_1", "mlp-1500") < 0.15),
        ),
        Claim(
            "Accuracy rises with the number of training items as coverage does",
            "Fig. 3, 4",
            all_of(
                difference("accuracy", "mlp-1500", "mlp-500") > 0.3,
                *(
                    difference(metric, *pair) > 0
                    for metric in ("accuracy", "covered_share")
                    for pair in (("mlp-1000", "mlp-500"), ("mlp-1500", "mlp-1000"))
                ),
            ),
        ),
        Claim(
            "An input that reaches the answer by two paths is learned worse from as many items",
            "section 6, path ambiguity",
            difference("accuracy", "mlp-1500", "non-tree-1500") > 0.1,
        ),
    ],
    figures=[
        Curve(
            "Accuracy on new combinations by the evidence that covers them (0: not covered)",
            x="evidence", y="correct", arms=("mlp-500", "mlp-1000", "mlp-1500", "cot-1500", "non-tree-1500"),
        ),
        Curve("Accuracy on new combinations while training", x="step", y="accuracy"),
        Curve(
            "Training items at which half of the new combinations is covered",
            x="vocabulary", y="needed", series="k", log_x=True, log_y=True, arms=("curves",),
        ),
        Curve(
            "Share covered by two shared contexts", x="items", y="covered", series="n", log_x=True, arms=("curves",)
        ),
        Bars("Share of new combinations covered by two shared contexts", metric="covered_share"),
        Heatmap("GPT: states cluster by bridge", x="position", y="layer", value="gap", arms=("gpt-1500",)),
    ],
    seeds=(3, 6),
)  # fmt: skip
