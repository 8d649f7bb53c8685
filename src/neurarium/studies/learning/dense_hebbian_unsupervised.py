"""A dense Hebbian network finds hidden patterns in unlabelled examples; at high load that takes far more of them.

The paper (Agliari et al., 2023) stores every noisy example by itself in a network of P-body couplings. Hidden patterns
emerge as its attractors once there are enough examples, as a phase diagram predicts; near saturation the number needed
grows as r^(-2P) in their quality r, against r^(-2) with a teacher who says which examples belong together.

Small: P = 2, N = 300, K = 30 patterns, r = 0.3 and 0.5, 5 to 160 examples each; and K = 1 at the same r, averaged over
30 data sets. P = 4, N = 80, K = 2,560 (load 0.005), r = 0.7 and 0.5, 2 to 32 examples. Temperature 0.2; 8 replicas on
as many patterns, 32 (or all 30) where simulation and theory are compared, 20 Glauber sweeps and 10 that are averaged.
The number of examples needed for an overlap of 0.9 is read off one parallel step from the pattern, as in the theory of
one step: for K = 30 and r = 0.3 theory has no relaxed retrieval state up to several hundred examples. The same step
compares different neurons with plain powers at r = 0.5, where neither retrieves. ``theory_error`` (P = 4) and
``pair_error`` (P = 2) are the largest differences of relaxed overlaps from the replica-symmetric ones where M r^2P > 1
and theory has a retrieval state. The arms share patterns and examples: ``supervised`` has labels, ``all-contact`` uses
plain powers for P = 4 where the others let indices differ, ``kmeans`` clusters the examples of the discovery task (N =
300, K = 5, r = 0.4, M = 60), which the network does by relaxing from its examples.

Paper: N = 1,000, and the digits of MNIST as unlabelled examples (``class_means``: how many of the ten class means some
attractor matches). The paper's own sizes and figure parameters were not available to us.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurarium.data import binarise, diluted_patterns, load, noisy_examples
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.learning import HebbianMemory, discover_archetypes
from neurarium.studies.learning._dense_hebbian import crossing, loss_identity, overlap, settled, taught
from neurarium.theory import replica_symmetric

CONTACTS: dict[str, Literal["all", "distinct"]] = {"all-contact": "all"}


@dataclass(frozen=True)
class Settings:
    """An arm and its sizes."""

    method: Literal["unsupervised", "supervised", "all-contact", "kmeans"] = "unsupervised"
    pair_neurons: int = 300
    pair_patterns: int = 30
    pair_examples: tuple[int, ...] = (5, 10, 20, 40, 80, 160)
    single_sets: int = 30  # data sets over which the network of one pattern is averaged
    dense_neurons: int = 80
    dense_load: float = 0.005
    dense_examples: tuple[int, ...] = (2, 4, 8, 16, 32)
    temperature: float = 0.2
    replicas: int = 8
    compared: int = 32  # replicas where simulation and theory are compared
    sweeps: int = 20
    averaged: int = 10  # sweeps over which a mean state is taken
    discovery_neurons: int = 300
    discovery_examples: int = 60
    map_steps: int = 16
    digits: int = 0  # images of MNIST that are learned; 0 leaves them out


def trial(settings: Settings, run: Run) -> Metrics:
    """Discovery for every arm; overlaps against examples for the networks, with theory."""
    metrics = dict(discovery(settings, torch.Generator().manual_seed(run.seed)))
    if settings.digits:
        metrics |= digits(settings, torch.Generator().manual_seed(run.seed))
    if settings.method != "kmeans":
        metrics |= dense(settings, run)
    if settings.method in ("supervised", "unsupervised"):
        metrics |= pairs(settings, run)
        phase_map(settings, run)
    if settings.method == "unsupervised":
        metrics["loss_identity"] = loss_identity(run.seed)
        landscape(settings, run)
    return metrics


def pairs(settings: Settings, run: Run) -> Metrics:
    """P = 2: examples needed at high load and for one pattern, and relaxed overlaps against theory."""
    teacher = settings.method == "supervised"
    n, k, counts = settings.pair_neurons, settings.pair_patterns, settings.pair_examples
    needed: dict[tuple[str, float], float] = {}
    errors = [0.0]
    for r in run.track((0.3, 0.5), "qualities"):
        one_step, single = [], []
        for count in counts:
            g = torch.Generator().manual_seed(1000 * run.seed + count)
            hidden, _, memory = taught(n, k, r, count, g, order=2, teacher=teacher)
            one_step.append(overlap(memory.field(hidden).sign(), hidden))
            if count * r**4 > 1:
                errors.append(pair_error(settings, memory, hidden, r, count, g))
            single.append(0.0)
            for number in range(settings.single_sets):
                g = torch.Generator().manual_seed(1000 * (100 * run.seed + number) + count)
                hidden, _, memory = taught(n, 1, r, count, g, order=2, teacher=teacher)
                single[-1] += overlap(memory.field(hidden).sign(), hidden) / settings.single_sets
            run.record(examples=count, first_step=one_step[-1], load=f"r = {r}, {k} patterns")
            run.record(examples=count, first_step=single[-1], load=f"r = {r}, one pattern")
        needed["high", r], needed["low", r] = crossing(counts, one_step, 0.9), crossing(counts, single, 0.9)
    high, low = math.log(needed["high", 0.3]), math.log(needed["low", 0.3])
    return {
        "pair_error": max(errors),
        "log_needed_high": high,
        "log_needed_low": low,
        "needed_slope": (high - math.log(needed["high", 0.5])) / math.log(0.5 / 0.3),
    }


def pair_error(
    settings: Settings, memory: HebbianMemory, hidden: Tensor, quality: float, count: int, g: torch.Generator
) -> float:
    """Relaxed overlap against the replica-symmetric one; 0 where theory has no retrieval state."""
    theory = replica_symmetric(
        2, len(hidden) / memory.num_neurons, settings.temperature, quality, count, normalization="entropy",
        training="supervised" if settings.method == "supervised" else "unsupervised",
    )  # fmt: skip
    if float(theory.m) < 0.1:
        return 0.0
    start = hidden[: settings.compared]
    state = settled(memory, start, settings.temperature, settings.sweeps, settings.averaged, g)
    return abs(overlap(state, start) - float(theory.m))


def dense(settings: Settings, run: Run) -> Metrics:
    """P = 4: relaxed overlaps with the pattern and with its examples against the number of examples."""
    teacher = settings.method == "supervised"
    contact = CONTACTS.get(settings.method, "distinct")
    n = settings.dense_neurons
    k = round(settings.dense_load * n**3)
    errors, metrics = [0.0], {}
    for r in (0.7, 0.5):
        for count in settings.dense_examples if r == 0.7 else settings.dense_examples[-1:]:
            g = torch.Generator().manual_seed(1000 * run.seed + count)
            hidden, shown, memory = taught(n, k, r, count, g, order=4, contact=contact, teacher=teacher)
            comparable = count * r**8 > 1
            start = hidden[: settings.compared if comparable else settings.replicas]
            if r == 0.5:
                metrics["first_step_low_quality"] = overlap(memory.field(start).sign(), start)
                continue
            state = settled(memory, start, settings.temperature, settings.sweeps, settings.averaged, g)
            m = overlap(state, start)
            theory = replica_symmetric(
                4, settings.dense_load, settings.temperature, r, count, normalization="entropy",
                training="supervised" if teacher else "unsupervised", contact=contact,
            )  # fmt: skip
            expected = float(theory.m)
            own = float((shown[: len(state)] * state.unsqueeze(1)).mean())
            metrics |= {"m": m, "example_overlap": own}  # of the largest number of examples
            if comparable and expected > 0.1:
                errors.append(abs(m - expected))
            run.record(examples=count, overlap=m, of="pattern")
            run.record(examples=count, overlap=expected, of="pattern, theory")
            run.record(examples=count, overlap=own, of="its examples")
    return metrics | {"theory_error": max(errors)}


def discovery(settings: Settings, generator: torch.Generator) -> Metrics:
    """How many of five hidden patterns are found in unlabelled examples."""
    n, count = settings.discovery_neurons, settings.discovery_examples
    hidden = diluted_patterns(5, n, generator=generator)
    examples = noisy_examples(hidden, 0.4, count, generator)
    flat = examples.flatten(0, 1)
    if settings.method == "kmeans":
        from sklearn.cluster import KMeans

        means = KMeans(5, n_init=10, random_state=0).fit(flat.numpy()).cluster_centers_
        states = torch.from_numpy(means).float().sign()
        return {"found": float(((hidden @ states.T).abs() / n > 0.9).any(1).sum()), "attractors": 5.0}
    memory = HebbianMemory(n, quality=0.4, num_patterns=5)
    labels = torch.arange(5).unsqueeze(1).expand(5, count)
    memory.learn(examples, labels if settings.method == "supervised" else None)
    archetypes = discover_archetypes(memory, flat, generator=generator)
    return {"found": float(archetypes.found(hidden).sum()), "attractors": float(len(archetypes))}


def digits(settings: Settings, generator: torch.Generator) -> Metrics:
    """How many class means of binarised digits some attractor of the unlabelled images agrees with."""
    train = load("mnist").train.subset(settings.digits, 0)
    spins = binarise(train.x)
    memory = HebbianMemory(spins.shape[1], 4, center=True, num_patterns=10)
    memory.learn(spins, train.y if settings.method == "supervised" else None)
    means = torch.stack([spins[train.y == c].mean(0) for c in range(10)]) - spins.mean(0)
    return {
        "class_means": float(discover_archetypes(memory, spins[:300], generator=generator).found(means.sign()).sum())
    }


def landscape(settings: Settings, run: Run) -> None:
    """Energy per neuron on the way from an example to its pattern, for few and many examples."""
    n = settings.dense_neurons
    for count in (settings.dense_examples[0], settings.dense_examples[-1]):
        g = torch.Generator().manual_seed(run.seed)
        hidden, shown, memory = taught(n, 20, 0.7, count, g, order=4, contact="distinct", teacher=False)
        path = [shown[0, 0].clone()]
        for i in (path[0] != hidden[0]).nonzero().flatten().tolist():
            path.append(path[-1].clone())
            path[-1][i] *= -1
        for state, energy in zip(path, memory.energy(torch.stack(path)).tolist(), strict=True):
            run.record(to_pattern=overlap(state, hidden[0]), energy=energy / n, shown=f"{count} examples")


def phase_map(settings: Settings, run: Run) -> None:
    """Theory's overlap for P = 4 over quality and number of examples at the load of the simulation."""
    steps = settings.map_steps
    counts = torch.logspace(0, 3, steps).round()
    qualities = torch.linspace(0.35, 0.95, steps)
    solution = replica_symmetric(
        4, settings.dense_load, settings.temperature, qualities.unsqueeze(1), counts, normalization="entropy",
        training="supervised" if settings.method == "supervised" else "unsupervised", contact="distinct",
        tolerance=1e-4, max_iterations=300,
    )  # fmt: skip
    for i, r in enumerate(qualities.tolist()):
        for j, count in enumerate(counts.tolist()):
            run.record(log10_examples=math.log10(count), quality=r, m=float(solution.m[i, j]))


