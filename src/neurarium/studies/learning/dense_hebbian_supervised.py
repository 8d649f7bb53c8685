"""A dense Hebbian network holds K ~ N^(P-1) patterns, or few under enormous synaptic noise, and theory says which.

The paper (Agliari et al., 2022) averages the labelled noisy examples of each pattern and stores the means in a network
of P-body couplings. It solves the network at the replica-symmetric level: for P > 2 it stores far more patterns than
pairwise couplings can (ultra-storage), recognises patterns far below the noise of its synapses when it stores few
(ultra-detection), and with a teacher the number of examples needed grows as r^(-2) in their quality r for every P.

Small: load: P = 4, N = 120, stored patterns at loads of 0.002 to 0.02 (K up to 34,560), and P = 2, N = 400, loads up
to 1; beta = 4. Examples: N = 120 for P = 4, 400 for P = 2, K at a load of 0.002 (P = 4) or 0.02 (P = 2), r = 0.5, 2 to
50 examples; ``threshold_ratio`` is the number at which the overlap reaches 0.95, in simulation over theory or the
inverse, read off 64 patterns and numbers of examples that lie close where the curves pass 0.95 (chosen on seed 100,
where 16 patterns and steps from 20 to 50 gave 1.38 and 128 patterns 1.58). ``p4-shuffled-labels`` deals the same
examples to the patterns at random. ``plefka-2`` solves the same networks by the second-order mean-field expansion;
``plefka_error`` is its largest difference from sampling. Synaptic noise: N = 40, three patterns, noise of 1 to 1,000
times one synapse's signal, T = 0, from the pattern; ``log_noise`` is the largest log10 noise at which the overlap is
above 0.9, interpolated. Digits: MNIST at 14 x 14 pixels, binarised at the mean image, centred, 200 images a class to
learn, 500 to classify by the class mean nearest to the state that the image relaxes to. P = 2 and 4 differ in nothing
else. 16 replicas, 20 Glauber sweeps, 10 averaged.

Paper: N up to 1,000 for P = 2 and 160 for P = 4, whole images. The paper's own sizes and figure parameters were not
available to us.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from neurarium.data import Split, binarise, diluted_patterns, load
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import HebbianMemory, NoisySynapses, plefka
from neurarium.studies.learning._dense_hebbian import crossing, overlap, settled, taught
from neurarium.theory import phase_diagram, replica_symmetric


@dataclass(frozen=True)
class Settings:
    """An arm and its sizes."""

    order: int = 4  # P
    labels: Literal["true", "shuffled"] = "true"
    solver: Literal["sampling", "plefka"] = "sampling"
    neurons: tuple[int, int] = (400, 120)  # of P = 2 and of P = 4
    pair_loads: tuple[float, ...] = (0.02, 0.05, 0.1, 0.14, 0.2, 1.0)
    dense_loads: tuple[float, ...] = (0.002, 0.005, 0.01, 0.02)
    taught_load: tuple[float, float] = (0.02, 0.002)  # of P = 2 and of P = 4
    taught_replicas: int = 64  # each at a pattern of its own
    examples: tuple[int, ...] = (2, 5, 10, 20, 25, 30, 35, 40, 50)
    temperature: float = 0.25
    replicas: int = 16
    sweeps: int = 20
    averaged: int = 10  # sweeps over which a mean state is taken
    noisy_neurons: int = 40
    noises: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    images: str = "mnist-small"
    per_class: int = 200
    test: int = 500
    shrink: int = 2  # pixels in the side of a square that is averaged
    map_steps: int = 12


def trial(settings: Settings, run: Run) -> Metrics:
    """Learning from examples for every arm; storage, synaptic noise and digits for those that they concern."""
    metrics = dict(learning(settings, run))
    if settings.labels == "true":
        metrics |= storage(settings, run)
    if settings.solver == "sampling" and settings.labels == "true":
        metrics |= detection(settings, run)
        metrics |= digits(settings, run)
        phase_map(settings, run)
    return metrics


def neurons(settings: Settings) -> int:
    """N of the arm's order."""
    return settings.neurons[settings.order // 2 - 1]


def replicas(settings: Settings, sampled: int) -> int:
    """The mean-field expansion is deterministic and slow: a quarter of the stored patterns' replicas will do."""
    return sampled if settings.solver == "sampling" else max(1, settings.replicas // 4)


def storage(settings: Settings, run: Run) -> Metrics:
    """Overlap with stored patterns against the load, with theory."""
    n, order = neurons(settings), settings.order
    errors: list[float] = []
    gaps: list[float] = []
    found: list[float] = []
    loads = settings.pair_loads if order == 2 else settings.dense_loads
    if settings.solver == "plefka":
        loads = loads[:2]  # near the spinodal its iteration does not settle
    for alpha in run.track(loads, "loads"):
        g = torch.Generator().manual_seed(run.seed)
        patterns = diluted_patterns(round(alpha * n ** (order - 1)), n, generator=g)
        memory = HebbianMemory(n, order).store(patterns)
        start = patterns[: replicas(settings, settings.replicas)]
        m = sampled = overlap(means(settings, memory, start, "sampling", g), start)
        if settings.solver == "plefka":
            m = overlap(means(settings, memory, start, "plefka", g), start)
        theory = float(replica_symmetric(order, len(patterns) / n ** (order - 1), settings.temperature).m)
        errors.append(abs(m - theory))
        gaps.append(abs(m - sampled))
        found.append(m)
        run.record(load=alpha, overlap=m, of="network")
        run.record(load=alpha, overlap=theory, of="theory")
    metrics = {"theory_error": max(errors[:2]), "m_light": found[0 if order == 4 else -1]}
    return metrics | ({"plefka_error": max(gaps)} if settings.solver == "plefka" else {})


def means(settings: Settings, memory: HebbianMemory, start: Tensor, solver: str, generator: torch.Generator) -> Tensor:
    """Mean state of every replica, by sampling or by the mean-field expansion."""
    if solver == "plefka":
        return torch.stack([plefka(memory, state, settings.temperature) for state in start])
    return settled(memory, start, settings.temperature, settings.sweeps, settings.averaged, generator)


def learning(settings: Settings, run: Run) -> Metrics:
    """Overlap with hidden patterns against the number of examples, and where it passes 0.95."""
    n, order = neurons(settings), settings.order
    k = round(settings.taught_load[order // 2 - 1] * n ** (order - 1))
    found, expected = [], []
    for count in settings.examples:
        g = torch.Generator().manual_seed(1000 * run.seed + count)
        labels = None
        if settings.labels == "shuffled":
            dealt = torch.randperm(k * count, generator=torch.Generator().manual_seed(run.seed))
            labels = torch.arange(k).repeat_interleave(count)[dealt].reshape(k, count)
        hidden, _, memory = taught(n, k, 0.5, count, g, order=order, labels=labels)
        start = hidden[: replicas(settings, settings.taught_replicas)]
        found.append(overlap(means(settings, memory, start, settings.solver, g), start))
        theory = replica_symmetric(
            order, k / n ** (order - 1), settings.temperature, 0.5, count, normalization="entropy"
        )
        expected.append(float(theory.m))
        run.record(examples=count, learned=found[-1], by="network")
        run.record(examples=count, learned=expected[-1], by="theory")
    if settings.labels == "shuffled":
        return {"m_learned": found[-1]}
    ratio = crossing(settings.examples, found, 0.95) / crossing(settings.examples, expected, 0.95)
    return {"m_learned": found[-1], "threshold_ratio": max(ratio, 1 / ratio)}


def detection(settings: Settings, run: Run) -> Metrics:
    """How much noise on every synapse a few stored patterns survive."""
    n = settings.noisy_neurons
    held = []
    for noise in settings.noises:
        g = torch.Generator().manual_seed(run.seed)
        patterns = diluted_patterns(3, n, generator=g)
        memory = HebbianMemory(n, settings.order).store(patterns)
        held.append(overlap(NoisySynapses(memory, noise, g).relax(patterns, generator=g), patterns))
        run.record(noise=noise, recognised=held[-1])
    lost = crossing(settings.noises, [-m for m in held], -0.9)
    return {"log_noise": math.log10(min(lost, settings.noises[-1]))}


def digits(settings: Settings, run: Run) -> Metrics:
    """Accuracy on binarised digits, and a filmstrip of one test image as it relaxes."""
    split = load(settings.images)
    g = torch.Generator().manual_seed(run.seed)
    per_class = [(split.train.y == c).nonzero().flatten() for c in range(10)]
    chosen = torch.cat([at[torch.randperm(len(at), generator=g)[: settings.per_class]] for at in per_class])
    images, test = pixels(split, settings.shrink)
    x, y = images[chosen], split.train.y[chosen]
    spins = binarise(x)
    memory = HebbianMemory(spins.shape[1], settings.order, center=True).learn(spins, y)
    queries = binarise(test[: settings.test], x.double().mean(0))
    relaxed = memory.relax(queries, 0.0, 10, g)
    accuracy = float((memory.overlaps(relaxed).argmax(1) == split.test.y[: settings.test]).double().mean())
    side, strip = x.shape[-1], [queries[:1]]
    for _ in range(4):
        strip.append(memory.relax(strip[-1], 0.0, 1, g, block_size=1))
    for frame, state in enumerate(strip):
        for i, pixel in enumerate(state[0].tolist()):
            run.record(column=frame * (side + 1) + i % side, row=side - 1 - i // side, pixel=pixel)
    at_once = float((memory.overlaps(queries).argmax(1) == split.test.y[: settings.test]).double().mean())
    return {"digits_accuracy": accuracy, "digits_unrelaxed": at_once, "digit_states": float(len(relaxed.unique(dim=0)))}


def pixels(split: Split, shrink: int) -> tuple[Tensor, Tensor]:
    """Training and test images, averaged over squares of ``shrink`` pixels."""
    train, test = (avg_pool2d(part.x.float().unsqueeze(1), shrink).squeeze(1) for part in (split.train, split.test))
    return train, test


def phase_map(settings: Settings, run: Run) -> None:
    """For how many of three data set entropies (0, 0.1 and 0.3) theory has a retrieval state."""
    top = 0.2 if settings.order == 2 else 0.02
    loads = torch.linspace(0, top, settings.map_steps)
    heats = torch.linspace(0.02, 1.1, settings.map_steps)
    held = torch.zeros(len(heats), len(loads))
    for entropy in (0.0, 0.1, 0.3):
        quality, count = (0.5, 3 / entropy) if entropy else (1.0, 1)
        held += phase_diagram(settings.order, loads, heats, quality, count) == 2
    for i, heat in enumerate(heats.tolist()):
        for j, alpha in enumerate(loads.tolist()):
            run.record(alpha=alpha, temperature=heat, held=float(held[i, j]))


SMOKE = {
    "neurons": (60, 20), "pair_loads": (0.02, 0.05, 1.0), "dense_loads": (0.002, 0.005), "examples": (5, 20),
    "replicas": 2, "taught_replicas": 2, "sweeps": 3, "averaged": 2, "noisy_neurons": 12, "noises": (1.0, 1000.0),
    "per_class": 5, "test": 10, "map_steps": 3,
}  # fmt: skip
FULL = {
    "neurons": (1_000, 160), "examples": (2, 5, 10, 20, 25, 30, 35, 40, 50, 100), "replicas": 64,
    "taught_replicas": 256, "sweeps": 100, "averaged": 100,
    "images": "mnist", "per_class": 5_000, "test": 10_000, "shrink": 1, "map_steps": 48,
}  # fmt: skip

STUDY = Study(
    paper=Paper(
        "Dense Hebbian neural networks: a replica symmetric picture of supervised learning",
        "Agliari et al.", 2022, "2212.00606",
    ),
    trial=trial,
    arms={
        "p2-supervised": Settings(2),
        "p4-supervised": Settings(4),
        "p4-shuffled-labels": Settings(4, "shuffled"),
        "plefka-2": Settings(4, solver="plefka"),
    },
    scales={"smoke": SMOKE, "small": {}, "paper": FULL},
    claims=[
        Claim(
            "Monte Carlo overlaps are those of theory at loads of 0.002 and 0.005", "phase diagram",
            value("theory_error", "p4-supervised") < 0.05,
        ),
        Claim(
            "four-body couplings hold 28 patterns a neuron where pairs do not hold one", "ultra-storage",
            all_of(value("m_light", "p4-supervised") > 0.95, value("m_light", "p2-supervised") < 0.5),
        ),
        Claim(
            "theory says how many examples are needed, to a factor of 1.5", "learning",
            all_of(
                value("threshold_ratio", "p4-supervised") < 1.5, value("threshold_ratio", "p2-supervised") < 1.5
            ),
        ),
        Claim(
            "four-body couplings stand five times the synaptic noise of pairs", "ultra-detection",
            difference("log_noise", "p4-supervised", "p2-supervised") > math.log10(5),
        ),
        Claim("with shuffled labels nothing is learned", "role of the teacher",
              value("m_learned", "p4-shuffled-labels") < 0.2),
        Claim(
            "the mean-field expansion agrees with sampling", "remark on Plefka's method",
            value("plefka_error", "plefka-2") < 0.05,
        ),
        Claim(
            "on digits four-body couplings classify better than pairs", "structured data",
            difference("digits_accuracy", "p4-supervised", "p2-supervised") > 0,
        ),
    ],
    figures=[
        Curve(
            "Overlap against the load", x="load", y="overlap", series="of", arms=("p4-supervised", "p2-supervised"),
            log_x=True,
        ),
        Curve(
            "Examples needed, with theory and with shuffled labels", x="examples", y="learned", series="by",
            arms=("p4-supervised", "p2-supervised", "p4-shuffled-labels"), log_x=True,
        ),
        Curve(
            "Recognition under synaptic noise", x="noise", y="recognised", arms=("p4-supervised", "p2-supervised"),
            log_x=True,
        ),
        Heatmap(
            "P = 4: for how many of three data set entropies (0, 0.1, 0.3) patterns are retrieved", x="alpha",
            y="temperature", value="held", arms=("p4-supervised",),
        ),
        Heatmap(
            "A digit relaxes to its class, sweep by sweep", x="column", y="row", value="pixel",
            arms=("p4-supervised",),
        ),
    ],
    seeds=(3, 5),
)  # fmt: skip
