"""Training the few per cent of neurons that a task turns matches full fine-tuning.

The paper (Xu et al., 2024) fine-tunes a language model once, compares each neuron's weights (a row of any linear map of
any block) before and after by their cosine, goes back to the original model and trains only the 3 to 12 % that turned
most. On translation and cross-lingual summarisation with LLaMA-2-7B it reports more than full fine-tuning and than
LoRA, and more than with neurons chosen at random or by probing.

Small: a language model of characters (3 layers of width 64, 150,000 weights; 1,200 steps on the prose in the
documentation of numpy, scipy and torch, with lines of repeated words among it). It is trained once and kept in the
cache; every trial starts from it. The task is a made-up language: 300 frequent words have names of their own, any other
word is turned as in Pig Latin. 1,500 pairs of two-word phrases for training, 300 for test with other words; 200 steps
of AdamW on batches of 16, the loss on the translation alone. Arms: everything trained; neurons that a trial fine-tuning
of 60 steps turned most (3, 6, 12 %); random ones, as many (6 %) or, since those that turn most are the longer rows, as
many as have the same count of trained numbers (``random-matched``); those with the longest gradients (6 %); a low-rank
adaptation within the same count; the output layer. ``words_right`` is the share of words without a wrong character (of
whole phrases, in so short a training, hardly any is). Pairs, their order and the trial fine-tuning are the same
in all arms. ``forgetting`` is by how much the loss on held-out English rises. In the 6 % arm full fine-tuning is run as
well, for the paper's three groups of neurons (in shares of the number trained): strongly affected, among those that it
turns most; suppressed, among these but kept; indirectly affected, kept, yet among those whose outputs changed most.
Each arm has the learning rate with the least test loss on seed 100, outside the seeds that are run, of 1e-3, 2e-3,
3e-3, 5e-3, 1e-2, 2e-2, 3e-2 and 1e-1 (full fine-tuning up to 2e-2, neurons by similarity from 3e-3 to 3e-2; all at the
size that is run). No best rate lies at an end. The trial fine-tuning has that of full fine-tuning.

Paper: four layers of width 96, 400 steps on batches of 32, a longer pre-training. LLaMA-2-7B and the paper's data are
not loaded; `benchmarks/neft.py` fine-tunes a real small language model (SmolLM2-135M-Instruct).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from neurarium.compression import (
    LowRankFineTuning,
    NeuronFineTuning,
    NeuronSet,
    gradient_neurons,
    random_neurons,
    sensitive_neurons,
)
from neurarium.compression.fine_tuning._neft import covered
from neurarium.lab import (
    Bars,
    Claim,
    Curve,
    Heatmap,
    Metrics,
    Paper,
    Run,
    Scatter,
    Study,
    all_of,
    difference,
    ratio,
    value,
)
from neurarium.models import CausalTransformer
from neurarium.objectives import response_loss
from neurarium.probes import neuron_output_similarity, neuron_overlap, neuron_rank_shift, neuron_similarity
from neurarium.studies.compression._translation import (
    Base,
    Pairs,
    corpus,
    fine_tune,
    language_model,
    next_character_loss,
    pairs,
    score,
    windows,
)


@dataclass(frozen=True)
class Settings:
    """What an arm is at a scale; ``probe_*`` are the trial fine-tuning's, the last three the base model's."""

    method: Literal["full", "sensitive", "random", "random-matched", "gradient", "lora", "head"] = "full"
    fraction: float = 0.06
    lr: float = 2e-3
    train: int = 1_500
    test: int = 300
    steps: int = 200
    probe_steps: int = 60
    probe_lr: float = 2e-3
    batch_size: int = 16
    d_model: int = 64
    num_layers: int = 3
    base_steps: int = 1_200


def trial(settings: Settings, run: Run) -> Metrics:
    """Fine-tune what the arm trains; what was learnt, what was forgotten, and what the neurons show."""
    model = language_model(
        Base(d_model=settings.d_model, num_layers=settings.num_layers, steps=settings.base_steps)
    ).to(run.device)  # fmt: skip
    generator = torch.Generator().manual_seed(run.seed)
    train, test = pairs(settings.train, settings.test, generator)
    held_out = windows(corpus(held_out=True), 100, model.context, generator).to(run.device)
    whole = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        before = float(next_character_loss(model, held_out))
    base, found = copy.deepcopy(model), dict[str, float]()
    neurons = chosen(settings, model, train, run, found)
    tuned, parameters = prepared(settings, model, neurons)
    trainable = tuned.trainable_count() if tuned is not None else sum(p.numel() for p in parameters)
    optimizer = torch.optim.AdamW(parameters, settings.lr)
    for step, batch in enumerate(run.track(list(batches(train, settings, run, settings.steps))), start=1):
        loss = fine_tune(model, optimizer, batch, run.device)
        if step % 20 == 0 or step == 1:
            run.record(step=step, train_loss=loss)
    if tuned is not None:
        tuned.merge()
    if neurons is not None and examined(settings):
        found |= groups(base, model, neurons, fully_tuned(base, train, settings, run, settings.steps), test)
    with torch.no_grad():
        after = float(next_character_loss(model, held_out))
    return {
        **score(model, test, run.device), **found, "forgetting": after - before, "trainable_share": trainable / whole,
        "optimizer_bytes": float(sum(v.nbytes for s in optimizer.state.values() for v in s.values())),
    }  # fmt: skip


def batches(train: Pairs, settings: Settings, run: Run, steps: int) -> Iterator[Pairs]:
    """Batches drawn by a generator of their own, so that all arms see the same."""
    generator = torch.Generator().manual_seed(run.seed)
    for _ in range(steps):
        yield train[torch.randint(len(train.tokens), (settings.batch_size,), generator=generator)]


def fully_tuned(model: CausalTransformer, train: Pairs, settings: Settings, run: Run, steps: int) -> CausalTransformer:
    """A copy of which everything was trained."""
    tuned = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(tuned.parameters(), settings.probe_lr)
    for batch in batches(train, settings, run, steps):
        fine_tune(tuned, optimizer, batch, run.device)
    return tuned


def examined(settings: Settings) -> bool:
    """The arm in which the neurons are looked at more closely."""
    return settings.method == "sensitive" and settings.fraction == 0.06


def groups(
    base: CausalTransformer, tuned: CausalTransformer, neurons: NeuronSet, full: CausalTransformer, test: Pairs
) -> dict[str, float]:
    """The paper's three groups of neurons, in shares of the number that was trained."""
    found = neuron_rank_shift(
        neuron_similarity(base, full), neuron_similarity(base, tuned), neurons,
        neuron_output_similarity(base, tuned, test.tokens.to(base.mask.device).split(50)),
    )  # fmt: skip
    counts = {
        "strongly_affected": found.strongly_affected, "suppressed": found.suppressed,
        "indirectly_affected": found.indirectly_affected or 0,
    }  # fmt: skip
    return {name: count / neurons.count() for name, count in counts.items()}


