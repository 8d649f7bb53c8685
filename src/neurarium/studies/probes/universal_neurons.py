"""Few neurons of a language model come again from another seed, and those that do are the ones with a plain meaning.

Gurnee, Horsley, Guo and others correlated every MLP neuron of a GPT-2 with those of four siblings of other seeds
over 100 million tokens, took off what a random basis gives, and called what stays above 0.5 universal: 1 to 5 % of
them. These have skewed, heavy-tailed activations, larger weights and mostly a simple meaning; their output weights
show what they do: predict few tokens, suppress few, or set the entropy.

Small: byte-level GPTs of two layers (width 64, 256 rectifier neurons each) on a megabyte of film plots and reviews, a
model and a sibling, 400 steps of 16 sequences of 64 bytes; correlations over 60,000 bytes of held-out text.
``other-text`` correlates the model with one that has read Python's standard library instead; ``untrained`` are fresh
networks. Where fewer than a twentieth of the neurons are universal, the twentieth of most excess is described. The
entropy test multiplies the neuron of the highest entropy score by four and compares the change of the
mean entropy with that of 20 random neurons of the same layer, each moved as far along its own output weights.
Paper: a GPT-2-sized model on all of the text, three siblings; Stanford's five GPT-2s are not to be had from here, and
any Hugging Face decoders can be given to `excess_correlation` in their place.
"""

import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import load_text, token_features
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, value
from neurarium.models import CausalTransformer
from neurarium.probes import (
    ExcessCorrelation,
    NeuronStatistics,
    excess_correlation,
    explain_neurons,
    intervene,
    neuron_roles,
    neuron_statistics,
)

NEWLINE = 10


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    siblings: Literal["same-text", "other-text", "untrained"] = "same-text"
    text: Literal["film", "python"] = "film"
    number: int = 1
    steps: int = 400
    batch_size: int = 16
    context: int = 64
    width: int = 64
    layers: int = 2
    hidden: int = 256
    probed: int = 60_000
    others: int = 20


def read(name: str, held_out: bool) -> Tensor:
    """Bytes of a text: its first nine tenths, or the rest."""
    if name == "film":
        sentences = [text for kind in ("subj", "mr") for text, _ in load_text(kind).train]
        random.Random(0).shuffle(sentences)
        content = "\n".join(sentences).encode()
    else:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        content = b"\n".join(file.read_bytes() for file in files)[:2_000_000]
    cut = len(content) * 9 // 10
    return torch.frombuffer(bytearray(content[cut:] if held_out else content[:cut]), dtype=torch.uint8).long()


