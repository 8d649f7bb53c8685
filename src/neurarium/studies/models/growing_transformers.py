"""On input embeddings that never learn, experts can be averaged and a transformer can grow a layer at a time.

Bochkov freezes embeddings made of pictures of the characters. Every model then has the same "docking port": language
experts trained apart are fused by averaging their logits (mean over MMLU 23.47 against 22.59 and 18.89 of the parts;
below the 25 % of chance, since answers are generated freely), and transformers of up to 6 layers grow layer by layer,
earlier ones frozen (SQuAD 1.21 to 5.55). No control is reported for what the frozen substrate is credited with; here
there are some.

Small: the first 600,000 characters of fortunes in lower case, the 90 commonest of English, German and Russian each,
decoders of width 64 with 4 heads, rotary positions and windows of 48 characters, AdamW at 2e-3 with 10 steps of warm-up
and a cosine, clipped at norm 1, batches of 16. *Growth* (English): 4 stages of 40 steps, each with a new optimizer
(`grown`), the same with low-rank terms of rank 4 on earlier layers from stage 3 on (the paper's from its 5th), four
layers at once for 160 steps with visual, trainable or random frozen embeddings (`monolithic...`), and one layer for 160
steps. *Fusion* (German and Russian): an expert of two layers for each, 120 steps, fused without training; with visual
and with trainable embeddings (drawn apart, as experts trained apart are), beside one model trained for 240 steps on
both (`joint`). The rate is the same everywhere; every stage runs through the whole schedule. Losses are in nats a
character on unseen text.

Paper: 9 layers of width 1,024, stages of 3, as in the controlled study of its second version, on fortunes or the user's
own text (``--set corpus=FILE``); its 65,536 tokens, 9 billion of them, are not at hand, and characters stand in.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from neurarium.data import Arrays
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.learning import LayerGrowth
from neurarium.models import LogitMixture, RotaryDecoder, visual_embedding
from neurarium.studies.models._texts import Text, batches, kept, learn, loss_on, read, split_text, windows

Substrate = Literal["visual", "random", "trainable"]


@dataclass(frozen=True)
class Growth:
    """How one model is trained."""

    substrate: Substrate = "visual"
    layers: int = 4
    grow: bool = False
    low_rank_from: int | None = None
    rank: int = 4
    per_stage: int = 1
    corpus: str = "fortunes"
    languages: tuple[str, ...] = ("en", "de", "ru")
    characters: int = 600_000  # of each text
    symbols: int = 90
    width: int = 64
    heads: int = 4
    length: int = 48
    batch_size: int = 16
    steps: int = 160  # of all stages together
    learning_rate: float = 2e-3
    warm_up: int = 10
    tests: int = 256


@dataclass(frozen=True)
class Fusion(Growth):
    """Two experts and their average, or one model of both languages."""

    layers: int = 2
    steps: int = 120  # of an expert
    joint: bool = False


def texts(settings: Growth) -> dict[str, Text]:
    """The languages' texts over one alphabet, that of the commonest symbols of each."""
    names = {tag: f"fortunes-{tag}" if settings.corpus == "fortunes" else settings.corpus for tag in settings.languages}
    whole = {tag: read(name)[: settings.characters].lower() for tag, name in names.items()}
    found = {symbol for text in whole.values() for symbol, _ in Counter(text).most_common(settings.symbols)}
    alphabet = "".join(sorted(found))
    return {tag: split_text(kept(text, alphabet), alphabet) for tag, text in whole.items()}


def decoder(settings: Growth, alphabet: str) -> RotaryDecoder:
    """A model on its substrate; frozen random rows have length 1, as the visual ones have."""
    model = RotaryDecoder(len(alphabet), settings.width, settings.heads, settings.layers)
    if settings.substrate == "visual":
        model.tokens = visual_embedding(alphabet, settings.width)
    else:
        model.tokens.weight.data = normalize(torch.randn_like(model.tokens.weight))
        model.tokens.weight.requires_grad_(settings.substrate == "trainable")
    return model


