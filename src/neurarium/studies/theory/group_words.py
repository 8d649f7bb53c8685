"""Two-layer networks learn words in groups, with most of their logits' energy where the fusion rules allow it.

Shutman, Louidor and Tessler showed that the table of a word splits over triples of real representations, most of which
the fusion rules exclude, and that what is left has low rank: for ab the blocks are matrix products, so fast products
apply. Networks with few products suffice, and trained ones, which memorise first and generalise much later, come near
such decompositions. Only the abstract and a review were at hand: the product network stands for their surrogate model,
and the training is the usual one for such tasks.

Small: S_4 (24 elements, 576 pairs), .8 of all pairs, AdamW at 5e-3 with decay 1, full batch; product networks of
128, 40 and 12 products and a rectifier network of 512 units on ab, the latter without decay too; 128 products on aab
and on the commutator abAB. 55 products compute the whole table of ab in S_4, 23 what the largest logit needs (one
faithful representation of three dimensions). Steps (1,500 on ab, 2,000 on the longer words, 2,500 for the rectifiers)
and rates were chosen on seed 100. Paper: A_5, four times the widths, 30,000 steps; ``--set group=S5`` and ``--set
word=...`` for others. Energies are of logits centred for each pair.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from neurarium.data import FiniteGroup, Split, word_task
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.models import GroupMLP, HadamardNet
from neurarium.probes import isotypic_energy
from neurarium.studies._grokking import grok, group_of, log_spaced, scores
from neurarium.theory import fusion_cover, rank_bound


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    network: Literal["products", "relu"] = "products"
    width: int = 128
    word: str = "ab"
    group: str = "S4"
    train_fraction: float = 0.8
    weight_decay: float = 1.0
    learning_rate: float = 5e-3
    steps: int = 1500
    checkpoints: int = 60


def build(settings: Settings, order: int, seed: int) -> nn.Module:
    """The network with its initial weights."""
    generator = torch.Generator().manual_seed(seed)
    if settings.network == "products":
        return HadamardNet(order, settings.width, generator=generator)
    return GroupMLP(order, settings.width, generator=generator)


def trial(settings: Settings, run: Run) -> Metrics:
    """Train on a part of the pairs, and see where the logits' energy lies."""
    group = group_of(settings.group)
    generator = torch.Generator().manual_seed(run.seed)
    task = word_task(group, settings.word, settings.train_fraction, generator=generator).to(run.device)
    model = build(settings, group.order, run.seed).to(run.device)
    first: dict[str, float] = {}  # step at which a part is learned
    at = log_spaced(settings.steps, settings.checkpoints)
    bar = iter(run.track(at))

    def look(step: int) -> None:
        next(bar, None)
        follow(model, group, task, settings.word, step, run, first)

    grok(model, task, settings.steps, settings.learning_rate, settings.weight_decay, at, look)
    energy = isotypic_energy(model, group, word=settings.word)
    cover = fusion_cover(group, settings.word)
    for k in range(1, len(group.irreps)):
        for i in range(len(group.irreps)):
            run.record(answer=k, first=i, share=float(energy.triples[i, :, k].sum()))
    late = float(settings.steps)  # not learned: at least so late
    return {
        "train_accuracy": scores(model, task.train.x, task.train.y)[1],
        "test_accuracy": scores(model, task.test.x, task.test.y)[1],
        "inside_support": energy.inside,
        "inside_cover": float(energy.triples[cover].sum()),
        "support_blocks": float(energy.support.sum()),
        "cover_blocks": float(cover.sum()),
        "rank_bound": rank_bound(group, settings.word).total,
        "unit_purity": purity(model, group),
        "delay": first.get("test", late) / first.get("train", late),
    }


