"""Networks that learn a group's product do it with representations; which ones depends on the seed.

Chughtai et al. trained one-layer networks and transformers on the products of seven groups and read the algorithm off
them: embeddings hold matrices of a few irreducible representations, the hidden layer multiplies them, the read-out
takes traces. Every network does so (weak universality), but with representations, and in an order of learning, that
differ from seed to seed (strong universality fails).

Small: S_4 (24 elements) for an MLP, a bilinear network and an MLP without weight decay, which only memorises, and Z_31,
whose 15 frequencies leave a real choice; two networks from different initial weights per seed, trained on the same
pairs. AdamW at 5e-3 with decay 1 on .8 of all pairs (.6 for the bilinear network), 2,000 steps (1,200 for Z_31), all
chosen on seed 100. Paper scale: S_5 and Z_113 with the paper's sizes, rates and numbers of steps; ``--set group=A5``
(or D59, D61, S6, Z118) and ``--set network=transformer`` give the rest of its table. Departures: representations are
real, so a frequency of Z_n is one representation of two dimensions; similarities are taken on centred logits; the
transformer is left to the paper scale, since it does not leave memorisation within seconds on so small a group.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from neurarium.data import FiniteGroup, Split, word_task
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.models import GroupMLP, GroupTransformer, HadamardNet
from neurarium.probes import ablate_representations, representation_evidence, universality
from neurarium.studies._grokking import grok, group_of, log_spaced, scores

HIDDEN = {"unembed:input": "ab"}


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    network: Literal["mlp", "bilinear", "transformer"] = "mlp"
    group: str = "S4"
    networks: int = 2
    width: int = 128
    embedding: int = 64
    train_fraction: float = 0.8
    weight_decay: float = 1.0
    learning_rate: float = 5e-3
    steps: int = 2000
    checkpoints: int = 16


def build(settings: Settings, order: int, seed: int) -> nn.Module:
    """A network with its own initial weights."""
    generator = torch.Generator().manual_seed(seed)
    if settings.network == "mlp":
        return GroupMLP(order, settings.width, settings.embedding, generator=generator)
    if settings.network == "bilinear":
        return HadamardNet(order, settings.width, generator=generator)
    return GroupTransformer(order, settings.width, generator=generator)


def train(settings: Settings, group: FiniteGroup, task: Split, seed: int, device: str) -> list[nn.Module]:
    """Checkpoints of a network's training, the last of which is the network."""
    model = build(settings, group.order, seed).to(device)
    kept: list[nn.Module] = []
    at = log_spaced(settings.steps, settings.checkpoints)
    grok(
        model, task, settings.steps, settings.learning_rate, settings.weight_decay, at,
        lambda step: kept.append(copy.deepcopy(model)),
    )  # fmt: skip
    return kept


def trial(settings: Settings, run: Run) -> Metrics:
    """Train networks from different weights, and take each apart."""
    group = group_of(settings.group)
    generator = torch.Generator().manual_seed(run.seed)
    task = word_task(group, "ab", settings.train_fraction, generator=generator).to(run.device)
    runs = [
        train(settings, group, task, 1000 * run.seed + i, run.device)
        for i in run.track(range(settings.networks), "networks")
    ]
    together = universality(runs, group)
    found = [taken_apart(models[-1], group, task) for models in runs]
    follow(settings, runs[0], group, task, together.key[0], run)
    picture(runs[0][-1], group, run)
    for i, row in enumerate(together.similarity.tolist()):
        for place, similarity in enumerate(row[1:], start=1):
            run.record(representation=place, similarity=similarity, network=f"seed {run.seed}, network {i}")
    metrics = {name: sum(part[name] for part in found) / len(found) for name in found[0]}
    widest = (together.similarity.amax(0) - together.similarity.amin(0))[
        torch.tensor([irrep.dim == max(r.dim for r in group.irreps) for irrep in group.irreps])
    ]
    return metrics | {
        "key_overlap": together.jaccard,
        "similarity_gap": float(widest.max()),
        "order_correlation": together.order_correlation,
    }


def taken_apart(model: nn.Module, group: FiniteGroup, task: Split) -> dict[str, float]:
    """All evidence for one network."""
    found = representation_evidence(model, group, hidden="unembed:input")

    def removal(*names: str) -> float:
        return ablate_representations(model, group, remove=names, at=HIDDEN).increase

    ranked = sorted(found.irreps[1:], key=lambda name: float(found.similarity[found.irreps.index(name)]))
    others = [name for name in found.irreps[1:] if name not in found.key]
    restricted = torch.tensor([found.loss, found.restricted_loss]).clamp_min(1e-12).log10()
    key = [found.irreps.index(name) for name in found.key]
    return {
        "test_accuracy": scores(model, task.test.x, task.test.y)[1],
        "logit_fve": found.logit_fve,
        "key_count": len(found.key),
        "faithful": float(found.faithful),
        "excluded_strongest": removal(ranked[-1]),
        "excluded_weakest": removal(ranked[0]),
        "excluded_key": removal(*found.key),
        "excluded_other": removal(*others),
        "restriction_gain": float(restricted[0] - restricted[1]),
        "unembed_key_share": float(found.tables["unembed"][key].sum()),
        "hidden_product_share": float(found.hidden["ab"][1:].sum()),
    }


