"""A network that is shown a few solved examples solves a task on brain images that it was never trained for.

Czolbe and Dalca train one U-Net of two streams, a target and a set of (input, output) examples, on many tasks and
modalities of brain images at once. They report that on tasks it has never seen it beats networks trained for the task
on the few annotated subjects there are, that it gets better with the number of examples up to some tens, and that
little is lost against having seen the task.

Small: coronal slices of one real head (Colin27, 36 x 36 pixels of 4 mm, 12 places), 200 subjects made of it by strong
random bends to learn from and 40 others to test, in random modalities (monotone curves of brightness). Tasks:
denoising, bias correction, inpainting, super-resolution, modality transfer, edges, skull-stripping, k-space, the
brain's mask, and segmentation of eight structures or two of them together. Held out from ``unseen``: the map that
inverts and bends brightness, and three of the eleven structures that every slice shows (middle cingulum, postcentral
and superior temporal gyri). ``seen`` is trained on these too. Both: width 16, 3 stages, 1 to 4 examples, 300 steps of
Adam at 3e-3 in batches of 4. ``specific-1`` and ``specific-4`` are the same network without a context, trained for one
structure (or for the held-out map) on one or four subjects, bent anew at each step, 100 steps in batches of 4. All are
tested on the same episodes: 4 examples, 24 targets for each structure and for the map; also without examples (zeros in
their place). The rate is the better of 1e-3 and 3e-3 on seed 100, which is not reported.

Smoke: a made-up head. Paper: 144 x 144, width 64, 4 stages, up to 32 examples; its subjects (OASIS, ADNI ...) have to
be asked for, and `EpisodeSampler` takes them as ``Subjects``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from neurarium.data import (
    Episode,
    EpisodeSampler,
    Subjects,
    colin27_template,
    ellipsoid_template,
    synthetic_subjects,
)
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.models import ContextUNet
from neurarium.objectives import imaging_loss, psnr

MAP = "gamma-invert"


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    kind: Literal["unseen", "seen", "specific"] = "unseen"
    shots: int = 4
    brain: Literal["colin27", "ellipsoids"] = "colin27"
    held_out: tuple[int, ...] = (17, 29, 41)
    size: int = 36
    subjects: int = 200
    tested: int = 40
    width: int = 16
    stages: int = 3
    most: int = 4
    batch: int = 4
    steps: int = 300
    specific_steps: int = 100
    lr: float = 3e-3
    targets: int = 24
    counts: tuple[int, ...] = (1, 2, 4, 8)


def trial(settings: Settings, run: Run) -> Metrics:
    """Overlap on held-out structures and decibels on the held-out map, by number of examples."""
    made = torch.Generator().manual_seed(run.seed)
    template = colin27_template(settings.size) if settings.brain == "colin27" else ellipsoid_template(settings.size)
    hidden = settings.held_out if settings.brain == "colin27" else template.structures[:2]
    train = synthetic_subjects(template, settings.subjects, generator=made).to(run.device)
    test = synthetic_subjects(template, settings.tested, generator=made).to(run.device)
    names: list[int | str] = [*hidden, MAP]
    episodes = {
        name: posed(settings, test, name, hidden, torch.Generator().manual_seed(1000 * run.seed + n))
        for n, name in enumerate(names)
    }
    metrics: dict[str, float] = {}
    shown = []
    if settings.kind == "specific":
        overlaps = []
        for name, episode in episodes.items():
            model = train_specific(settings, episode, test, run)
            with torch.no_grad():
                output = model(episode.target_in)
            shown.append((episode, output))
            if name == MAP:
                metrics["map_psnr"] = decibels(output, episode)
            else:
                overlaps.append(dice(output, episode))
        metrics["dice"] = sum(overlaps) / len(overlaps)
    else:
        model = train_context(settings, train, hidden, run)
        for count in settings.counts:
            found = {name: solved(model, episode, count) for name, episode in episodes.items()}
            overlap = sum(dice(found[name], episodes[name]) for name in hidden) / len(hidden)
            metrics[f"dice_{count}"], metrics[f"map_psnr_{count}"] = overlap, decibels(found[MAP], episodes[MAP])
            run.record(examples=count, dice=overlap, map_psnr=metrics[f"map_psnr_{count}"])
            if count == settings.shots:
                shown = [(episodes[name], found[name]) for name in episodes]
        metrics["dice"], metrics["map_psnr"] = metrics[f"dice_{settings.shots}"], metrics[f"map_psnr_{settings.shots}"]
        blank = {name: solved(model, episode, settings.shots, blank=True) for name, episode in episodes.items()}
        metrics["blank_map_psnr"] = decibels(blank[MAP], episodes[MAP])
        metrics["blank_dice"] = sum(dice(blank[name], episodes[name]) for name in hidden) / len(hidden)
    if run.seed == 0:
        show(run, shown)
    return metrics


def posed(
    settings: Settings, test: Subjects, name: int | str, hidden: tuple[int, ...], source: torch.Generator
) -> Episode:
    """One task for all targets: as many examples as are ever given, other subjects, one modality."""
    structures = (name,) if isinstance(name, int) else hidden
    task = "segmentation" if isinstance(name, int) else name
    most = max(settings.counts)
    sampler = EpisodeSampler(
        test, structures=structures, context=(most, most + settings.targets - 1), batch=1, generator=source
    )
    whole = sampler.draw(task, most + settings.targets - 1)
    given, asked = whole.context_in[0, most - 1 :], whole.context_out[0, most - 1 :]
    count = len(given)
    inputs = torch.cat((whole.target_in, whole.context_in[0, : most - 1]))
    outputs = torch.cat((whole.target_out, whole.context_out[0, : most - 1]))
    return Episode(
        given, asked, inputs.expand(count, *inputs.shape), outputs.expand(count, *outputs.shape),
        whole.masks.expand(count), whole.tasks * count,
    )  # fmt: skip


def train_context(settings: Settings, train: Subjects, hidden: tuple[int, ...], run: Run) -> ContextUNet:
    """The network of all tasks, or of all but the held-out ones."""
    apart = settings.kind == "unseen"
    kept = tuple(k for k in train.structures if k not in hidden) if apart else train.structures
    sampler = EpisodeSampler(
        train, held_out=(MAP,) if apart else (), structures=kept, context=(1, settings.most), batch=settings.batch,
        generator=torch.Generator().manual_seed(run.seed),
    )  # fmt: skip
    torch.manual_seed(run.seed)
    model = ContextUNet(1, 1, settings.width, settings.stages).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    for step in run.track(range(settings.steps), "steps"):
        optimizer.param_groups[0]["lr"] = settings.lr * min(1.0, 2 * (1 - step / settings.steps))
        episode = sampler.draw()
        loss = imaging_loss(
            model(episode.target_in, episode.context_in, episode.context_out), episode.target_out, episode.masks
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, settings.steps // 50) == 0:
            run.record(step=step, loss=loss.item())
    return model


def train_specific(settings: Settings, episode: Episode, test: Subjects, run: Run) -> ContextUNet:
    """A network for one task from the examples alone, each bent anew at every step."""
    inputs, outputs = episode.context_in[0, : settings.shots], episode.context_out[0, : settings.shots]
    torch.manual_seed(run.seed)
    model = ContextUNet(1, 1, settings.width, settings.stages, context=False).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    source = torch.Generator().manual_seed(run.seed)
    for step in range(settings.specific_steps):
        optimizer.param_groups[0]["lr"] = settings.lr * min(1.0, 2 * (1 - step / settings.specific_steps))
        rows = torch.randint(len(inputs), (settings.batch,), generator=source).to(run.device)
        control = 0.08 * torch.randn(settings.batch, 2, 5, 5, generator=source)
        size = inputs.shape[-2:]
        bend = F.interpolate(control, size, mode="bicubic", align_corners=True).movedim(1, -1).to(inputs)
        still = torch.eye(2, 3).to(inputs).expand(settings.batch, -1, -1)
        grid = bend + F.affine_grid(still, [settings.batch, 1, *size], align_corners=False)
        x, y = (F.grid_sample(part[rows], grid, align_corners=False) for part in (inputs, outputs))
        loss = imaging_loss(model(x), y, episode.masks[:1].expand(settings.batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def solved(model: ContextUNet, episode: Episode, count: int, blank: bool = False) -> Tensor:
    """Outputs for all targets from the first examples."""
    inputs, outputs = episode.context_in[:, :count], episode.context_out[:, :count]
    if blank:
        inputs, outputs = torch.zeros_like(inputs), torch.zeros_like(outputs)
    return model(episode.target_in, inputs, outputs)


def dice(output: Tensor, episode: Episode) -> float:
    """Mean overlap of masks, 2 |A and B| / (|A| + |B|)."""
    found, truth = (output > 0).flatten(1), episode.target_out.flatten(1).bool()
    both = 2 * (found & truth).sum(1)
    return float((both / (found.sum(1) + truth.sum(1)).clamp_min(1)).mean())


def decibels(output: Tensor, episode: Episode) -> float:
    """Mean peak signal-to-noise ratio."""
    return float(psnr(output.clamp(0, 1), episode.target_out).mean())


def show(run: Run, shown: list[tuple[Episode, Tensor]]) -> None:
    """A row for each task: an example and its solution, the target, what was found, what is right."""
    rows = []
    for episode, output in shown:
        found = output[0, 0].sigmoid() if episode.masks[0] else output[0, 0].clamp(0, 1)
        first = episode.context_in[0, 0, 0], episode.context_out[0, 0, 0]
        rows.append(torch.cat((*first, episode.target_in[0, 0], found, episode.target_out[0, 0]), 1))
    for y, line in enumerate(torch.cat(rows).flip(0).tolist()):
        for x, shade in enumerate(line):
            run.record(column=x, row=y, shade=shade)


def smoke(settings: Settings) -> Settings:
    """Seconds: whether it runs, on a made-up head."""
    return replace(
        settings, brain="ellipsoids", size=16, subjects=16, tested=8, width=4, stages=2, steps=2, specific_steps=2,
        targets=3, most=2, batch=2, shots=min(settings.shots, 2), counts=(1, 2),
    )  # fmt: skip


STUDY = Study(
    paper=Paper("Neuralizer: General Neuroimage Analysis without Re-Training", "Czolbe and Dalca", 2023, "2305.02644"),
    trial=trial,
    arms={
        "unseen": Settings(),
        "seen": Settings("seen"),
        "specific-1": Settings("specific", shots=1),
        "specific-4": Settings("specific"),
    },
    scales={
        "smoke": smoke,
        "paper": {
            "size": 144, "subjects": 2_000, "width": 64, "stages": 4, "most": 32, "batch": 8, "steps": 200_000,
            "specific_steps": 5_000, "lr": 1e-4, "tested": 100, "counts": (1, 2, 4, 8, 16, 32),
        },
    },
    claims=[
        Claim(
            "On structures it never saw it is better than a network trained on one annotated subject", "section 4",
            difference("dice", "unseen", "specific-1") > 0.03,
        ),
        Claim(
            "More examples help", "section 4", value("dice_4", "unseen") - value("dice_1", "unseen") > 0,
        ),
        Claim(
            "It does what the examples show: without them the unseen map is lost", "ours",
            value("map_psnr", "unseen") - value("blank_map_psnr", "unseen") > 2,
        ),
        Claim(
            "Little is lost against having seen the task", "section 4", difference("dice", "seen", "unseen") < 0.15,
        ),
    ],
    figures=[
        Heatmap(
            "Tasks that `unseen` never saw: an example, its solution, the target, what was found, what is right",
            x="column", y="row", value="shade", note="Three structures, then the map of brightness. Seed 0.",
        ),
        Curve("Overlap on unseen structures by number of examples", x="examples", y="dice"),
        Curve("Decibels on the unseen map by number of examples", x="examples", y="map_psnr"),
        Bars("Overlap on the held-out structures", metric="dice"),
        Bars("Decibels on the held-out map", metric="map_psnr"),
        Curve("Training", x="step", y="loss", log_y=True),
    ],
    seeds=(3, 5),
)  # fmt: skip
