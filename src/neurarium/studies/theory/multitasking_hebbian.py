"""A Hopfield network whose patterns have blanks holds several at once, in ranks or in parallel, taught or not.

The paper (Agliari et al., 2023) solves a Hopfield network at low load whose pattern entries are blank with probability
d. For few blanks the overlaps of one state with the patterns fall as a power law, m_mu = (1 - d) d^(mu - 1)
(hierarchical); for many they are equal (parallel). Learned from noisy examples, supervised or not, the network does the
same at the same number of examples; and minima of its energy are minima of products of squared errors.

Small: N = 5,000, K = 3 (at the lowest temperature 5 too), ten dilutions, T = 0.02, 0.1 and 0.4 times 1 - d, 8 replicas
of 40 Glauber sweeps from the hierarchical state and 10 more that are averaged. Overlaps are compared by size, without
sign (the equations know neither); ``theory_error`` is the largest deviation (K = 3) over dilutions and temperatures.
In the arms ``stored``, ``supervised`` and ``unsupervised`` columns of entries appear in their expected numbers, which
is the limit that the equations speak of. The arms ``independent/...`` draw every entry by itself, as the paper does:
chance correlations of order 1 / sqrt(N) then move weak patterns by several times as much near T = d (1 - d), the
second's onset. What that costs is measured three times: ``theory_miss``, the mean over the diagram of the largest
deviation from theory, at N = 5,000 and at a quarter of it (``independent/small``), and ``own_miss``, the deviation from
the same equations with the expectation replaced by the mean over the columns that were drawn.

Learning: N = 20,000, d = 0.3, r = 0.3, T = 0.1, 10 to 320 examples per pattern. Up to 20 examples the theory's state is
parallel with a soft mode, so few examples are run on many data sets, 160 examples in all (16 sets of 10, one of 160 or
more), and the overlap with the first pattern is averaged. The arm ``unsupervised`` runs the supervised memory on the
same data beside its own, for ``teacher_gap``, the largest difference. The real data, for which no claim is made, are
the 8 x 8 digits 0, 1 and 2, pixels at their mean, learned with a third of each class's pixels blanked: half of an
unseen image is given, the memory fills in the rest (``completed_pixels``), and the best agreeing pattern names it
(``completed_class``). Sizes were chosen on seed 100.

The paper's own sizes and figure parameters were not available to us; ``paper`` takes N = 10,000, a finer grid and up to
10,000 examples (the unsupervised memory then holds 30,000 rows).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from neurarium.data import diluted_patterns, load, noisy_examples
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, ratio, value
from neurarium.learning import HebbianMemory
from neurarium.theory import energy_from_losses, multitasking_overlaps, multitasking_step

PHASES = {"ergodic": 0.0, "pure": 1.0, "hierarchical": 2.0, "parallel": 3.0}


@dataclass(frozen=True)
class Settings:
    """An arm and its sizes."""

    training: Literal["stored", "supervised", "unsupervised"] = "stored"
    sampling: Literal["columns", "independent"] = "columns"
    neurons: int = 5_000
    patterns: tuple[int, ...] = (3, 5)
    dilutions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)
    temperatures: tuple[float, ...] = (0.02, 0.1, 0.4)  # over 1 - d
    replicas: int = 8
    sweeps: int = 40
    averaged: int = 10  # sweeps over which overlaps are averaged
    learning_neurons: int = 20_000
    quality: float = 0.3
    learning_dilution: float = 0.3
    learning_temperature: float = 0.1
    examples: tuple[int, ...] = (10, 20, 40, 80, 160, 320)
    sampled: int = 160  # examples of a pattern in all data sets of one size together
    map_steps: int = 10


def trial(settings: Settings, run: Run) -> Metrics:
    """Overlaps over dilution and temperature, or over the number of examples, and the completion of digits."""
    generator = torch.Generator().manual_seed(run.seed)
    if settings.training == "stored" and settings.sampling == "columns":
        phase_map(settings, run)
    metrics = diagram(settings, run, generator) if settings.training == "stored" else learning(settings, run)
    return {**metrics, **completion(settings, generator)}


def diagram(settings: Settings, run: Run, generator: torch.Generator) -> Metrics:
    """Overlaps of stored patterns over dilution and temperature, against theory."""
    errors, own, law, steps, spread, residual = [0.0], [0.0], [0.0], [0.0], {}, 0.0
    for dilution in run.track(settings.dilutions, "dilutions"):
        for share in settings.temperatures:
            for k in settings.patterns if share == min(settings.temperatures) else (3,):
                patterns = diluted_patterns(
                    k, settings.neurons, dilution, sampling=settings.sampling, generator=generator
                )
                memory = HebbianMemory(settings.neurons).store(patterns)
                temperature = share * (1 - dilution)
                start = hierarchical_state(patterns).expand(settings.replicas, -1)
                m = settle(memory, patterns, start, temperature, settings, generator)
                m = m.abs().sort(1, descending=True).values.mean(0)
                theory = multitasking_overlaps(k, dilution, temperature).patterns
                for rank, (found, expected) in enumerate(zip(m.tolist(), theory.tolist(), strict=True), start=1):
                    series = f"{rank} of {k} at T = {share:g} (1 - d)"
                    run.record(dilution=dilution, overlap=found, series=series)
                    run.record(dilution=dilution, overlap=expected, series=series + ", theory")
                if k != 3:
                    continue
                errors.append(float((m - theory).abs().max()))
                if settings.sampling == "independent":
                    drawn = multitasking_overlaps(k, dilution, temperature, patterns=patterns).patterns
                    own.append(float((m - drawn.abs().sort(descending=True).values).abs().max()))
                    for against, miss in (("theory", errors[-1]), ("theory of the drawn columns", own[-1])):
                        run.record(d_drawn=dilution, miss=miss, against=f"{against}, T = {share:g} (1 - d)")
                spread[dilution, share] = float((m.max() - m.min()) / m.mean())
                if share == min(settings.temperatures) and dilution <= 0.45:
                    law.append(abs(float(m[1] / m[0]) - dilution))
                one = hierarchical_state(patterns)
                after = memory.field(one).sign() @ patterns.T / settings.neurons
                overlaps = (one @ patterns.T / settings.neurons).double()
                steps.append(float((after - multitasking_step(overlaps, dilution, 0.0)[0]).abs().max()))
                exact = energy_from_losses(patterns.double(), one.double())
                energy = HebbianMemory(settings.neurons, dtype=torch.float64).store(patterns).energy(one)
                residual = max(residual, float((exact - energy).abs() / energy.abs()))
    return {
        "theory_error": max(errors),
        "theory_miss": sum(errors) / max(1, len(errors) - 1),
        **({"own_error": max(own), "own_miss": sum(own) / (len(own) - 1)} if own[1:] else {}),
        "power_law_error": max(law),
        "one_step_error": max(steps),
        "spread_strong": spread[0.8, max(settings.temperatures)],
        "spread_mild": spread[0.3, max(settings.temperatures)],
        "loss_identity": residual,
    }


def phase_map(settings: Settings, run: Run) -> None:
    """The theory's phase for K = 3 over dilution and temperature."""
    for i in range(1, settings.map_steps):
        for j in range(1, settings.map_steps):
            dilution, share = i / settings.map_steps, 1.1 * j / settings.map_steps
            found = multitasking_overlaps(3, dilution, share * (1 - dilution), max_iterations=400)
            run.record(d=dilution, relative_temperature=share, phase=PHASES[found.phase])


