"""From learned initial weights a coordinate network fits a new signal in a few steps, and with fewer observations.

Tancik et al. meta-learn the weights from which a network of coordinates is fitted to each signal of a class, by MAML
for images and by Reptile for projections and views. They report that two or so steps then do what hundreds did, that
reconstructions from few observations get better, and that neither the mean signal's weights nor the learned weights'
statistics explain it: random weights of the same mean and spread in each layer ("matched") and the learned ones in a
random order ("shuffled") do worse.

Small, in two experiments, each with all of its starts in one trial, which share one meta-training. ``digits``: MNIST as
signals of 784 points in [-1, 1]^2, a SIREN of width 64 and depth 4 (w0 of 30), MAML through two steps on batches of 4
of 2,000 digits; 32 test digits, and 32 of Fashion-MNIST from the same weights. Every start takes, of four rates of
gradient descent and four of Adam, what is best after two steps on 16 training digits (after twenty, for the count of
steps). ``tomography``: random heads of ellipses of 32 x 32 pixels, 32 detectors, a field of 64 random Fourier features
and three layers of 64, Reptile through 8 steps from 12 random angles; 8 test heads seen from 1, 2, 4 and 8 evenly
spaced angles, fitted by 20 steps (1 and 2 views) or 40, each start by what is best of gradient descent and Adam, three
rates each, after 20 steps on 4 training heads from two views. Meta-training's rates were chosen on seed 100, which is
not reported: of MAML, inner .03 of .01, .03 and .1, outer 1e-3 of 3e-4 and 1e-3; of Reptile, inner 5 of 2 and 5, outer
1e-3. The paper's sets (CelebA, ShapeNet) are in no registry.

Paper: the release's networks and rates on whole MNIST and heads of 256 x 256.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from neurarium.data import load, random_phantoms
from neurarium.lab import (
    Arm,
    Claim,
    Curve,
    Heatmap,
    Metrics,
    Paper,
    Run,
    Study,
    all_of,
    value,
)  # fmt: skip
from neurarium.lab.claims import Quantity
from neurarium.layers import ParallelBeam, filtered_back_projection, pixel_grid
from neurarium.models import FourierFeatureField, SirenField
from neurarium.objectives import psnr
from neurarium.search import (
    LearnedInitialization,
    StackedFields,
    adaptation_curve,
    matched_initialization,
    shuffled_initialization,
)  # fmt: skip

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
SGD_RATES = (0.01, 0.03, 0.1, 0.3)
ADAM_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SGD_VIEWS = (1.0, 3.0, 10.0)
ADAM_VIEWS = (1e-3, 3e-3, 1e-2)


@dataclass(frozen=True)
class Digits:
    """Images as signals."""

    data: str = "mnist"
    other: str = "fashion-mnist"
    images: int = 2000
    tested: int = 32
    width: int = 64
    depth: int = 4
    w0: float = 30.0
    inner_lr: float = 0.03
    inner_steps: int = 2
    batch: int = 4
    meta_steps: int = 200
    meta_lr: float = 1e-3
    longest: int = 30


@dataclass(frozen=True)
class Tomography:
    """Heads seen through projections."""

    size: int = 32
    phantoms: int = 256
    tested: int = 8
    features: int = 64
    scale: float = 5.0
    width: int = 64
    depth: int = 3
    inner_lr: float = 5.0
    inner_steps: int = 8
    angles: int = 12
    meta_steps: int = 300
    meta_lr: float = 1e-3
    few_steps: int = 20
    many_steps: int = 40


def sgd(rate: float) -> Optimizer:
    """Gradient descent of one rate."""
    return lambda p: torch.optim.SGD(p, rate)


def adam(rate: float) -> Optimizer:
    """Adam of one rate."""
    return lambda p: torch.optim.Adam(p, rate)


def meta_train(
    start: LearnedInitialization, batches: Callable[[], tuple[Tensor, Tensor]], settings: Digits | Tomography,
    run: Run, name: str,
) -> nn.Module:  # fmt: skip
    """The field with learned weights."""
    optimizer = torch.optim.Adam(start.parameters(), settings.meta_lr)
    for step in run.track(range(settings.meta_steps), name):
        optimizer.zero_grad()
        loss = float(start.assign_credit(*batches()))
        optimizer.step()
        if step % max(1, settings.meta_steps // 50) == 0:
            run.record(meta_step=step, meta_loss=loss, start=name)
    return start.field


def digits(settings: Digits, run: Run) -> Metrics:
    """Decibels after two steps from each start, in class and out of it."""
    seen, unseen = pictures(settings.data, settings, run), pictures(settings.other, settings, run)
    side = math.isqrt(seen[0].shape[1])
    grid = pixel_grid(side, side, device=run.device)
    source = torch.Generator().manual_seed(run.seed)

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(seen[0]), (settings.batch,), generator=source)
        return grid.expand(settings.batch, -1, -1), seen[0][chosen.to(run.device)]

    def field() -> SirenField:
        torch.manual_seed(run.seed)
        return SirenField(2, 1, settings.width, settings.depth, settings.w0).to(run.device)

    maml = LearnedInitialization(field(), settings.inner_lr, settings.inner_steps)
    joint = LearnedInitialization(field(), inner_steps=0)
    learned = meta_train(maml, draw, settings, run, "maml")
    starts = {
        "random": field(),
        "mean": meta_train(joint, draw, settings, run, "mean"),
        "matched": matched_initialization(learned, torch.Generator().manual_seed(run.seed)),
        "shuffled": shuffled_initialization(learned, torch.Generator().manual_seed(run.seed)),
        "maml": learned,
    }
    metrics: dict[str, float] = {}
    rows = []
    two = settings.inner_steps
    for name, net in starts.items():
        start = LearnedInitialization(net, settings.inner_lr)
        some = seen[0][:16]
        best = best_optimizer(start, shared(grid, some), some, two, grid, some)
        fits = list(start.adaptation(shared(grid, seen[1]), seen[1], 5, best))
        curve = adaptation_curve(fits, grid, seen[1])
        for step, decibels in enumerate(curve.psnr.mean(1)):
            run.record(step=step, psnr=decibels, start=name)
        metrics[f"{name}_psnr"] = float(curve.psnr[two].mean())
        out = start.adapt(shared(grid, unseen[1]), unseen[1], two, best)
        metrics[f"{name}_other_psnr"] = float(psnr(out(grid), unseen[1]).mean())
        rows.append([fit(grid)[n].view(side, side) for n in (0, 1) for fit in (fits[0], fits[1], fits[2], fits[5])])
    metrics["in_class_gain"] = metrics["maml_psnr"] - metrics["random_psnr"]
    metrics["out_of_class_gain"] = metrics["maml_other_psnr"] - metrics["random_other_psnr"]
    random = LearnedInitialization(starts["random"])
    some = seen[0][:8]
    steady = best_optimizer(random, shared(grid, some), some, min(20, settings.longest), grid, some, (), ADAM_RATES)
    fits = list(random.adaptation(shared(grid, seen[1][:16]), seen[1][:16], settings.longest, steady))
    steps = adaptation_curve(fits, grid, seen[1][:16]).steps_to(metrics["maml_psnr"])
    metrics["random_steps"] = float(steps.clamp_max(settings.longest + 1).mean())
    if run.seed == 0:
        rows.append([seen[1][n].view(side, side) for n in (0, 1) for _ in range(4)])
        draw_rows(run, rows, "ink")
        draw_rows(run, [walk(fits[-1], grid), walk(maml.adapt(shared(grid, seen[1]), seen[1]), grid)], "ink_between")
    return metrics


def pictures(name: str, settings: Digits, run: Run) -> tuple[Tensor, Tensor]:
    """Training and test images as values in [0, 1] at their pixels."""
    data = load(name)
    train, test = data.train.subset(settings.images, seed=run.seed).x, data.test.subset(settings.tested, run.seed).x
    top = 255 if train.dtype == torch.uint8 and train.max() > 16 else 16
    return tuple((x.flatten(1)[..., None].float() / top).to(run.device) for x in (train, test))  # type: ignore[return-value]


def shared(grid: Tensor, signals: Tensor) -> Tensor:
    """One grid for all signals."""
    return grid.expand(len(signals), -1, -1)


def best_optimizer(
    start: LearnedInitialization, x: Tensor, y: Tensor, steps: int, points: Tensor, signals: Tensor,
    sgd_rates: Sequence[float] = SGD_RATES, adam_rates: Sequence[float] = ADAM_RATES,
) -> Optimizer:  # fmt: skip
    """Of several optimizers the one that is best after some steps on training signals."""

    def score(optimizer: Optimizer) -> float:
        try:
            found = psnr(start.adapt(x, y, steps, optimizer)(points), signals).mean()
        except FloatingPointError:
            return -math.inf
        return float(found.nan_to_num(-math.inf))

    return max([*map(sgd, sgd_rates), *map(adam, adam_rates)], key=score)


def walk(fits: StackedFields, grid: Tensor) -> list[Tensor]:
    """What fields show on the straight line between the weights of the first two."""
    side = math.isqrt(len(grid))
    with torch.no_grad():
        return [fits.between(0, 1, share / 7)(grid).view(side, side) for share in range(8)]


def draw_rows(run: Run, rows: list[list[Tensor]], name: str) -> None:
    """Small images in rows, the first on top."""
    for n, row in enumerate(reversed(rows)):
        joined = torch.cat(row, 1).clamp(0, 1).cpu()
        for y, line in enumerate(joined.flip(0).tolist()):
            for x, ink in enumerate(line):
                run.record(**{"column": x, "row": n * len(joined) + y, name: ink})


def tomography(settings: Tomography, run: Run) -> Metrics:
    """Decibels of heads from few projections, from each start."""
    source = torch.Generator().manual_seed(run.seed)
    heads = random_phantoms(settings.phantoms + settings.tested, settings.size, generator=source).to(run.device)
    train, test = heads.flatten(1)[..., None].split([settings.phantoms, settings.tested])
    beam = ParallelBeam(settings.size).to(run.device)

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(train), (1,), generator=source).to(run.device)
        angles = (torch.rand(1, settings.angles, generator=source) * math.pi).to(run.device)
        return angles, beam(train[chosen], angles)

    def field() -> FourierFeatureField:
        torch.manual_seed(run.seed)
        size = settings.features, settings.scale, settings.width, settings.depth
        return FourierFeatureField(2, 1, *size).to(run.device)

    reptile = LearnedInitialization(
        field(), settings.inner_lr, settings.inner_steps, "reptile", observe=beam.observe
    )  # fmt: skip
    learned = meta_train(reptile, draw, settings, run, "reptile")
    nets = {
        "random": field(),
        "matched": matched_initialization(learned, torch.Generator().manual_seed(run.seed)),
        "reptile": learned,
    }
    tried = train[:4]
    some = torch.arange(2.0, device=run.device).expand(4, -1) * math.pi / 2
    starts: dict[str, tuple[LearnedInitialization, Optimizer]] = {}
    for name, net in nets.items():
        start = LearnedInitialization(net, settings.inner_lr, observe=beam.observe)
        rates = SGD_VIEWS, ADAM_VIEWS
        starts[name] = start, best_optimizer(
            start, some, beam(tried, some), settings.few_steps, beam.grid, tried, *rates
        )  # fmt: skip
    metrics: dict[str, float] = {}
    shown: dict[str, list[Tensor]] = {}
    for views in (1, 2, 4, 8):
        angles = torch.arange(views, device=run.device).expand(len(test), -1) * math.pi / views
        sinograms = beam(test, angles)
        back = filtered_back_projection(sinograms[..., 0], angles, settings.size).clamp(0, 1)
        record(metrics, run, "filtered", views, back, test)
        shown.setdefault("filtered", []).append(back[0])
        steps = settings.few_steps if views < 4 else settings.many_steps
        for name, (start, optimizer) in starts.items():
            fits = list(start.adaptation(angles, sinograms, steps, optimizer))
            if views == 2:
                for step, decibels in enumerate(adaptation_curve(fits, beam.grid, test).psnr.mean(1)):
                    run.record(fit_step=step, view_psnr=decibels, start=name)
            images = fits[-1](beam.grid).view_as(back)
            record(metrics, run, name, views, images, test)
            shown.setdefault(name, []).append(images[0])
    for views in (1, 8):
        metrics[f"gain_{views}"] = metrics[f"reptile_{views}"] - metrics[f"random_{views}"]
    if run.seed == 0:
        whole = test[0].view(settings.size, settings.size)
        draw_rows(run, [*shown.values(), [whole] * 4], "density")
        turned = torch.arange(2 * settings.size, device=run.device) * math.pi / (2 * settings.size)
        sinogram = beam(test[0], turned)[..., 0]
        draw_rows(run, [[sinogram / sinogram.max()]], "projection")
    return metrics


def record(metrics: dict[str, float], run: Run, name: str, views: int, images: Tensor, test: Tensor) -> None:
    """Decibels of whole images."""
    metrics[f"{name}_{views}"] = float(psnr(images.flatten(1), test[..., 0]).mean())
    run.record(views=views, whole_psnr=metrics[f"{name}_{views}"], start=name)


def smoke(settings: Digits | Tomography) -> Digits | Tomography:
    """Seconds: whether it runs."""
    if isinstance(settings, Digits):
        return replace(
            settings, data="digits", other="digits", images=32, tested=16, width=8, depth=3, meta_steps=2, longest=6
        )
    return replace(settings, size=8, phantoms=4, tested=2, features=4, width=8, meta_steps=2, few_steps=3, many_steps=3)


def paper(settings: Digits | Tomography) -> Digits | Tomography:
    """The release's networks and rates."""
    if isinstance(settings, Digits):
        return replace(
            settings, images=60_000, tested=1_000, width=256, depth=5, w0=200.0, inner_lr=0.01, batch=3,
            meta_steps=150_000, meta_lr=1e-5, longest=1_000,
        )  # fmt: skip
    return replace(
        settings, size=256, phantoms=2_000, tested=64, features=256, scale=15.0, width=256, depth=4, inner_lr=10.0,
        inner_steps=12, angles=20, meta_steps=100_000, meta_lr=5e-5, few_steps=100, many_steps=1_000,
    )  # fmt: skip


