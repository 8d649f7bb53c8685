"""Annotators of known competence: adversaries, specialists of regions or classes, common people, and copies of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("independent", "interdependent", "random-interdependent", "random-independent", "inductive")
CLUSTERS = 10


@dataclass(frozen=True)
class SimulatedAnnotators:
    """What simulated annotators said, and what they are.

    Args:
        annotations: int64 [examples, annotators].
        attributes: float32 [annotators, attributes]: their type one-hot, their accuracy per class and per region,
            standardised; copies have those of their original.
        types: "adversarial", "cluster", "class", "common" or "random", one per annotator.
        original: int64 [annotators]: whom each is a copy of; itself where of nobody.
    """

    annotations: Tensor
    attributes: Tensor
    types: tuple[str, ...]
    original: Tensor


def simulate_annotators(
    x: Tensor,
    y: Tensor,
    kind: str = "independent",
    *,
    extra: int | None = None,
    generator: torch.Generator | None = None,
) -> SimulatedAnnotators:
    """The sets of annotators of Herde, Huseljic and Sick (2023, section 5.1).

    The ten of ``"independent"``: one adversary who is right in 5 % of all cases; two who are right in 95 % of the cases
    in five of ten regions (of k-means) and else in 5 %; one of whom the same holds for half of the classes; six common
    people, whose accuracy in each region is drawn between chance and 1. Errors are uniform over the other classes.
    ``"interdependent"`` adds 10 copies each of the adversary, a region's and the classes' specialist;
    ``"random-interdependent"`` 90 copies of one who guesses; ``"random-independent"`` 90 who guess, each alone.
    ``"inductive"`` has ten of each of the ten, all different.

    Args:
        x: inputs [examples, ...], for the regions.
        y: true classes [examples], from 0.
        kind: one of the five.
        extra: copies or guessers in the place of 10 or 90.
        generator: of the draws, on the CPU.

    Raises:
        ValueError: an unknown kind, or fewer than two classes.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    y = y.detach().cpu().long()
    classes = int(y.max()) + 1
    if classes < 2:
        raise ValueError("y must hold at least two classes")
    regions = regions_of(x, generator)
    groups = 10 if kind == "inductive" else 1
    types: list[str] = (
        ["adversarial"] * groups + ["cluster"] * 2 * groups + ["class"] * groups + ["common"] * 6 * groups
    )
    tables = [competence(who, classes, generator) for who in types]
    if kind in ("random-interdependent", "random-independent"):
        guessers = 1 if kind == "random-interdependent" else 90 if extra is None else extra
        types += ["random"] * guessers
        tables += [torch.full((CLUSTERS, classes), 1 / classes)] * guessers
    accuracy = torch.stack(tables)  # [annotators, regions, classes]
    right = torch.rand(len(y), len(types), generator=generator) < accuracy[:, regions, y].T
    wrong = torch.randint(1, classes, right.shape, generator=generator)
    said = torch.where(right, y[:, None], (y[:, None] + wrong) % classes)
    original = torch.arange(len(types))
    if kind == "interdependent":
        original = torch.cat([original, torch.tensor([0, 1, 3]).repeat(10 if extra is None else extra)])
    if kind == "random-interdependent":
        original = torch.cat([original, torch.full(((90 if extra is None else extra) - 1,), len(types) - 1)])
    names = ("adversarial", "cluster", "class", "common", "random")
    one_hot = torch.tensor([[float(who == name) for name in names] for who in types])
    attributes = torch.cat([one_hot, accuracy.mean(1), accuracy.mean(2)], 1)
    attributes = (attributes - attributes.mean(0)) / attributes.std(0).clamp_min(1e-6)
    every = tuple(types[i] for i in original.tolist())
    return SimulatedAnnotators(said[:, original], attributes[original], every, original)


def competence(who: str, classes: int, generator: torch.Generator | None) -> Tensor:
    """Probability of a right label, [regions, classes]."""
    table = torch.full((CLUSTERS, classes), 0.05)
    if who == "cluster":
        table[torch.randperm(CLUSTERS, generator=generator)[: CLUSTERS // 2]] = 0.95
    elif who == "class":
        table[:, torch.randperm(classes, generator=generator)[: max(1, classes // 2)]] = 0.95
    elif who == "common":
        each = 1 / classes + (1 - 1 / classes) * torch.rand(CLUSTERS, generator=generator)
        table = each[:, None].repeat(1, classes)
    return table


def regions_of(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Which of ten regions each example is in, by k-means."""
    from sklearn.cluster import KMeans  # half a second to import

    seed = int(torch.randint(2**31, (1,), generator=generator))
    flat = x.detach().cpu().float().flatten(1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct examples than regions
        found = KMeans(min(CLUSTERS, len(flat)), n_init=2, random_state=seed).fit_predict(flat)
    return torch.from_numpy(found).long()


def mask_annotations(annotations: Tensor, fraction: float, generator: torch.Generator | None = None) -> Tensor:
    """A copy in which a fraction of the labels, drawn at random, is -1.

    Args:
        annotations: [examples, annotators].
        fraction: from 0 to 1.
        generator: of the draws, on the CPU.

    Raises:
        ValueError: a fraction outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be from 0 to 1, not {fraction}")
    order = torch.randperm(annotations.numel(), generator=generator)
    masked = annotations.flatten().clone()
    masked[order[: round(fraction * annotations.numel())].to(annotations.device)] = -1
    return masked.view_as(annotations)