def learning(settings: Settings, run: Run) -> Metrics:
    """Overlaps of learned patterns against the number of examples."""
    kinds = ("supervised", "unsupervised") if settings.training == "unsupervised" else ("supervised",)
    errors, gaps = [], []
    for count in run.track(settings.examples, "numbers of examples"):
        datasets = max(1, settings.sampled // count)
        found = {kind: torch.zeros(3) for kind in kinds}
        for number in range(datasets):
            generator = torch.Generator().manual_seed(run.seed * 1000 + number)
            d, n = settings.learning_dilution, settings.learning_neurons
            patterns = diluted_patterns(3, n, d, sampling=settings.sampling, generator=generator)
            examples = noisy_examples(patterns, settings.quality, count, generator)
            labels = torch.arange(3).unsqueeze(1).expand(3, count)
            start = hierarchical_state(patterns).expand(2, -1)
            for kind in kinds:
                memory = HebbianMemory(n, quality=settings.quality, num_patterns=3)
                memory.learn(examples, labels if kind == "supervised" else None)
                m = settle(memory, patterns, start, settings.learning_temperature, settings, generator)
                found[kind] += m.mean(0) / datasets
        entropy = (1 - settings.quality**2) / (count * settings.quality**2)
        theory = multitasking_overlaps(3, settings.learning_dilution, settings.learning_temperature, entropy)
        own = found[settings.training].tolist()
        errors.append(abs(own[0] - float(theory.patterns[0])))
        gaps.append(abs(own[0] - float(found["supervised"][0])))
        run.record(examples=count, first_overlap=own[0])
        for rank, (m, expected) in enumerate(zip(own, theory.patterns.tolist(), strict=True), start=1):
            run.record(examples=count, overlap_learned=m, rank=f"pattern {rank}")
            run.record(examples=count, overlap_learned=expected, rank=f"pattern {rank}, theory")
    return {"theory_error": max(errors), "teacher_gap": max(gaps)}


def settle(
    memory: HebbianMemory, patterns: Tensor, state: Tensor, temperature: float, settings: Settings, g: torch.Generator
) -> Tensor:
    """Each replica's overlaps with the patterns after equilibration, averaged over sweeps."""
    state = memory.relax(state, temperature, settings.sweeps, g)
    total = torch.zeros(len(state), len(patterns))
    for _ in range(settings.averaged):
        state = memory.relax(state, temperature, 1, g)
        total += state @ patterns.T / patterns.shape[1]
    return total / settings.averaged


def hierarchical_state(patterns: Tensor) -> Tensor:
    """Each neuron follows the first pattern that is not blank there; +1 where all are."""
    state = torch.zeros(patterns.shape[1])
    for pattern in patterns:
        state = torch.where(state == 0, pattern, state)
    return torch.where(state == 0, torch.ones(()), state)


def completion(settings: Settings, generator: torch.Generator) -> Metrics:
    """How much of the hidden half of a digit's image comes back, and whether its class does."""
    split = load("digits")
    train, test = (part[part.y < 3] for part in (split.train, split.test))
    threshold = train.x.double().mean(0)
    x, images = (torch.where(part.x > threshold, 1.0, -1.0).flatten(1) for part in (train, test))
    blank = torch.rand(3, x.shape[1], generator=generator) < 1 / 3
    masked = x.masked_fill(blank[train.y], 0.0)
    archetypes = torch.stack([masked[train.y == k].sum(0).sign() for k in range(3)])
    memory = HebbianMemory(x.shape[1], num_patterns=3)
    if settings.training == "stored":
        memory.store(archetypes)
    else:
        memory.learn(masked, train.y if settings.training == "supervised" else None)
    given = torch.rand(images.shape, generator=generator) < 0.5
    start = torch.where(given, images, torch.randint(2, images.shape, generator=generator) * 2.0 - 1)
    state = memory.relax(start, 0.0, 20, generator, frozen=given)
    agreement = state @ archetypes.T / archetypes.abs().sum(1)
    return {
        "completed_pixels": float((state == images)[~given].double().mean()),
        "completed_class": float((agreement.argmax(1) == test.y).double().mean()),
    }


FULL: dict[str, Any] = {
    "patterns": (3, 5, 8), "dilutions": tuple(round(0.05 * i, 2) for i in range(1, 20)),
    "examples": (10, 30, 100, 300, 1_000, 3_000, 10_000), "sampled": 3_000, "sweeps": 200, "map_steps": 40,
}  # fmt: skip
SMOKE = {
    "neurons": 200, "learning_neurons": 400, "patterns": (3,), "dilutions": (0.3, 0.8), "temperatures": (0.02, 0.4),
    "replicas": 2, "sweeps": 5, "averaged": 2, "examples": (10, 20), "sampled": 20, "map_steps": 3,
}  # fmt: skip
KINDS: tuple[Literal["stored", "supervised", "unsupervised"], ...] = ("stored", "supervised", "unsupervised")


def paper_sizes(settings: Settings) -> Settings:
    """The full sizes; a quarter of the neurons where a quarter is wanted."""
    return replace(settings, **FULL, neurons=10_000 * settings.neurons // Settings.neurons)


STUDY = Study(
    paper=Paper("Parallel Learning by Multitasking Neural Networks", "Agliari et al.", 2023, "2308.04106"),
    trial=trial,
    arms={
        **{kind: Settings(kind) for kind in KINDS},
        "independent/stored": Settings(sampling="independent"),
        "independent/supervised": Settings("supervised", "independent"),
        "independent/small": Settings(sampling="independent", neurons=1_250),
    },
    scales={"smoke": SMOKE, "small": {}, "paper": paper_sizes},
    claims=[
        Claim("Monte Carlo overlaps are those of theory", "phase diagram", value("theory_error", "stored") < 0.05),
        Claim(
            "one step of the dynamics is what signal to noise predicts", "signal-to-noise analysis",
            value("one_step_error", "stored") < 0.05,
        ),
        Claim(
            "few blanks: signals fall as a power law in the dilution", "hierarchical regime",
            all_of(value("power_law_error", "stored") < 0.05, value("spread_mild", "stored") > 0.8),
        ),
        Claim(
            "many blanks: all patterns are held with equal signals", "parallel regime",
            value("spread_strong", "stored") < 0.1,
        ),
        Claim(
            "with and without a teacher it multitasks alike at every number of examples", "abstract",
            value("teacher_gap", "unsupervised") < 0.03,
        ),
        Claim(
            "both follow one theory, which only the data set's entropy enters", "learning",
            all_of(value("theory_error", "supervised") < 0.05, value("theory_error", "unsupervised") < 0.05),
        ),
        Claim(
            "the energy is a function of the squared-error losses on all patterns", "cost-loss identity",
            value("loss_identity", "stored") < 1e-10,
        ),
        Claim(
            "Monte Carlo overlaps are those of theory, entries drawn independently", "phase diagram",
            value("theory_error", "independent/stored") < 0.05,
        ),
        Claim(
            "power law and equal signals, entries drawn independently", "both regimes",
            all_of(
                value("power_law_error", "independent/stored") < 0.05, value("spread_mild", "independent/stored") > 0.8,
                value("spread_strong", "independent/stored") < 0.1,
            ),
        ),
        Claim(
            "learning follows the theory, entries drawn independently", "learning",
            value("theory_error", "independent/supervised") < 0.05,
        ),
        Claim(
            "what independent entries miss shrinks with the network", "our addition",
            ratio("theory_miss", "independent/stored", "independent/small") < 0.75,
        ),
        Claim(
            "it is their chance correlations: the theory of the drawn columns misses less than half", "our addition",
            value("own_miss", "independent/stored") / value("theory_miss", "independent/stored") < 0.5,
        ),
    ],
    figures=[
        Curve(
            "Few blanks rank the patterns, many hold them equally", x="dilution", y="overlap", series="series",
            arms=("stored",), note="Lines of theory lie under those of the simulation.",
        ),
        Curve(
            "Independent entries miss the theory of the limit, not that of their own columns", x="d_drawn", y="miss",
            series="against", arms=("independent/stored",), note="Largest deviation of the three overlaps.",
        ),
        Heatmap(
            "Phases of theory for three patterns: 0 ergodic, 1 pure, 2 hierarchical, 3 parallel",
            x="d", y="relative_temperature", value="phase", arms=("stored",),
        ),
        Curve("The same threshold with and without a teacher", x="examples", y="first_overlap", log_x=True),
        Curve(
            "All patterns, with theory", x="examples", y="overlap_learned", series="rank", log_x=True,
            arms=("supervised", "unsupervised"),
        ),
    ],
    seeds=(3, 5),
)  # fmt: skip
