"""A schema's equations teach networks to take an object out of an image and put it back, without pairs.

Gavranović describes systems of networks as categories: types of data, networks between them, and equations between
composites, each of which becomes a loss. CycleGAN is two types and two mutually inverse arrows; the product task is
C <-> A x B, images with an object against backgrounds and objects. The thesis shows insertion and deletion on circles,
faces and generated images, in pictures only.

Small: synthetic grey images of 16 x 16. A: a background that is linear in the coordinates; B: a bright disc of random
place and size on black; C: a disc over a background. The three sets are independent draws; what belongs together is
kept for evaluation only. Convolutional networks, a critic for each type, batches of 32, Adam at 1e-3 (betas 0.5 and
0.9), 400 steps of the critics and of the networks. Arms: ``no-relations`` (weight 0), ``one-way`` (only c.d ~ id) and
``schema`` (both relations), the weight of 10 throughout.

Errors are mean absolute differences to the truth on 256 fresh scenes: ``deletion_error`` of the background d finds,
``object_error`` of the disc, ``insertion_error`` of c on a true background and disc. ``violation`` is the sum of both
relations' violations, measured in every arm. ``hidden`` is how often a linear probe tells from the background that d
found in which quarter of the image the disc was (chance 0.25). Nothing was tuned.

Departures: the toy of two rings of Gaussians is left out. Paper: 64 x 64 and 20,000 steps of the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, ratio, value
from neurarium.learning import SchemaGame
from neurarium.models import Schema, SchemaModel, product_task
from neurarium.objectives import AdversarialLoss


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    relations: int = 2  # of the schema's that are asked for, c.d ~ id the first
    weight: float = 10.0
    side: int = 16
    width: int = 16
    batch_size: int = 32
    steps: int = 400
    learning_rate: float = 1e-3
    test: int = 256
    probed: int = 1_024
    every: int = 40


class Join(nn.Module):
    """c: a background and an object into one image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = convolutions(2, width, 1)

    def forward(self, background: Tensor, item: Tensor) -> Tensor:
        """The image."""
        image: Tensor = self.layers(torch.cat([background, item], 1))
        return image


class Split(nn.Module):
    """d: an image into background and object."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = convolutions(1, width, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        found: Tensor = self.layers(image)
        return found[:, :1], found[:, 1:]


def convolutions(channels: int, width: int, out: int) -> nn.Sequential:
    """Four layers that see the whole image between them."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=4, dilation=4), nn.ReLU(), nn.Conv2d(width, out, 1), nn.Sigmoid(),
    )  # fmt: skip


def critic(side: int, width: int) -> nn.Sequential:
    """One logit for an image."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * width * (side // 4) ** 2, 1),
    )  # fmt: skip


def scenes(count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Backgrounds, objects, both together, and the quarter of the image in which the object is."""
    line = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    base, slope_x, slope_y, row, column, size, light = torch.rand(7, count, 1, 1, 1, generator=generator)
    background = 0.15 + 0.3 * base + 0.15 * (2 * slope_x - 1) * x + 0.15 * (2 * slope_y - 1) * y
    row, column = 1.3 * row - 0.65, 1.3 * column - 0.65
    inside = ((y - row) ** 2 + (x - column) ** 2 < (0.2 + 0.15 * size) ** 2).float()
    item = inside * (0.8 + 0.2 * light)
    quarter = (2 * (row > 0) + (column > 0)).flatten().long()
    return background, item, torch.where(inside > 0, item, background), quarter