SMOKE = {
    "pair_neurons": 60, "pair_patterns": 6, "pair_examples": (5, 160), "single_sets": 2, "dense_neurons": 20,
    "dense_examples": (2, 32), "replicas": 2, "compared": 2, "sweeps": 3, "averaged": 2, "discovery_neurons": 60,
    "discovery_examples": 10, "map_steps": 4,
}  # fmt: skip
FULL = {
    "pair_neurons": 1_000, "pair_patterns": 100, "pair_examples": (5, 10, 20, 40, 80, 160, 320, 640),
    "single_sets": 100, "dense_neurons": 120, "dense_examples": (2, 4, 8, 16, 32, 64), "replicas": 32,
    "compared": 128, "sweeps": 100, "averaged": 100, "discovery_neurons": 1_000, "map_steps": 48, "digits": 10_000,
}  # fmt: skip

STUDY = Study(
    paper=Paper(
        "Dense Hebbian neural networks: a replica symmetric picture of unsupervised learning",
        "Agliari et al.", 2023, "2211.14067",
    ),
    trial=trial,
    arms={
        "unsupervised": Settings(),
        "supervised": Settings("supervised"),
        "all-contact": Settings("all-contact"),
        "kmeans": Settings("kmeans"),
    },
    scales={"smoke": SMOKE, "small": {}, "paper": FULL},
    claims=[
        Claim(
            "P = 4: Monte Carlo overlaps are those of theory where the examples suffice", "phase diagram",
            value("theory_error", "unsupervised") < 0.06,
        ),
        Claim("and so are those of pairs", "phase diagram", value("pair_error", "unsupervised") < 0.06),
        Claim(
            "at high load a network without a teacher needs many more examples", "dataset entropy",
            difference("log_needed_high", "unsupervised", "supervised") > 0.3,
        ),
        Claim(
            "with one pattern it needs no more", "low load",
            difference("log_needed_low", "unsupervised", "supervised") < 0.15,
        ),
        Claim(
            "and the worse the examples, the larger the difference", "dataset entropy",
            difference("needed_slope", "unsupervised", "supervised") > 0.4,
        ),
        Claim(
            "energies are functions of squared-error losses", "observables and losses",
            value("loss_identity", "unsupervised") < 1e-10,
        ),
        Claim(
            "products of different neurons retrieve better than plain powers", "energy",
            difference("first_step_low_quality", "unsupervised", "all-contact") > 0,
        ),
        Claim(
            "at least four of five hidden patterns are found without labels", "abstract",
            value("found", "unsupervised") > 3.99,
        ),
        Claim(
            "and no more than one fewer than by k-means", "baseline",
            difference("found", "unsupervised", "kmeans") > -1.01,
        ),
    ],
    figures=[
        Curve(
            "Overlap after one step: the load separates the two trainings, not the number of examples alone",
            x="examples", y="first_step", series="load", arms=("unsupervised", "supervised"), log_x=True,
        ),
        Curve(
            "P = 4: the state leaves its examples for the pattern, as theory says", x="examples", y="overlap",
            series="of", arms=("unsupervised", "supervised"), log_x=True,
        ),
        Heatmap(
            "Without a teacher: overlap in theory", x="log10_examples", y="quality", value="m",
            arms=("unsupervised",),
        ),
        Heatmap(
            "With a teacher: overlap in theory", x="log10_examples", y="quality", value="m", arms=("supervised",)
        ),
        Curve(
            "From an example to its pattern: few examples are minima themselves", x="to_pattern", y="energy",
            series="shown", arms=("unsupervised",),
        ),
    ],
    seeds=(3, 5),
)  # fmt: skip