def follow(
    model: nn.Module, group: FiniteGroup, task: Split, word: str, step: int, run: Run, first: dict[str, float]
) -> None:
    """Accuracies and energies along training."""
    train_loss, train = scores(model, task.train.x, task.train.y)
    test_loss, test = scores(model, task.test.x, task.test.y)
    if train > 0.99:
        first.setdefault("train", step)
    if test > 0.9:
        first.setdefault("test", step)
    energy = isotypic_energy(model, group, word=word)
    run.record(
        step=step, train_accuracy=train, test_accuracy=test, train_loss=train_loss, test_loss=test_loss,
        inside_support=energy.inside,
    )  # fmt: skip
    for name, share in zip(energy.irreps[1:], energy.by_irrep[1:].tolist()):
        run.record(step=step, block=share, irrep=name)


def purity(model: nn.Module, group: FiniteGroup) -> float:
    """Mean over hidden units of the largest share that one representation has in the unit's weights from the left."""
    table = model.element_tables()["left"].detach().cpu().double()  # type: ignore[operator]
    parts = torch.stack([(irrep.basis.T @ table).square().sum(0) for irrep in group.irreps])
    return float((parts.amax(0) / parts.sum(0)).mean())


RELU = Settings(network="relu", width=512, steps=2500)


def paper_scale(settings: Settings) -> Settings:
    """A_5, wider and longer."""
    return dataclasses.replace(settings, group="A5", width=4 * settings.width, learning_rate=1e-3, steps=30_000)


def smoke(settings: Settings) -> Settings:
    """A few steps in S_3."""
    return dataclasses.replace(settings, group="S3", width=min(settings.width, 16), steps=20, checkpoints=4)


STUDY = Study(
    paper=Paper(
        "Learning words in groups: fusion algebras, tensor ranks and grokking",
        "Shutman, Louidor, Tessler",
        2025,
        arxiv="2509.06931",
    ),
    trial=trial,
    arms={
        "products-128": Settings(),
        "products-40": Settings(width=40),
        "products-12": Settings(width=12),
        "relu-512": RELU,
        "no-decay": dataclasses.replace(RELU, weight_decay=0.0),
        "aab": Settings(word="aab", steps=2000),
        "abAB": Settings(word="abAB", steps=2000),
    },
    scales={"smoke": smoke, "paper": paper_scale},
    claims=[
        Claim(
            "A product network learns ab and aab in S_4 from .8 of all pairs",
            "abstract",
            all_of(value("test_accuracy", "products-128") > 0.97, value("test_accuracy", "aab") > 0.9),
        ),
        Claim(
            "It groks: unseen pairs are right long after all training pairs are",
            "abstract",
            value("delay", "relu-512") > 2,
        ),
        Claim(
            "Most of the learned logits' energy lies in the few blocks that the word's own tensor has",
            "abstract",
            all_of(value("inside_support", "products-128") > 0.85, value("inside_support", "aab") > 0.85),
        ),
        Claim(
            "Products enough for the smallest faithful block suffice; half as many as it needs do not",
            "abstract",
            difference("test_accuracy", "products-40", "products-12") > 0.3,
        ),
        Claim(
            "Without weight decay the network memorises only",
            "grokking",
            difference("test_accuracy", "relu-512", "no-decay") > 0.2,
        ),
    ],
    figures=[
        Curve("Accuracy on unseen pairs", x="step", y="test_accuracy", log_x=True),
        Curve("Accuracy on training pairs", x="step", y="train_accuracy", log_x=True),
        Curve(
            "Share of the logits' energy in the support of the word's tensor", x="step", y="inside_support", log_x=True
        ),
        Curve(
            "The blocks of ab are learned side by side", x="step", y="block", series="irrep", log_x=True,
            arms=("products-128", "relu-512"), note="Share of the energy in the block of each representation.",
        ),
        Heatmap(
            "Where the energy lies", x="answer", y="first", value="share", arms=("products-128", "aab", "abAB"),
            note="Representation of the answer across, of the first element up, in order of dimension.",
        ),
        Bars("Share of energy in the support", metric="inside_support"),
        Bars("How pure the hidden units are", metric="unit_purity"),
    ],
    seeds=(3, 8),
)  # fmt: skip
