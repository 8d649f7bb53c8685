"""Networks of different kinds, a generator among them, share units; they can steer the generator.

Dravid, Gandelsman, Efros and Shocher compared the activation maps of a GAN's units with those of classifiers and
self-supervised networks on the GAN's own images. Pairs that choose each other, in all networks at once, are "Rosetta
neurons": dozens per generator, found without labels. Fitting a latent so that the generator's maps follow those that
another network has on a real photograph, or edited ones, inverts and edits the image.

Small: MNIST and Fashion-MNIST mixed (20 classes, 6,000 images). The anchor is the decoder of a convolutional VAE (16
latents) on 500 images of its own; the others are a classifier, a wider one of another seed, a convolutional
autoencoder, a network that tells rotations apart, and a transformer on patches. ``untrained`` are the same with random
weights. The mining is done twice more: with the images in another order for the other networks, and without
mutuality. 20 unseen images are inverted with and
without the guidance of the classifier's maps, and maps are shifted by three positions. Paper: bigger networks of the
same kinds on all images; the paper's eight checkpoints (BigGAN, StyleGAN, ResNet, DINO, CLIP, MAE) can be given to
`mine_rosetta` as they are, and cannot be fetched here.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference, value
from neurarium.objectives import shift_maps
from neurarium.probes import RosettaDictionary, guided_inversion, mine_rosetta


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    weights: Literal["trained", "untrained"] = "trained"
    data: tuple[str, ...] = ("mnist", "fashion-mnist")
    images: int = 6000
    mined: int = 500
    epochs: int = 2
    width: int = 16
    latents: int = 16
    inverted: int = 20
    steps: int = 100
    shift: int = 3


def encoder(width: int) -> list[nn.Module]:
    """28 x 28 to 7 x 7 in two strided convolutions."""
    return [
        nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
    ]  # fmt: skip


class Decoder(nn.Sequential):
    """Latents to images: the anchor."""

    def __init__(self, latents: int, width: int) -> None:
        super().__init__(
            nn.Linear(latents, 2 * width * 49), nn.ReLU(), nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, 2 * width, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip


class Patches(nn.Module):
    """A transformer on 7 x 7 patches of 4 x 4 pixels."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 4, stride=4)
        self.place = nn.Parameter(0.1 * torch.randn(1, 49, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.blocks(tokens).mean(1))


LAYERS = {
    "anchor": ("4", "6"), "cnn": ("1", "3"), "cnn-wide": ("1", "3"), "autoencoder": ("1", "3"), "rotation": ("1", "3"),
    "patches": ("blocks.layers.0.linear2:input", "blocks.layers.1.linear2:input"),
}  # fmt: skip


def build(settings: Settings, classes: int) -> dict[str, nn.Module]:
    """All networks; the VAE's encoder is only needed to train the anchor."""
    w = settings.width

    def classifier(width: int, outputs: int) -> nn.Module:
        return nn.Sequential(*encoder(width), nn.Flatten(), nn.Linear(2 * width * 49, outputs))

    return {
        "anchor": Decoder(settings.latents, w),
        "vae-encoder": classifier(w, 2 * settings.latents),
        "cnn": classifier(w, classes),
        "cnn-wide": classifier(2 * w, classes),
        "autoencoder": nn.Sequential(
            *encoder(w), nn.Conv2d(2 * w, 4, 1), nn.ConvTranspose2d(4, w, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(w, 1, 4, 2, 1),
        ),
        "rotation": classifier(w, 4),
        "patches": Patches(classes, 4 * w),
    }  # fmt: skip


def objective(name: str, nets: dict[str, nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """What each network learns."""
    if name == "anchor":
        mean, log_variance = nets["vae-encoder"](x).chunk(2, 1)
        made = nets["anchor"](mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return nn.functional.binary_cross_entropy(made, x, reduction="sum") / len(x) + divergence
    if name == "autoencoder":
        return mse_loss(nets[name](x), x)
    if name == "rotation":
        turns = torch.randint(4, (len(x),), device=x.device)
        turned = torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(x, turns)])
        return cross_entropy(nets[name](turned), turns)
    return cross_entropy(nets[name](x), y)


def train(settings: Settings, nets: dict[str, nn.Module], data: Arrays, run: Run) -> None:
    """Every network on its own task."""
    for name in run.track(list(LAYERS), "networks"):
        parts = [nets[name], nets["vae-encoder"]] if name == "anchor" else [nets[name]]
        optimizer = torch.optim.Adam([p for part in parts for p in part.parameters()], lr=2e-3)
        for _ in range(settings.epochs):
            for x, y in Batches(data, 64, shuffle=True, seed=run.seed):
                optimizer.zero_grad()
                objective(name, nets, x, y).backward()
                optimizer.step()


def mixed(settings: Settings, test: bool, count: int, seed: int) -> tuple[Arrays, int]:
    """Images of all sets in 0 to 1, their classes one after the other."""
    parts, classes = [], 0
    for name in settings.data:
        split = load(name)
        part = (split.test if test else split.train).subset(count // len(settings.data), seed=seed)
        parts.append(Arrays(part.x.float().reshape(-1, 1, 28, 28) / 255, part.y + classes))
        classes += len(split.classes)
    return Arrays(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])), classes


def trial(settings: Settings, run: Run) -> Metrics:
    """Train, mine, calibrate, invert, edit."""
    data, classes = mixed(settings, False, settings.images, run.seed)
    nets = {name: net.to(run.device) for name, net in build(settings, classes).items()}
    if settings.weights == "trained":
        train(settings, nets, data.to(run.device), run)
    anchor = nets["anchor"]
    models = {name: nets[name] for name in LAYERS if name != "anchor"}
    draw = torch.Generator().manual_seed(run.seed)
    latents = torch.randn(settings.mined, settings.latents, generator=draw).to(run.device)

    def mine(shuffle: bool = False, mutual: bool = True) -> RosettaDictionary:
        batches = latents.split(min(100, len(latents)))
        return mine_rosetta(
            anchor, models, batches, LAYERS, generator=True, shuffle=shuffle, mutual=mutual, seed=run.seed
        )

    found, shuffled, easy = mine(), mine(shuffle=True), mine(mutual=False)
    score = float(found.scores.mean()) if len(found.units) else float("nan")
    for place, mean in enumerate(found.scores.mean(1).tolist() or [float("nan")]):
        run.record(place=place, score=mean)
    metrics = {
        "rosetta_count": len(found.units),
        "concepts": found.concepts,
        "share_of_anchor_units": len(found.units) / found.anchor_units,
        "shuffled_count": len(shuffled.units),
        "count_without_mutuality": len(easy.units),
        "mean_score": score,
        "null_level": float(found.null.mean()),
        "score_above_null": score - float(found.null.mean()),
    }
    if settings.weights == "untrained":
        return metrics
    real = mixed(settings, True, settings.inverted, run.seed)[0].x.to(run.device)
    return metrics | invert(settings, anchor, models["cnn"], found, real) | edit(settings, anchor, found, latents[:20])


def invert(
    settings: Settings, anchor: nn.Module, guide: nn.Module, found: RosettaDictionary, images: Tensor
) -> dict[str, float]:
    """Error of plain and of guided inversion after the same steps from the same start."""
    start = images.new_zeros(len(images), settings.latents)
    errors = {"inversion_error": guided_inversion(anchor, start, images=images, steps=settings.steps).images}
    if len(found.units):
        targets = found.maps_of("cnn", guide, images)
        errors["guided_error"] = guided_inversion(
            anchor, start, LAYERS["anchor"], found.units.tolist(), targets, images=images, weight=0.02,
            steps=settings.steps,
        ).images  # fmt: skip
    measured = {name: float(mse_loss(made, images)) for name, made in errors.items()}
    measured["guided_over_plain"] = measured.get("guided_error", float("nan")) / measured["inversion_error"]
    return measured


def edit(settings: Settings, anchor: nn.Module, found: RosettaDictionary, latents: Tensor) -> dict[str, float]:
    """How far the centre of the images moves where the maps of the Rosetta neurons are shifted to the right."""
    if not len(found.units):
        return {"moved": float("nan")}
    maps = nn.functional.interpolate(found.maps_of("anchor", anchor, latents), (28, 28), mode="bilinear")
    targets, valid = shift_maps(maps, 0, settings.shift)
    after = guided_inversion(
        anchor, latents, LAYERS["anchor"], found.units.tolist(), targets, valid=valid, prior=0.01, weight=1.0,
        steps=settings.steps,
    ).images  # fmt: skip
    with torch.no_grad():
        return {"moved": float((centre(after) - centre(anchor(latents))).mean())}


def centre(images: Tensor) -> Tensor:
    """Column of each image's centre of mass, in pixels."""
    column = images.sum((1, 2))
    return (column * torch.arange(column.shape[1], device=images.device)).sum(1) / column.sum(1).clamp_min(1e-6)


STUDY = Study(
    paper=Paper(
        "Rosetta Neurons: Mining the Common Units in a Model Zoo",
        "Dravid, Gandelsman, Efros, Shocher",
        2023,
        arxiv="2306.09346",
    ),
    trial=trial,
    arms={"trained": Settings(), "untrained": Settings(weights="untrained")},
    scales={
        "smoke": {
            "data": ("mnist-small",),
            "images": 128,
            "mined": 60,
            "epochs": 1,
            "width": 4,
            "inverted": 4,
            "steps": 3,
        },
        "paper": {"images": 120_000, "mined": 5000, "epochs": 20, "width": 64, "latents": 64},
    },
    claims=[
        Claim(
            "Units of a generator are shared by all of five networks of other kinds; shuffled images give none",
            "abstract, section 3",
            all_of(value("rosetta_count", "trained") > 2.5, value("shuffled_count", "trained") < 0.5),
        ),
        Claim(
            "Shared units agree far better than chance",
            "section 3",
            value("score_above_null", "trained") > 0.15,
        ),
        Claim(
            "Training makes them: there are more than in the same networks with random weights",
            "control of ours",
            difference("rosetta_count", "trained", "untrained") > 1,
        ),
        Claim(
            "Guiding the inversion by another network's maps does not harm the reconstruction",
            "section 5.1",
            value("guided_over_plain", "trained") < 1.05,
        ),
        Claim(
            "Shifting the maps of Rosetta neurons by three positions moves the image that way by more than one",
            "section 5.2",
            value("moved", "trained") > 1,
        ),
    ],
    figures=[
        Curve("Mean score of each Rosetta neuron, best first", x="place", y="score"),
        Bars("Rosetta neurons", metric="rosetta_count"),
        Scatter("Mean score against what chance reaches", x="null_level", y="mean_score"),
    ],
    seeds=(3, 8),
)