def follow(
    settings: Settings, models: list[nn.Module], group: FiniteGroup, task: Split, key: tuple[str, ...], run: Run
) -> None:
    """Progress measures along training, with the representations that are key in the end."""
    for step, model in zip(log_spaced(settings.steps, settings.checkpoints), models):
        found = representation_evidence(model, group)
        train_loss, train_accuracy = scores(model, task.train.x, task.train.y)
        test_loss, test_accuracy = scores(model, task.test.x, task.test.y)
        run.record(
            step=step, train_loss=train_loss, test_loss=test_loss, train_accuracy=train_accuracy,
            test_accuracy=test_accuracy, logit_fve=found.logit_fve,
            excluded_loss=ablate_representations(model, group, remove=key, at=HIDDEN).loss,
            squared_weights=sum(float(p.detach().square().sum()) for p in model.parameters()),
        )  # fmt: skip
        for name, similarity in zip(found.irreps[1:], found.similarity[1:].tolist()):
            run.record(step=step, grown=similarity, irrep=name)


@torch.no_grad()
def picture(model: nn.Module, group: FiniteGroup, run: Run) -> None:
    """Mean logits by product and answer, elements of a class side by side."""
    if group.order > 40:
        return
    pairs = torch.cartesian_prod(*[torch.arange(group.order)] * 2).to(run.device)
    logits = model(pairs).cpu()
    centred = logits - logits.mean(1, keepdim=True)
    mean = torch.zeros(group.order, group.order).index_add_(0, group.table.flatten(), centred) / group.order
    order = group.classes.argsort(stable=True)
    for y, row in enumerate(mean[order][:, order].tolist()):
        for x, logit in enumerate(row):
            run.record(answer=x, product=y, logit=logit)


GROKKED = ("mlp", "bilinear", "cyclic")


def paper_scale(settings: Settings) -> Settings:
    """The paper's sizes."""
    cyclic = settings.group == "Z31"
    group, fraction = ("Z113", 0.3) if cyclic else ("S5", 0.4)
    return dataclasses.replace(
        settings, group=group, train_fraction=fraction, networks=4, embedding=256, learning_rate=1e-3, steps=250_000,
        checkpoints=60,
    )  # fmt: skip


def smoke(settings: Settings) -> Settings:
    """A few steps in groups of six and seven elements."""
    group = "Z7" if settings.group == "Z31" else "S3"
    return dataclasses.replace(settings, group=group, width=16, embedding=8, steps=20, checkpoints=4)


STUDY = Study(
    paper=Paper(
        "A Toy Model of Universality: Reverse Engineering How Networks Learn Group Operations",
        "Chughtai, Chan, Nanda",
        2023,
        arxiv="2302.03025",
    ),
    trial=trial,
    arms={
        "mlp": Settings(),
        "bilinear": Settings(network="bilinear", train_fraction=0.6),
        "memoriser": Settings(weight_decay=0.0),
        "cyclic": Settings(group="Z31", steps=1200),
    },
    scales={"smoke": smoke, "paper": paper_scale},
    claims=[
        Claim(
            "Networks of both kinds learn the product from a part of all pairs",
            "section 5",
            all_of(value("test_accuracy", "mlp") > 0.95, value("test_accuracy", "bilinear") > 0.95),
        ),
        Claim(
            "Traces of key representations explain the logits of a network that generalises, not of one that memorises",
            "section 5.1",
            all_of(value("logit_fve", "mlp") > 0.6, difference("logit_fve", "mlp", "memoriser") > 0.25),
        ),
        Claim(
            "Taking the strongest representation out of the hidden layer harms more than taking out the weakest",
            "section 5.3",
            value("excluded_strongest", "mlp") - value("excluded_weakest", "mlp") > 0.1,
        ),
        Claim(
            "Taking out all key representations of the hidden layer ruins a network; taking out all others does not",
            "section 5.3",
            value("excluded_key", "cyclic") - value("excluded_other", "cyclic") > 0.1,
        ),
        Claim(
            "Logits restricted to the key representations have a lower loss than the network's own",
            "section 5.3",
            all_of(value("restriction_gain", "mlp") > 0, value("restriction_gain", "cyclic") > 0),
        ),
        Claim(
            "Weak universality: every network that generalises uses representations that tell all elements apart",
            "section 6",
            all_of(
                *(value("faithful", arm) > 0.99 for arm in GROKKED), *(value("logit_fve", arm) > 0.6 for arm in GROKKED)
            ),
        ),
        Claim(
            "Strong universality fails: networks of other initial weights differ in similarities and in key sets",
            "section 6",
            all_of(value("similarity_gap", "mlp") > 0.1, value("key_overlap", "cyclic") < 0.75),
        ),
    ],
    figures=[
        Curve(
            "Which representations each network uses", x="representation", y="similarity", series="network",
            arms=("mlp", "cyclic"), note="Similarity of the logits to each representation's traces.",
        ),
        Curve("Representations appear", x="step", y="grown", series="irrep", log_x=True, arms=("mlp", "bilinear")),
        Curve("Test accuracy", x="step", y="test_accuracy", log_x=True),
        Curve("Variance of the logits explained by key representations", x="step", y="logit_fve", log_x=True),
        Curve(
            "Loss without the key representations in the hidden layer", x="step", y="excluded_loss", log_x=True,
            log_y=True,
        ),
        Curve("Loss on unseen pairs", x="step", y="test_loss", log_x=True, log_y=True),
        Curve("Sum of squared weights", x="step", y="squared_weights", log_x=True, log_y=True),
        Heatmap(
            "Mean logits by product and answer", x="answer", y="product", value="logit", arms=("mlp", "memoriser"),
            note="Elements of a conjugacy class stand side by side.",
        ),
        Bars("Share of explained variance", metric="logit_fve"),
    ],
    seeds=(3, 6),
)  # fmt: skip