def train(settings: Settings, text: str, seed: int, run: Run) -> CausalTransformer:
    """A decoder from a seed of its own, on its own batches."""
    torch.manual_seed(seed)
    model = CausalTransformer(
        256, settings.width, 4, settings.layers, settings.hidden, settings.context, block="gpt2"
    ).to(run.device)
    if settings.siblings == "untrained":
        return model
    content = read(text, held_out=False)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, settings.steps, pct_start=0.1)
    for _ in run.track(range(settings.steps), "steps"):
        starts = torch.randint(len(content) - settings.context - 1, (settings.batch_size, 1), generator=generator)
        rows = content[starts + torch.arange(settings.context + 1)].to(run.device)
        loss = cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def trial(settings: Settings, run: Run) -> Metrics:
    """Train, correlate, describe, intervene."""
    other = "python" if settings.siblings == "other-text" else settings.text
    number = 1 if settings.siblings == "other-text" else settings.number
    model = train(settings, settings.text, run.seed * 100, run)
    siblings: list[nn.Module] = [train(settings, other, run.seed * 100 + 1 + k, run) for k in range(number)]
    text = read(settings.text, held_out=True)[: settings.probed].to(run.device)
    rows = text[: len(text) // settings.context * settings.context].view(-1, settings.context)
    batches = list(rows.split(64))

    found = excess_correlation(model, siblings, batches, exclude=[NEWLINE], seed=run.seed)
    excess = found.excess.cpu()
    q = excess.quantile(torch.tensor([0.5, 0.99], dtype=excess.dtype)).tolist()
    counts = found.partner_layers(0.3)
    metrics = {
        "universal_share": float((excess > 0.5).double().mean()),
        "share_above_.3": float((excess > 0.3).double().mean()),
        "mean_excess": float(excess.mean()),
        "median_excess": q[0],
        "high_excess": q[1],
        "best": float(found.best.mean()),
        "baseline": float(found.baseline.mean()),
        "same_depth": float(counts.diagonal().sum() / counts.sum()) if int(counts.sum()) else float("nan"),
    }
    ordered = excess.sort(descending=True).values
    for place in range(0, len(ordered), max(len(ordered) // 64, 1)):
        run.record(share=place / len(ordered), excess=float(ordered[place]))
    if settings.siblings != "same-text":
        return metrics
    statistics = neuron_statistics(model, batches, exclude=[NEWLINE])
    vocabulary = [chr(i) if 32 <= i < 127 else "\n" if i == NEWLINE else "" for i in range(256)]
    common = rows.flatten().bincount(minlength=256).argsort(descending=True)[:30].tolist()
    features = token_features(vocabulary, common=common, context=settings.context)
    explained = explain_neurons(model, batches, features, exclude=[NEWLINE]).reduction
    return (
        metrics | portrait(found, statistics, explained) | entropy_test(settings, model, statistics, batches[:4], run)
    )


def portrait(found: ExcessCorrelation, statistics: NeuronStatistics, explained: Tensor) -> dict[str, float]:
    """What tells universal neurons (the twentieth of most excess, where fewer are) from the rest; without dead ones."""
    columns = {name: column.cpu() for name, column in statistics.columns.items()}
    live = columns["kurtosis"].isfinite()
    chosen = found.excess.cpu() > min(0.5, float(found.excess[live].quantile(0.95)))

    def gain(column: Tensor) -> float:
        return float(column[live & chosen].median() - column[live & ~chosen].median())

    excess = found.excess.cpu()[live]
    return {
        "kurtosis_gain": gain(columns["kurtosis"]),
        "skew_gain": gain(columns["skew"]),
        "sparsity_gain": gain(columns["sparsity"]),
        "bias_gain": gain(columns["bias"]),
        "explained_gain": float(explained[live & chosen].mean() - explained[live & ~chosen].mean()),
        "norm_correlation": float(torch.corrcoef(torch.stack([excess, columns["penalty"][live].cpu()]))[0, 1]),
    }


def entropy_test(
    settings: Settings, model: nn.Module, statistics: NeuronStatistics, batches: list[Tensor], run: Run
) -> dict[str, float]:
    """Change of the mean entropy by the neuron of the highest score, over that by random ones moved as far."""
    mean, length = statistics.columns["mean"].cpu(), statistics.columns["w_out"].cpu()
    push = mean * length  # how far along its output weights a neuron moves on average where it is doubled
    able = push > 0.05 * push.median()
    score = torch.where(able, neuron_roles(model).entropy_score.cpu(), 0.0)
    top = int(score.argmax())
    layer = top // settings.hidden

    def change(neuron: int, factor: float) -> float:
        place = {f"layers.{layer}.linear2:input": [neuron % settings.hidden]}
        return intervene(model, place, batches, "scale", (factor,), exclude=[NEWLINE]).entropy_change

    same = [i for i in range(layer * settings.hidden, (layer + 1) * settings.hidden) if able[i] and i != top]
    drawn = run.rng(1).permutation(same)[: settings.others].tolist()
    others = [change(i, 1 + 3 * float(push[top] / push[i])) for i in drawn]
    own = change(top, 4.0)
    middle = float(torch.tensor(others).median())
    return {"entropy_change": own, "entropy_change_others": middle, "entropy_ratio": own / max(middle, 1e-9)}


STUDY = Study(
    paper=Paper(
        "Universal Neurons in GPT2 Language Models",
        "Gurnee, Horsley, Guo, Kheirkhah, Sun, Hathaway, Nanda, Bertsimas",
        2024,
        arxiv="2401.12181",
    ),
    trial=trial,
    arms={
        "siblings": Settings(),
        "other-text": Settings(siblings="other-text"),
        "untrained": Settings(siblings="untrained"),
    },
    scales={
        "smoke": {
            "text": "python",
            "steps": 3,
            "probed": 2000,
            "width": 16,
            "hidden": 32,
            "others": 2,
            "batch_size": 4,
        },
        "paper": {
            "number": 3,
            "steps": 20_000,
            "batch_size": 128,
            "context": 256,
            "width": 768,
            "layers": 12,
            "hidden": 3072,
            "probed": 1_000_000,
        },
    },
    claims=[
        Claim(
            "Some neurons are universal, and most are not; far more than in untrained networks",
            "abstract, section 3",
            all_of(
                value("universal_share", "siblings") > 0,
                value("universal_share", "siblings") < 0.25,
                value("universal_share", "siblings") - value("universal_share", "untrained") * 3 > 0.002,
            ),
            published="4.16 % (GPT2-small), 1.23 % (GPT2-medium), 1.26 % (Pythia-160M)",
        ),
        Claim(
            "Universal neurons have heavier tails and more skew than the rest",
            "section 4.1, Fig. 4",
            all_of(value("kurtosis_gain", "siblings") > 0, value("skew_gain", "siblings") > 0),
        ),
        Claim(
            "A simple property of the tokens explains a tenth more of the variance of universal neurons than of others",
            "section 4.2",
            value("explained_gain", "siblings") > 0.1,
        ),
        Claim(
            "Excess correlation is skewed: near nothing for most neurons, large for few",
            "section 3, Fig. 2",
            all_of(value("high_excess", "siblings") > 0.35, value("median_excess", "siblings") < 0.15),
        ),
        Claim(
            "The neuron of the highest entropy score moves the entropy more than others, pushed as far, do",
            "section 5.2, Fig. 7",
            value("entropy_ratio", "siblings") > 3,
        ),
    ],
    figures=[
        Curve("Excess correlation, sorted: a few universal neurons, a long tail of others", x="share", y="excess"),
        Bars("Share of universal neurons (excess above 0.5)", metric="universal_share"),
        Scatter("Best correlation against what a random basis gives", x="baseline", y="best"),
    ],
    seeds=(3, 8),
)
