"""What a network computes with random weights: rectifiers are simple at every scale, others become complex.

Teney et al. drew weights at random, trained nothing, and measured how complex the functions are. Rectifier networks
give simple ones at every depth and scale of weights; tanh, Gaussian and sine networks give any complexity as the scale
grows; residual connections and layer norm lower it, multiplicative gates raise it. Trained networks keep the bias: each
learns best what it computes at random.

Small: networks of 64 units, 6 for each scale of 0.3, 1, 3 and 10 and each depth of 1, 3 and 6, on grids of 64 x 64
points; `f_A_D` is the mean Fourier frequency at scale A and depth D. ``lm-*``: decoders of three layers of width 64
with random weights (deviation 1/8, gains of layer norms 10) write 40 tokens after each of 64 prompts of one token.
``fit-*``: networks of three layers are fitted to sums of 8 plane waves of wave number pi k (k = 1 and 4) from 400
points, Adam at 1e-3, 400 steps; the first layer's default weights are multiplied by 1 for rectifiers, 3 for Gaussians
and 6 for sines. Nothing was tuned; all margins were fixed before any run.

Paper: 15 scales by 7 depths on grids of 300 x 300, GPT-2's shape. Departures: the paper's code looks at half of the
Fourier plane, which is the same on average over networks, and ours at the whole; the margins at this size are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neurarium.data import Arrays, Batches
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.layers import GaussianBump, Sine
from neurarium.learning import Backprop
from neurarium.models import VariantMlp
from neurarium.probes import generated_complexity, random_weight_complexity
from neurarium.training import fit

Activation = Literal["relu", "tanh", "gaussian", "sine", "gelu"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "gaussian": GaussianBump, "sine": Sine, "gelu": nn.GELU,
}  # fmt: skip


@dataclass(frozen=True)
class RandomNets:
    """Networks with random weights."""

    activation: Activation = "relu"
    residual: bool = False
    norm: bool = False
    gate: bool = False
    scales: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    depths: tuple[int, ...] = (1, 3, 6)
    width: int = 64
    samples: int = 6
    resolution: int = 64


@dataclass(frozen=True)
class Decoders:
    """Language models with random weights."""

    activation: Activation = "relu"
    layers: int = 3
    width: int = 64
    vocabulary: int = 64
    prompts: int = 64
    tokens: int = 40
    gain: float = 10.0
    deviation: float = 0.125


@dataclass(frozen=True)
class Fits:
    """Networks that are trained on targets of two frequencies."""

    activation: Activation = "relu"
    first_scale: float = 1.0
    waves: tuple[int, ...] = (1, 4)
    examples: int = 400
    steps: int = 400
    width: int = 64


def random_nets(settings: RandomNets, run: Run) -> Metrics:
    """Measure every depth and scale."""
    draw = torch.Generator().manual_seed(run.seed)
    parts = {"residual": settings.residual, "norm": settings.norm, "gate": settings.gate}
    metrics: dict[str, float] = {}
    pooled: list[Tensor] = []
    for depth in run.track(settings.depths, "depths"):
        activation = ACTIVATIONS[settings.activation]
        model = VariantMlp(2, 1, depth, settings.width, activation, **parts).to(run.device)
        sweep = random_weight_complexity(
            model, (-1.0, 1.0), settings.scales, samples=settings.samples, resolution=settings.resolution,
            generator=draw,
        )  # fmt: skip
        means = [measure.nanmean(2)[0] for measure in (sweep.frequency, sweep.degree, sweep.lempel_ziv)]
        pooled.append(torch.stack(means))
        for j, scale in enumerate(settings.scales):
            metrics[f"f_{scale:g}_{depth}"] = float(means[0][j])
            run.record(scale=scale, depth=depth, frequency=float(means[0][j]), series=f"{depth} layers")
            run.record(step=math.log10(scale), layers=depth, map=float(means[0][j]))
    table = torch.cat(pooled, 1)
    known = table[0][~table[0].isnan()]
    for j in range(table.shape[1]):
        metrics |= {f"point_{name}_{j}": float(table[i, j]) for i, name in enumerate(("f", "d", "z"))}
    return metrics | {"range": float(known.max() - known.min()), "frequency": float(known.mean())}


class Decoder(nn.Module):
    """GPT-2's shape: embeddings of tokens and places, blocks with layer norm first, a last norm and a linear map."""

    def __init__(self, settings: Decoders, longest: int) -> None:
        super().__init__()
        width = settings.width
        self.tokens, self.places = nn.Embedding(settings.vocabulary, width), nn.Embedding(longest, width)
        layer: Any = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, ACTIVATIONS[settings.activation](), batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, settings.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, settings.vocabulary, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        places = torch.arange(text.shape[1], device=text.device)
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1], device=text.device)
        return self.head(self.blocks(self.tokens(text) + self.places(places), mask, is_causal=True))