def chosen(
    settings: Settings, model: CausalTransformer, train: Pairs, run: Run, found: dict[str, float]
) -> NeuronSet | None:
    """The neurons that the arm trains; what else the search found goes into ``found``."""
    if settings.method in ("sensitive", "random-matched", "lora"):
        probe = fully_tuned(model, train, settings, run, settings.probe_steps)
        neurons = sensitive_neurons(model, probe, fraction=settings.fraction)
        if settings.method == "random-matched":  # random neurons until they have as many numbers as these
            numbers = NeuronFineTuning(copy.deepcopy(model), neurons).trainable_count()
            share = numbers / sum(p.numel() for p in covered(model))
            generator = torch.Generator().manual_seed(run.seed)
            return random_neurons(model, fraction=share, budget="parameters", generator=generator)
        found["norm_correlation"] = neuron_similarity(model, probe).norm_correlation
        record(neurons, run)
        if examined(settings):
            half = len(train.tokens) // 2
            halves = [fully_tuned(model, p, settings, run, settings.probe_steps) for p in (train[:half], train[half:])]
            one, other = (sensitive_neurons(model, probe) for probe in halves)
            overlap = neuron_overlap(one, other, neurons.sizes)
            found["overlap_over_chance"] = overlap.jaccard / overlap.chance
        return neurons
    if settings.method == "random":
        return random_neurons(model, fraction=settings.fraction, generator=torch.Generator().manual_seed(run.seed))
    if settings.method == "gradient":
        some = train[: 10 * settings.batch_size]
        tokens, labels = some.tokens.to(run.device), some.labels.to(run.device)
        return gradient_neurons(model, lambda: response_loss(model(tokens), labels), fraction=settings.fraction)
    return None


