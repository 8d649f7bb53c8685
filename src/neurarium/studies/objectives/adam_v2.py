"""Structures told apart, wholes composed of parts, parts found in wholes: what each adds to an encoder.

Hosseinzadeh Taher, Gotway and Liang pre-train on scans without labels. A student names a teacher's prototypes of a
structure from views that all share its centre (localizability), builds the teacher's embedding of a whole from its own
of the parts (composability) and the other way round (decomposability), from whole images to sixteenths. They report
embeddings that transfer better than those of eleven baselines, tell landmarks apart across patients and add up.

Small: coronal slices of one real head (Colin-27, twelve within 24 mm, 48 x 48 pixels of 3 mm), bent, scaled and
brightened at random into 400 subjects to learn from and 40 to judge by: one person's anatomy, so nothing here speaks of
patients. Four strided convolutions (16, 32, 48, 64) with group normalisation, the mean over positions, and batch
normalisation without parameters at the end; wholes and parts of 32 x 32, four local views of 16 x 16, 256 prototypes,
60 steps of localizability and 180 with the other two in batches of 32 (a tenth of either stage on whole images, half on
quarters), AdamW with a rate of 4e-3 that warms up and falls along a cosine, the teacher's momentum from .99. Settings
were chosen on seeds 90 and 91, by the retrieval of ``loc`` and ``full``: batch normalisation inside the network, whose
statistics mix wholes and parts, spoilt it, and without the last normalisation all embeddings became one.

``retrieval``: nine fixed places of the atlas are followed through the bending; the patch of 16 pixels around each is
looked for among the nine of the slice that nobody bent. ``composability``: median cosine of a whole and the mean of its
four parts. ``dice``: six groups of AAL's regions, logistic regression of each pixel on what the frozen stages give for
it, fitted on one, five or twenty labelled subjects. ``decomposition_ratio``: loss of the trained head over that of a
fresh one, on held-out subjects and the three granularities; ``decomposition_over_constant`` has the best single answer
for all subjects in its place. ``composed_by_head`` has the composing head in the place of the mean.
``pixel_retrieval`` compares the pixels of the patches themselves.

Paper: the same head in more pixels with the paper's head sizes and temperatures; ChestX-ray14 has no loader here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity, cross_entropy, interpolate, normalize

from neurarium.data import Subjects, Template, colin27_template, ellipsoid_template, synthetic_subjects
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.objectives import (
    DecomposeHead,
    PartWholeObjective,
    PartWholeViews,
    coarse_to_fine,
    decomposition_loss,
)
from neurarium.probes import composability, localizability
from neurarium.training import evaluation

GROUPS = ((1, 9, 10, 29), (15,), (17,), (19, 20, 28), (41, 43, 45), (36, 37, 38, 39))
"""Pairs of AAL's regions: sensorimotor, insula, cingulum, medial temporal, lateral temporal, central grey."""
MARKS = 16
"""One map holds regions and landmarks: region + 16 times the landmark's number."""
SHARES = (0.1, 0.5, 0.4)
"""Of a stage's steps, at granularities 0, 1 and 2."""


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    weights: tuple[float, float, float] | None = None
    data: str = "colin27"
    side: int = 48
    slices: int = 12
    subjects: int = 400
    held_out: int = 40
    size: int = 32
    local_size: int = 16
    local_views: int = 4
    batch_size: int = 32
    warm_up: int = 60
    steps: int = 240
    prototypes: int = 256
    hidden: int = 256
    learning_rate: float = 4e-3
    momentum: float = 0.99
    widths: tuple[int, ...] = (16, 32, 48, 64)
    patch: int = 16
    shots: tuple[int, ...] = (1, 5, 20)