def decoders(settings: Decoders, run: Run) -> Metrics:
    """Draw a decoder's weights and let it write."""
    model = Decoder(settings, settings.tokens + 1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.fill_(settings.gain if name.endswith("weight") else 0.0)
            elif weight.dim() > 1:
                weight.normal_(0, settings.deviation)
            else:
                weight.zero_()
    prompts = torch.from_numpy(run.rng(1).integers(0, settings.vocabulary, (settings.prompts, 1)))
    found = generated_complexity(model.to(run.device), prompts.to(run.device), settings.tokens)
    return {"phrases": found.mean, "kinds": float(found.tokens.unique().numel())}


def waves(number: int, draw: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A sum of 8 plane waves of wave number pi k in random directions, of deviation about 1."""
    turn, phase = torch.from_numpy(draw.uniform(0, 2 * math.pi, (2, 8)))
    direction = math.pi * number * torch.stack([turn.cos(), turn.sin()])
    return lambda x: ((x.double() @ direction + phase).sin().sum(1, keepdim=True) / 2).float()


def fits(settings: Fits, run: Run) -> Metrics:
    """Fit targets of each frequency, and measure the error on new points."""
    metrics = {}
    for k in settings.waves:
        draw = run.rng(k)
        target = waves(k, draw)
        x = torch.from_numpy(draw.uniform(-1, 1, (settings.examples + 1000, 2))).float()
        y = target(x)
        arrays = Arrays(x[: settings.examples], y[: settings.examples]).to(run.device)
        model = VariantMlp(2, 1, 3, settings.width, ACTIVATIONS[settings.activation]).to(run.device)
        with torch.no_grad():
            for weight in model.hidden[0].parameters():
                weight.mul_(settings.first_scale)
        rule = Backprop(model, mse_loss)
        optimizer = torch.optim.Adam(rule.parameters(), lr=1e-3)
        loader = Batches(arrays, settings.examples)
        rest, truth = x[settings.examples :].to(run.device), y[settings.examples :].to(run.device)
        for part in range(8):
            fit(rule, loader, optimizer, epochs=max(settings.steps // 8, 1))
            with torch.no_grad():
                error = float(mse_loss(model(rest), truth) / truth.var())
            run.record(step=(part + 1) * settings.steps // 8, error=error, series=f"wave number {k} pi")
        metrics[f"nmse_{k}"] = error
    return metrics


NETS = {
    "relu": RandomNets(),
    "tanh": RandomNets("tanh"),
    "gaussian": RandomNets("gaussian"),
    "sine": RandomNets("sine"),
    "gelu": RandomNets("gelu"),
    "relu-norm": RandomNets("relu", norm=True),
    "tanh-norm": RandomNets("tanh", norm=True),
    "tanh-residual": RandomNets("tanh", residual=True),
    "relu-gate": RandomNets("relu", gate=True),
    "tanh-gate": RandomNets("tanh", gate=True),
}
WRITERS = {f"lm-{name}": Decoders(name) for name in ("relu", "tanh", "gaussian")}
FITTED = {"fit-relu": Fits(), "fit-gaussian": Fits("gaussian", 3.0), "fit-sine": Fits("sine", 6.0)}


def agreement(first: str, second: str) -> Any:
    """Pearson's correlation of two measures over all settings of all arms without a gate (gates overflow)."""
    from neurarium.lab.claims import Quantity

    arms = tuple(arm for arm in NETS if not arm.endswith("gate"))

    def at(rows: Any) -> float:
        pairs = [
            (row[f"point_{first}_{j}"], row[f"point_{second}_{j}"]) for row in rows.values()
            for j in range(sum(name.startswith(f"point_{first}_") for name in row))
        ]  # fmt: skip
        table = np.array([pair for pair in pairs if all(map(math.isfinite, pair))])
        return float(np.corrcoef(table.T)[0, 1]) if len(table) > 2 else math.nan

    return Quantity(f"correlation({first}, {second})", arms, at)


STUDY = Study(
    paper=Paper(
        "Neural Redshift: Random Networks are not Random Functions", "Teney, Nicolicioiu, Hartmann, Abbasnejad", 2024,
        arxiv="2403.02241",
    ),
    trial=None,
    seeds=(3, 5),
    arms={
        **{name: Arm(random_nets, settings) for name, settings in NETS.items()},
        **{name: Arm(decoders, settings) for name, settings in WRITERS.items()},
        **{name: Arm(fits, settings) for name, settings in FITTED.items()},
    },
    scales={
        "smoke": {
            RandomNets: {"samples": 1, "resolution": 16, "width": 8},
            Decoders: {"prompts": 2, "tokens": 4, "width": 16},
            Fits: {"steps": 8, "width": 8},
        },
        "paper": {
            RandomNets: {
                "scales": tuple(round(10 ** (k * 3 / 14 - 1), 3) for k in range(15)), "depths": tuple(range(1, 8)),
                "samples": 20, "resolution": 300,
            },
            Decoders: {
                "layers": 12, "width": 768, "vocabulary": 50_257, "prompts": 1000, "tokens": 50, "deviation": 0.02,
            },
            Fits: {"steps": 5000, "waves": (1, 2, 3, 4, 6, 8)},
        },
    },
    claims=[
        Claim(
            "Rectifier networks are equally simple at every scale of weights and depth",
            "Fig. 3, 4", value("range", "relu") < 0.06, published="0.13 to 0.21",
        ),
        Claim(
            "Tanh networks become complex as scale and depth grow",
            "Fig. 4", value("f_10_6", "tanh") - value("f_0.3_6", "tanh") > 0.15, published="about 0.14 to 0.47",
        ),
        Claim(
            "At large scales tanh, Gaussian and sine networks are more complex than rectifiers",
            "Fig. 4",
            all_of(*(difference("f_10_6", arm, "relu") > 0.15 for arm in ("tanh", "gaussian", "sine"))),
        ),
        Claim(
            "Layer norm makes complexity independent of the scale",
            "Section 3.3", abs(value("f_10_6", "tanh-norm") - value("f_0.3_6", "tanh-norm")) < 0.03,
        ),
        Claim(
            "Residual connections lower complexity",
            "Section 3.3", difference("f_10_6", "tanh", "tanh-residual") > 0.05,
        ),
        Claim(
            "Multiplicative gates raise complexity",
            "Section 3.3", difference("f_1_6", "relu-gate", "relu") > 0.05,
        ),
        Claim(
            "Frequency, compressibility and polynomial degree agree",
            "Section 3.2", all_of(agreement("f", "z") > 0.8, agreement("f", "d") > 0.6),
        ),
        Claim(
            "Random decoders with rectifiers write more compressible sequences than with tanh",
            "Section 5", difference("phrases", "lm-tanh", "lm-relu") > 0.03,
        ),
        Claim(
            "A network learns best what it is like at random: rectifiers slow waves, sines fast ones",
            "Section 4",
            all_of(
                difference("nmse_4", "fit-relu", "fit-sine") > 0.2, difference("nmse_1", "fit-sine", "fit-relu") > 0.2
            ),
        ),
    ],
    figures=[
        Heatmap(
            "Mean frequency by log10 scale (across) and depth", x="step", y="layers", value="map", arms=tuple(NETS),
            note="White noise has 0.55.",
        ),
        Curve("Mean frequency against scale", x="scale", y="frequency", series="series", log_x=True,
              arms=("relu", "tanh", "sine", "tanh-residual")),
        Curve("Error on new points while fitting", x="step", y="error", series="series", log_y=True,
              arms=tuple(FITTED)),
        Bars("Lempel-Ziv phrases a token of what random decoders write", metric="phrases", arms=tuple(WRITERS)),
    ],
)  # fmt: skip