def prepared(settings: Settings, model: CausalTransformer, neurons: NeuronSet | None) -> tuple[Any, list[nn.Parameter]]:
    """The model made ready for the arm: what manages it, and what is trained."""
    if neurons is None:
        return None, list((model.head if settings.method == "head" else model).parameters())
    if settings.method == "lora":  # as many numbers as the neurons would have
        budget = NeuronFineTuning(copy.deepcopy(model), neurons).trainable_count()
        low_rank = LowRankFineTuning(model, budget=budget)
        return low_rank, list(low_rank.parameters())
    tuned = NeuronFineTuning(model, neurons)
    return tuned, list(tuned.parameters())


def record(neurons: NeuronSet, run: Run) -> None:
    """Where the chosen neurons sit: layer by kind of weight."""
    for name, share in neurons.table().items():
        layer, kind = name.removeprefix("layers.").split(".", 1)
        run.record(layer=int(layer), kind=kind.removesuffix(".weight"), share=share)


def smoke(settings: Settings) -> Settings:
    """A few steps of a tiny model."""
    return replace(
        settings, train=40, test=10, steps=3, probe_steps=2, batch_size=4, d_model=32, num_layers=1, base_steps=2
    )


CHOICES = ("neft-3", "neft-6", "neft-12")
STUDY = Study(
    paper=Paper(
        "Let's Focus on Neuron: Neuron-Level Supervised Fine-tuning for Large Language Model",
        "Xu et al.", 2024, "2403.11621",
    ),
    trial=trial,
    arms={
        "full": Settings(),
        "neft-3": Settings("sensitive", 0.03, lr=1e-2),
        "neft-6": Settings("sensitive", lr=1e-2),
        "neft-12": Settings("sensitive", 0.12, lr=5e-3),
        "random-6": Settings("random", lr=2e-2),
        "random-matched": Settings("random-matched", lr=1e-2),
        "gradient-6": Settings("gradient", lr=5e-3),
        "lora": Settings("lora", lr=5e-3),
        "head-only": Settings("head", lr=1e-2),
    },
    scales={
        "smoke": smoke,
        "small": {},
        "paper": {"steps": 400, "batch_size": 32, "d_model": 96, "num_layers": 4, "base_steps": 6_000},
    },
    claims=[
        Claim(
            "neurons chosen by similarity beat random ones, as many or of as many numbers", "abstract",
            all_of(
                difference("token_accuracy", "neft-6", "random-6") > 0.01,
                difference("token_accuracy", "neft-6", "random-matched") > 0.01,
            ),
        ),
        Claim(
            "training 6 % of the neurons is as good as training everything", "abstract",
            difference("token_accuracy", "neft-6", "full") > -0.02,
        ),
        Claim(
            "training 6 % of the neurons is better than training everything", "abstract",
            difference("token_accuracy", "neft-6", "full") > 0.0,
        ),
        Claim(
            "training 12 % of the neurons is better than LoRA", "abstract",
            difference("token_accuracy", "neft-12", "lora") > 0.0,
        ),
        Claim(
            "it forgets at least a fifth less of the language than full fine-tuning", "discussion",
            ratio("forgetting", "neft-6", "full") < 0.8,
        ),
        Claim(
            "two halves of the data find the same neurons, three times more than by chance", "analysis of neurons",
            value("overlap_over_chance", "neft-6") > 3.0,
        ),
    ],
    figures=[
        Scatter("What a trained number buys", x="trainable_share", y="token_accuracy"),
        Scatter("Learning against forgetting", x="forgetting", y="token_accuracy"),
        Heatmap("Where the sensitive neurons sit", x="layer", y="kind", value="share", arms=CHOICES),
        Curve("Training loss", x="step", y="train_loss"),
        Bars("Words that are right to the last character", metric="words_right"),
    ],
    seeds=(3, 8),
)  # fmt: skip