class Encoder(nn.Module):
    """Strided convolutions and the mean over positions, standardised.

    Views of all scales are in one batch, whose statistics would mix them: inside, each view is normalised alone.

    Args:
        widths: channels of the stages.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.GroupNorm(4, b), nn.ReLU())
            for a, b in zip((1, *widths[:-1]), widths, strict=True)
        )
        self.standardise = nn.BatchNorm1d(widths[-1], affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """A vector per image."""
        for stage in self.stages:
            x = stage(x)
        found: Tensor = self.standardise(x.mean((2, 3)))
        return found

    def maps(self, x: Tensor) -> Tensor:
        """What all stages say of each pixel [images, height, width, channels]; images are read twice as large."""
        side, found = x.shape[-2:], []
        x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        for stage in self.stages:
            x = stage(x)
            found.append(interpolate(x, side, mode="bilinear", align_corners=False))
        return torch.cat(found, 1).movedim(1, 3)


@dataclass(frozen=True)
class Heads:
    """Bent slices, ready to be looked at.

    Args:
        x: images with a channel, scaled by the same numbers for all.
        regions: 0 to 6 for each pixel.
        landmarks: rows and columns [images, 9, 2].
    """

    x: Tensor
    regions: Tensor
    landmarks: Tensor

    @classmethod
    def of(cls, subjects: Subjects | Template, device: str) -> Heads:
        """Regions and landmarks from their common map."""
        height, width = subjects.labels.shape[1:]
        places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).float()
        middles = [
            torch.stack([places[image == mark].mean(0) for mark in range(1, 10)]) for image in subjects.labels // MARKS
        ]
        x = ((subjects.images - 0.3) / 0.2)[:, None]
        return cls(x.to(device), (subjects.labels % MARKS).to(device), torch.stack(middles).to(device))


def atlas(settings: Settings) -> Template:
    """Slices with six regions and, at fixed places, nine discs that can be found again after bending."""
    if settings.data == "colin27":
        head = colin27_template(settings.side, settings.slices)
        groups = torch.zeros(64, dtype=torch.long)
        for k, members in enumerate(GROUPS, start=1):
            groups[list(members)] = k
        regions = groups[head.labels]
    else:
        head = ellipsoid_template(settings.side, settings.slices)
        regions = head.labels
    line = (2 * torch.arange(settings.side) + 1) / settings.side - 1
    marks = torch.zeros_like(regions)
    for mark in range(9):
        row, column = 0.45 * (mark // 3 - 1), 0.45 * (mark % 3 - 1)
        distance = ((line[:, None] - row).square() + (line - column).square()).sqrt()
        marks[:, distance < 5 / settings.side] = mark + 1
    return Template(head.images, regions + MARKS * marks, head.brain, head.structures)


def trial(settings: Settings, run: Run) -> Metrics:
    """Pre-train without labels, freeze the teacher, and measure."""
    template = atlas(settings)
    middle = len(template.images) // 2
    generator = torch.Generator().manual_seed(run.seed)
    train = Heads.of(synthetic_subjects(template, settings.subjects, generator=generator), run.device)
    test = Heads.of(synthetic_subjects(template, settings.held_out, generator=generator), run.device)
    plain = Heads.of(template, run.device)
    seen = torch.cat([plain.x[middle : middle + 1], test.x])
    marks = torch.cat([plain.landmarks[middle : middle + 1], test.landmarks])
    torch.manual_seed(run.seed)
    objective = PartWholeObjective(
        Encoder(settings.widths), settings.widths[-1], 4, settings.prototypes, weights=settings.weights or (1, 1, 1),
        hidden_dim=settings.hidden, bottleneck_dim=settings.hidden // 2, momentum=settings.momentum,
        total_steps=settings.steps, warm_up_steps=settings.warm_up, frozen_steps=settings.steps // 20,
    ).to(run.device)  # fmt: skip
    views = PartWholeViews(
        settings.size, settings.local_size, local_views=settings.local_views, margin=0, generator=generator
    )

    def retrieval(model: nn.Module) -> float:
        return localizability(model, seen, marks, settings.patch, settings.size, references=1).accuracy

    if settings.weights is not None:
        pretrain(objective, views, train.x, settings, run, lambda: retrieval(objective.encoder))
    spread = localizability(objective.encoder, test.x, test.landmarks, settings.patch, settings.size)
    likeness(objective.encoder, plain.x[middle], test.x[:6], settings, run)
    return {
        "retrieval": retrieval(objective.encoder),
        "pixel_retrieval": retrieval(Pixels()),
        "silhouette": spread.silhouette,
        **wholes_and_parts(objective, views, test.x, settings, run),
        **few_shot(objective.encoder, train, test, settings, run),
    }


class Pixels(nn.Module):
    """A patch as it is, a little blurred, without its brightness."""

    def forward(self, x: Tensor) -> Tensor:
        """A vector per image."""
        x = avg_pool2d(x, 4).flatten(1)
        return x - x.mean(1, keepdim=True)


def pretrain(
    objective: PartWholeObjective, views: PartWholeViews, x: Tensor, settings: Settings, run: Run,
    retrieval: Callable[[], float],
) -> None:  # fmt: skip
    """One schedule over both stages; only matrices decay."""
    learned = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.dim() > 1], "weight_decay": 0.04},
        {"params": [p for p in learned if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    stages = [round(part * share) for part in (settings.warm_up, settings.steps - settings.warm_up) for share in SHARES]
    draws = torch.Generator().manual_seed(run.seed)
    for step in run.track(range(settings.steps), "steps"):
        rows = torch.randint(len(x), (settings.batch_size,), generator=draws).to(x.device)
        loss = objective(views(x[rows], coarse_to_fine(step, stages) % len(SHARES)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 3.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % max(settings.steps // 4, 1) == 0:
            run.record(step=step + 1, retrieval=retrieval(), loss=float(objective.last["localizability"]))


@torch.no_grad()
def likeness(encoder: nn.Module, plain: Tensor, x: Tensor, settings: Settings, run: Run) -> None:
    """Where in the subjects it looks like a place at the left of the atlas: cosines, standardised over the places."""
    half, places = settings.patch // 2, range(settings.patch // 2, settings.side - settings.patch // 2 + 1, 3)
    row, column = settings.side // 2, round(0.275 * settings.side)

    def embedded(images: Tensor, row: int, column: int) -> Tensor:
        cut = images[..., row - half : row + half, column - half : column + half]
        found: Tensor = encoder(interpolate(cut, (settings.size,) * 2, mode="bilinear", antialias=True))
        return found

    with evaluation(encoder):
        wanted = embedded(plain[None], row, column)
        maps = torch.stack([
            torch.stack([cosine_similarity(embedded(x, r, c), wanted) for c in places]) for r in places
        ])  # fmt: skip
    maps = ((maps - maps.mean((0, 1))) / maps.std((0, 1)).clamp_min(1e-6)).mean(2)
    for down, values in zip(places, maps.tolist(), strict=True):
        for across, likeness in zip(places, values, strict=True):
            run.record(across=across, up=settings.side - down, likeness=likeness)


@torch.no_grad()
def wholes_and_parts(
    objective: PartWholeObjective, views: PartWholeViews, x: Tensor, settings: Settings, run: Run
) -> dict[str, float]:
    """Whether parts add up to wholes, and what the head finds of the parts."""
    found = composability(objective.encoder, x, size=settings.size)
    for share in range(5, 100, 10):
        run.record(share=share / 100, cosine=float(found.cosines[4].quantile(share / 100)))
    fresh = DecomposeHead(objective.feature_dim, 4).to(x.device)
    losses, composed = torch.zeros(3), 0.0
    for granularity in range(len(SHARES)):
        with evaluation(objective):
            batch = views(x, granularity)
            whole = objective.features(batch.anchor)
            parts = torch.stack([objective.features(part) for part in batch.parts], 1)
        same = normalize(parts, dim=2).mean(0, keepdim=True).expand_as(parts)
        answers = (objective.decompose(whole), fresh(whole), same)
        composed += float(cosine_similarity(objective.compose(parts), whole).median()) / len(SHARES)
        losses += torch.stack([decomposition_loss(answer, parts) for answer in answers]).cpu() / len(SHARES)
    learned, untrained, constant = losses.tolist()
    return {
        "composability": found.median(4),
        "unrelated": found.unrelated,
        "composed_by_head": composed,
        "decomposition_loss": learned,
        "decomposition_ratio": learned / untrained,
        "decomposition_over_constant": learned / constant,
    }


def few_shot(encoder: nn.Module, train: Heads, test: Heads, settings: Settings, run: Run) -> dict[str, float]:
    """Mean Dice coefficient by the number of labelled subjects."""
    assert isinstance(encoder, Encoder)
    with evaluation(encoder), torch.no_grad():
        known, unseen = encoder.maps(train.x[: max(settings.shots)]), encoder.maps(test.x)
    mean, deviation = known.mean((0, 1, 2)), known.std((0, 1, 2)) + 1e-4
    known, unseen = (known - mean) / deviation, (unseen - mean) / deviation
    found = {}
    for shots in settings.shots:
        torch.manual_seed(run.seed)
        reader = nn.Linear(known.shape[-1], 7).to(known.device)
        x, y = known[:shots].flatten(0, 2), train.regions[:shots].flatten()
        optimizer = torch.optim.AdamW(reader.parameters(), 1e-2, weight_decay=0.05, fused=True)
        for _ in range(150):
            rows = torch.randint(len(x), (2048,)).to(x.device)
            optimizer.zero_grad()
            cross_entropy(reader(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            found[f"dice_{shots}"] = dice(reader(unseen).argmax(3), test.regions)
        run.record(labelled=shots, dice=found[f"dice_{shots}"])
    return found


def dice(guess: Tensor, truth: Tensor) -> float:
    """Mean over the six regions, all images together."""
    scores = [
        2 * ((guess == k) & (truth == k)).sum() / ((guess == k).sum() + (truth == k).sum()).clamp_min(1)
        for k in range(1, 7)
    ]
    return float(torch.stack(scores).mean())


STUDY = Study(
    paper=Paper(
        "Representing Part-Whole Hierarchies in Foundation Models by Learning Localizability, Composability, and "
        "Decomposability from Anatomy via Self-Supervision",
        "Hosseinzadeh Taher, Gotway, Liang",
        2024,
        arxiv="2404.15672",
    ),
    trial=trial,
    arms={
        "scratch": Settings(),
        "loc": Settings((1.0, 0.0, 0.0)),
        "loc+comp": Settings((1.0, 1.0, 0.0)),
        "full": Settings((1.0, 1.0, 1.0)),
    },
    scales={
        "smoke": {
            "data": "ellipsoids", "slices": 3, "subjects": 24, "held_out": 8, "batch_size": 8, "warm_up": 10,
            "steps": 24, "prototypes": 16, "hidden": 32, "widths": (4, 4, 8, 8), "shots": (1, 5),
        },
        "paper": {
            "side": 144, "slices": 24, "subjects": 10_000, "held_out": 1000, "size": 112, "local_size": 48,
            "local_views": 8, "batch_size": 512, "warm_up": 10_000, "steps": 15_000, "prototypes": 65536,
            "hidden": 2048, "learning_rate": 1e-3, "momentum": 0.996, "widths": (64, 128, 256, 512), "patch": 48,
        },
    },
    claims=[
        Claim(
            "Structures are told apart: landmarks are found in other subjects",
            "localizability of embeddings",
            difference("retrieval", "loc", "scratch") > 0.15,
        ),
        Claim(
            "Parts add up to wholes better than after localizability alone, and not because all embeddings are alike",
            "composability of embeddings",
            all_of(difference("composability", "full", "loc") > 0.03, value("unrelated", "full") < 0.95),
        ),
        Claim(
            "Five labelled subjects go further than with an untrained encoder, and as far as with localizability",
            "few-shot segmentation",
            all_of(difference("dice_5", "full", "scratch") > 0.03, difference("dice_5", "full", "loc") > -0.01),
        ),
        Claim(
            "Parts are found in their wholes: less than half the loss of a head that has not learned",
            "decomposability, its loss",
            value("decomposition_ratio", "full") < 0.5,
        ),
    ],
    seeds=(4, 4),
    figures=[
        Curve("Landmarks are found after a hundred steps, by localizability", x="step", y="retrieval"),
        Heatmap("Where subjects look like one place at the left of the atlas", x="across", y="up", value="likeness",
                note="Cosines of patches, standardised over the places of a subject; mean over six subjects."),
        Curve("Cosines of wholes and the mean of their four parts", x="share", y="cosine",
              note="Quantiles over held-out subjects."),
        Curve("Dice coefficient by labelled subjects, frozen encoder", x="labelled", y="dice", log_x=True),
        Bars("Landmarks found (chance .11)", metric="retrieval"),
        Bars("Mean cosine of unrelated wholes", metric="unrelated"),
    ],
)  # fmt: skip