def trial(settings: Settings, run: Run) -> Metrics:
    """Play the game of a schema, and compare with the truth that it never saw."""
    generator = torch.Generator().manual_seed(run.seed)
    torch.manual_seed(run.seed)
    shape = (1, settings.side, settings.side)
    whole = product_task(shape, shape, shape)
    schema = Schema(whole.arrows, whole.relations[: settings.relations])
    model = SchemaModel(
        schema,
        {"d": Split(settings.width), "c": Join(settings.width)},
        {name: critic(settings.side, settings.width) for name in ("A", "B", "C")},
    ).to(run.device)
    game = SchemaGame(model, AdversarialLoss("non_saturating"), weight=settings.weight)
    rate = {"lr": settings.learning_rate, "betas": (0.5, 0.9)}
    networks, critics = (torch.optim.Adam(part.parameters(), **rate) for part in (model.networks, model.critics))  # type: ignore[arg-type]
    truth = [part.to(run.device) for part in scenes(settings.test, settings.side, generator)]
    for step in run.track(range(settings.steps), "steps"):
        drawn = [scenes(settings.batch_size, settings.side, generator)[i] for i in range(3)]  # of different scenes
        game.step({name: part.to(run.device) for name, part in zip("ABC", drawn, strict=True)}, networks, critics)
        if (step + 1) % settings.every == 0:
            run.record(step=step + 1, **errors(model, whole, truth))
    return {**errors(model, whole, truth), "hidden": hidden(model, settings, run, generator)}


@torch.no_grad()
def errors(model: SchemaModel, schema: Schema, truth: list[Tensor]) -> dict[str, float]:
    """Differences to what was put together, and violations of both relations."""
    background, item, image, _ = truth
    found, seen = model("d", image)
    batch = {"A": background, "B": item.roll(1, 0), "C": image}
    return {
        "deletion_error": float((found - background).abs().mean()),
        "object_error": float((seen - item).abs().mean()),
        "insertion_error": float((model("c", background, item) - image).abs().mean()),
        "violation": sum(float(model.violation(relation, batch)) for relation in schema.relations),
    }


def hidden(model: SchemaModel, settings: Settings, run: Run, generator: torch.Generator) -> float:
    """How often a linear probe finds the quarter of the object in the background alone, on scenes of its own."""
    parts = []
    for count in (settings.probed, settings.test):
        _, _, image, quarter = scenes(count, settings.side, generator)
        with torch.no_grad():
            parts.append((model("d", image.to(run.device))[0].flatten(1), quarter.to(run.device)))
    (x, y), (unseen, answers) = parts
    mean, deviation = x.mean(0), x.std(0) + 1e-4
    probe = nn.Linear(x.shape[1], 4).to(run.device)
    optimizer = torch.optim.Adam(probe.parameters(), 1e-2, weight_decay=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        cross_entropy(probe((x - mean) / deviation), y).backward()
        optimizer.step()
    with torch.no_grad():
        return float((probe((unseen - mean) / deviation).argmax(1) == answers).double().mean())


STUDY = Study(
    paper=Paper("Compositional Deep Learning", "Gavranović", 2019, "1907.08292"),
    trial=trial,
    arms={"no-relations": Settings(weight=0.0), "one-way": Settings(relations=1), "schema": Settings()},
    scales={
        "smoke": {"steps": 2, "batch_size": 4, "width": 4, "test": 16, "probed": 32, "every": 1},
        "small": {},
        "paper": {"side": 64, "width": 64, "batch_size": 64, "steps": 20_000, "every": 500, "learning_rate": 1e-4},
    },
    claims=[
        Claim(
            "unpaired, it learns to take the object out", "circles, deletion",
            ratio("deletion_error", "schema", "no-relations") < 0.7,
        ),
        Claim(
            "and to put it in", "circles, insertion",
            difference("insertion_error", "schema", "no-relations") < 0,
        ),
        Claim(
            "the composites come to obey the equations", "path-equivalence relations",
            ratio("violation", "schema", "no-relations") < 0.3,
        ),
        Claim(
            "both directions matter: with one, the object is hidden in the background", "product task",
            all_of(value("hidden", "one-way") > 0.8, difference("hidden", "one-way", "schema") > 0.1),
        ),
    ],
    figures=[
        Curve("The background that is found, against the true one", x="step", y="deletion_error", log_y=True),
        Curve("An object put in, against the true image", x="step", y="insertion_error", log_y=True),
        Curve("Violation of both relations", x="step", y="violation", log_y=True),
        Bars("A probe finds the object's quarter in the background alone (chance 0.25)", metric="hidden"),
    ],
    seeds=(3, 4),
)  # fmt: skip