def grow(settings: Growth, run: Run) -> Metrics:
    """Train on the first language, at once or stage by stage."""
    text = texts(settings)[settings.languages[0]]
    model = decoder(settings, text.alphabet).to(run.device)
    test = windows(text.test, settings.length, settings.tests).to(run.device)
    train = text.train.to(run.device)
    metrics: dict[str, float] = {}
    if not settings.grow:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        fit_text(model, train, settings, settings.steps, run, test, 0)
    else:
        growth = LayerGrowth(
            model, per_stage=settings.per_stage, low_rank_from=settings.low_rank_from, rank=settings.rank
        )
        trained, steps = 0, settings.steps // growth.stages
        for stage in run.track(range(1, growth.stages + 1), "stages"):
            if stage > 1:
                growth.grow()
            fit_text(model, train, settings, steps, run, test, steps * (stage - 1))
            trained = max(trained, growth.trainable_count)
            metrics[f"loss_stage_{stage}"] = loss_on(model, test)
    if run.seed == 0 and settings.substrate == "visual" and not settings.grow and settings.layers > 1:
        picture(model.tokens, text.alphabet, run)
    return {**metrics, "loss": loss_on(model, test), "trained": trained}


def fit_text(model: nn.Module, train: Tensor, settings: Growth, steps: int, run: Run, test: Arrays, done: int) -> None:
    """Training with a record of the loss on some of the test's windows."""
    every = max(1, steps // 4)

    def watch(step: int) -> None:
        if step % every == 0:
            run.record(step=done + step, loss=loss_on(model, test[:48]))

    loader = batches(train, settings.length, settings.batch_size, steps, 1000 * run.seed + done)
    learn(model, loader, steps, settings.learning_rate, settings.warm_up, watch=watch)


def fuse(settings: Fusion, run: Run) -> Metrics:
    """Losses of each expert and of their averages on both languages."""
    found = texts(settings)
    first, second = settings.languages[1:]
    test = {tag: windows(found[tag].test, settings.length, settings.tests).to(run.device) for tag in (first, second)}
    train = {tag: found[tag].train.to(run.device) for tag in (first, second)}
    alphabet = found[first].alphabet
    if settings.joint:
        model = decoder(settings, alphabet).to(run.device)
        both = torch.cat([train[tag] for tag in (first, second)])
        learn(model, batches(both, settings.length, settings.batch_size, 2 * settings.steps, run.seed),
              2 * settings.steps, settings.learning_rate, settings.warm_up)  # fmt: skip
        return over_both({tag: loss_on(model, test[tag]) for tag in test}, "loss")
    experts = {}
    for tag in run.track((first, second), "experts"):
        model = decoder(settings, alphabet).to(run.device)
        learn(model, batches(train[tag], settings.length, settings.batch_size, settings.steps, run.seed),
              settings.steps, settings.learning_rate, settings.warm_up)  # fmt: skip
        experts[tag] = model
    own = {tag: loss_on(experts[tag], test[tag]) for tag in test}
    cross = {tag: loss_on(experts[other], test[tag]) for tag, other in ((first, second), (second, first))}
    best = min(own[first] + cross[second], own[second] + cross[first]) / 2
    metrics = {"best_expert": best, "own": (own[first] + own[second]) / 2}
    for average in ("logits", "probabilities", "confidence"):
        fused = LogitMixture(list(experts.values()), average=average)
        losses = {tag: loss_on(fused, test[tag]) for tag in test}
        metrics |= over_both(losses, "loss" if average == "logits" else f"loss_{average}")
        if average == "logits":
            metrics["cost_on_own"] = sum(losses[tag] - own[tag] for tag in test) / 2
    return metrics


def over_both(losses: dict[str, float], name: str) -> dict[str, float]:
    """The mean loss over both languages, and each."""
    return {name: sum(losses.values()) / 2, **{f"{name}_{tag}": loss for tag, loss in losses.items()}}


def picture(embedding: nn.Module, alphabet: str, run: Run) -> None:
    """Cosines between the rows of letters."""
    letters = [
        i for i, symbol in enumerate(alphabet) if symbol in "abcdefghijklmnopqrstuvwxyzабвгдежзийклмнопрстуфхцчшщъыьэюя"
    ]
    rows = normalize(copy.deepcopy(embedding.weight).detach()[letters])  # type: ignore[operator]
    for i, line in enumerate((rows @ rows.T).tolist()):
        for j, cosine in enumerate(line):
            run.record(letter=j, other=i, cosine=round(cosine, 2))


STUDY = Study(
    paper=Paper(
        "Growing Transformers: Modular Composition and Layer-wise Expansion on a Frozen Substrate", "Bochkov", 2025,
        "2507.07129",
    ),
    trial=None,
    arms={
        "grown": Arm(grow, Growth(grow=True)),
        "grown-low-rank": Arm(grow, Growth(grow=True, low_rank_from=3)),
        "monolithic": Arm(grow, Growth()),
        "monolithic-trainable": Arm(grow, Growth("trainable")),
        "monolithic-random": Arm(grow, Growth("random")),
        "one-layer": Arm(grow, Growth(layers=1)),
        "experts": Arm(fuse, Fusion()),
        "experts-trainable": Arm(fuse, Fusion("trainable")),
        "joint": Arm(fuse, Fusion(joint=True)),
    },
    scales={
        "smoke": {
            kind: {"corpus": "torch", "symbols": 30, "width": 16, "length": 12, "steps": 8, "tests": 16, "warm_up": 1}
            for kind in (Growth, Fusion)
        },
        "paper": {
            Growth: {"characters": 10**10, "layers": 9, "per_stage": 3,
                     "width": 1024, "heads": 32, "length": 1024, "steps": 90_000,
                     "batch_size": 64, "learning_rate": 3e-4, "warm_up": 1000},
            Fusion: {"characters": 10**10, "layers": 16,
                     "width": 1024, "heads": 32, "length": 1024, "steps": 90_000, "batch_size": 64,
                     "learning_rate": 3e-4, "warm_up": 1000},
        },
    },
    claims=[
        Claim(
            "ability rises with the depth that has grown", "table 2",
            value("loss_stage_1", "grown") - value("loss_stage_4", "grown") > 0.1,
            published="MMLU 18.82, 20.09, 21.06, 21.24, 20.50, 22.01 by layer",
        ),
        Claim(
            "grown layer by layer it rivals training at once, at equal steps", "version 2",
            difference("loss", "grown", "monolithic") < 0.05,
        ),
        Claim(
            "the depth helps, not the time: it beats one layer trained as long", "ours",
            difference("loss", "one-layer", "grown") > 0,
        ),
        Claim(
            "frozen embeddings of pictures cost nothing against trainable ones", "section 4",
            difference("loss", "monolithic", "monolithic-trainable") < 0.05, published="MMLU 22.59 against 11.97",
        ),
        Claim(
            "fused experts beat the better one over both languages, without training", "table 1",
            value("best_expert", "experts") - value("loss", "experts") > 0.5, published="MMLU 23.47 against 22.59",
        ),
        Claim(
            "fusion forgets nothing: each language loses little to its own expert", "section 3",
            value("cost_on_own", "experts") < 0.2,
        ),
        Claim(
            "the common frozen substrate is what makes fusion work", "abstract",
            difference("loss", "experts-trainable", "experts") > 0.1,
        ),
    ],
    figures=[
        Curve(
            "Loss by step, stages of 40", x="step", y="loss",
            arms=("grown", "grown-low-rank", "monolithic", "monolithic-trainable", "monolithic-random", "one-layer"),
            note="Nats a character on unseen English.",
        ),
        Bars("Fused by the mean of logits", metric="loss", arms=("experts", "experts-trainable", "joint")),
        Bars("Fused by the mean of probabilities", metric="loss_probabilities", arms=("experts", "experts-trainable")),
        Heatmap(
            "Which letters look alike: cosines between rows of the visual embedding (Latin, then Cyrillic)",
            x="letter", y="other", value="cosine", arms=("monolithic",),
        ),
    ],
    seeds=(3, 3),
)  # fmt: skip