def gap(metric: str, other: str, arm: str) -> Quantity:
    """One start minus another, of one trial."""
    return value(metric, arm) - value(other, arm)


STUDY = Study(
    paper=Paper(
        "Learned Initializations for Optimizing Coordinate-Based Neural Representations", "Tancik et al.", 2020,
        arxiv="2012.02189",
    ),
    trial=None,
    arms={"digits": Arm(digits, Digits()), "tomography": Arm(tomography, Tomography())},
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "After two steps images are far better than from random weights", "section 4",
            gap("maml_psnr", "random_psnr", "digits") > 5, published="30.37 dB after two steps on CelebA",
        ),
        Claim(
            "The mean image's weights do not explain it", "section 4", gap("maml_psnr", "mean_psnr", "digits") > 2,
        ),
        Claim(
            "The weights' statistics do not explain it", "section 4",
            all_of(
                gap("maml_psnr", "shuffled_psnr", "digits") > 4, gap("maml_psnr", "matched_psnr", "digits") > 0,
            ),
            published="one view of chairs: 18.85 dB against 16.40 (matched) and 10.76 (shuffled)",
        ),
        Claim(
            "Random weights need many times as many steps", "section 4", value("random_steps", "digits") > 10,
        ),
        Claim(
            "Two projections give a better image than from random weights", "section 4",
            gap("reptile_2", "random_2", "tomography") > 2,
        ),
        Claim(
            "The fewer the projections, the more is gained", "section 4", gap("gain_1", "gain_8", "tomography") > 0,
        ),
        Claim(
            "Signals of another class gain less", "ours",
            gap("in_class_gain", "out_of_class_gain", "digits") > 0,
        ),
    ],
    figures=[
        Heatmap(
            "Two test digits after 0, 1, 2 and 5 steps", ["digits"], x="column", y="row", value="ink",
            note="From top to bottom: random weights, the mean image's, matched, shuffled, learned; the digits.",
        ),
        Curve("Digits: decibels by step", ["digits"], x="step", y="psnr", series="start"),
        Heatmap(
            "Between the weights of two fitted digits", ["digits"], x="column", y="row", value="ink_between",
            note="Above from random weights (Adam), below from learned ones (two steps). Seed 0.",
        ),
        Heatmap(
            "A head from 1, 2, 4 and 8 projections", ["tomography"], x="column", y="row", value="density",
            note="From top to bottom: filtered back-projection, random weights, matched, learned; the head. Seed 0.",
        ),
        Heatmap(
            "All projections of that head", ["tomography"], x="column", y="row", value="projection",
            note="A row for each of 64 angles over half a turn, the first on top.",
        ),
        Curve("Heads: decibels by number of projections", ["tomography"], x="views", y="whole_psnr", series="start"),
        Curve("Heads from two projections, by step", ["tomography"], x="fit_step", y="view_psnr", series="start"),
        Curve("Meta-training", x="meta_step", y="meta_loss", series="start", log_y=True),
    ],
    seeds=(3, 5),
)  # fmt: skip
