"""Three bits per element are enough for the backward pass of an activation function.

The paper (Novikov et al., 2022) replaces the derivative of an activation by the best step function with 2^b levels, so
that b bits per element are kept for the backward pass in place of the input. It fine-tunes RoBERTa with 3-bit GELU at
the same GLUE scores and 13.8 % less peak memory, and finds 1 or 2 bits slightly worse.

Small: a transformer of 4 pre-norm layers of width 32 reads MNIST images as 16 patches: 3,000 images, AdamW with cosine
decay from 4e-3 to 0, 5 passes in batches of 50. (At a constant rate the accuracy is higher, but two runs of one arm
differ by more than the margin.) Arms differ in the activation alone: equal seeds give equal weights, data and order of
batches.
``uniform-3`` has intervals of equal width over the range that suits them best, with mean levels; ``actnn`` keeps the
input itself, stochastically rounded within the range of each group of 256. Ten times during training the gradient is
compared with that of exact GELU at the same weights and batch; ``cosine`` is the mean over these. ``saved_ratio`` is
the share of the bytes that all layers together keep for the backward pass, ``activation_ratio`` that of the first
activation alone, both against exact GELU. The rate is the best of 2e-3, 4e-3, 8e-3 and 1.6e-2 for the exact network on
seed 100, and serves all arms.

Paper: 60,000 Fashion-MNIST images, width 128, 20 passes. The paper's own RoBERTa and GLUE are not part of the study.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from neurarium.compression import convert_activations
from neurarium.data import Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference, ratio, value
from neurarium.layers import FewBitActivation, QuantizedInputActivation, optimal_derivative, uniform_derivative
from neurarium.training import accuracy, evaluate, saved_bytes

BITS = ("few-bit-1", "few-bit-2", "few-bit-3", "few-bit-4")
PROBES = 10  # gradients compared along the way


@dataclass(frozen=True)
class Settings:
    """An arm: the activation, its bits, and the network and training that all arms share."""

    activation: Literal["exact", "few-bit", "uniform", "actnn", "relu"] = "exact"
    bits: int = 3
    data: str = "mnist-small"
    images: int = 3_000
    width: int = 32
    depth: int = 4
    epochs: int = 5
    batch_size: int = 50
    lr: float = 4e-3


class PatchTransformer(nn.Module):
    """Reads an image of 28 x 28 as 16 patches; ``nn.GELU`` modules as activations."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(49, width)
        self.positions = nn.Parameter(0.1 * torch.randn(16, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, nn.GELU(), batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(1, 7, 7).unfold(2, 7, 7).reshape(len(x), 16, 49)
        hidden = self.embed(patches) + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(self.norm(hidden).mean(1))


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one arm, comparing its gradient with the exact one along the way, and count the bytes it keeps."""
    split = load(settings.data).scaled().to(run.device)
    train = split.train.subset(min(settings.images, len(split.train)), seed=run.seed)
    exact = PatchTransformer(settings.width, settings.depth, len(split.classes)).to(run.device)
    model: nn.Module = exact
    if settings.activation != "exact":
        model = convert_activations(exact, settings.bits, make=lambda _: activation(settings)).model
    batches = Batches(train, settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * len(batches))
    probe_every = max(1, settings.epochs * len(batches) // PROBES)
    cosines: list[float] = []
    step = 0
    for _ in run.track(range(settings.epochs), "epochs"):
        hits: list[float] = []
        for x, y in batches:
            step += 1
            logits = model(x)
            optimizer.zero_grad()
            cross_entropy(logits, y).backward()
            hits.append(float(accuracy(logits.detach(), y)))
            if step % probe_every == 0:
                cosines.append(cosine_to_exact(model, exact, x, y))
                run.record(step=step, cosine=cosines[-1])
            optimizer.step()
            schedule.step()
        run.record(step=step, train_accuracy=float(np.mean(hits)))
    x = train.x[: settings.batch_size]
    hidden = torch.randn(settings.batch_size, 16, 4 * settings.width, device=run.device, requires_grad=True)
    chosen = activation(settings).to(run.device)
    return {
        "accuracy": evaluate(model, Batches(split.test, 1000)),
        "cosine": float(np.mean(cosines)),
        "error": derivative_error(settings),
        "saved_ratio": saved_bytes(lambda: model(x)) / saved_bytes(lambda: exact(x)),
        "activation_ratio": saved_bytes(lambda: chosen(hidden)) / saved_bytes(lambda: gelu(hidden)),
    }


def activation(settings: Settings) -> nn.Module:
    """The arm's stand-in for GELU."""
    if settings.activation == "few-bit":
        return FewBitActivation(nn.GELU(), settings.bits)
    if settings.activation == "uniform":
        return FewBitActivation(nn.GELU(), settings.bits, table=uniform_derivative(gelu, settings.bits))
    if settings.activation == "actnn":
        return QuantizedInputActivation(nn.GELU(), settings.bits)
    return nn.ReLU() if settings.activation == "relu" else nn.GELU()


def derivative_error(settings: Settings) -> float:
    """Integral over [-10, 10] of the squared error of the derivative; 0 where there is no step function."""
    if settings.activation == "few-bit":
        return optimal_derivative(gelu, settings.bits).error
    return uniform_derivative(gelu, settings.bits).error if settings.activation == "uniform" else 0.0


def cosine_to_exact(model: nn.Module, exact: nn.Module, x: Tensor, y: Tensor) -> float:
    """Cosine between the gradient in ``model`` and that of the exact network at the same weights and batch."""
    twin = copy.deepcopy(exact)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, p in twin.named_parameters():
            p.copy_(weights[name])
    truth = torch.autograd.grad(cross_entropy(twin(x), y), list(twin.parameters()))
    grads = [weights[name].grad for name, _ in twin.named_parameters()]
    ours = torch.cat([g.flatten() for g in grads if g is not None])
    return float(torch.cosine_similarity(ours, torch.cat([g.flatten() for g in truth]), dim=0))


STUDY = Study(
    paper=Paper(
        "Few-Bit Backward: Quantized Gradients of Activation Functions for Memory Footprint Reduction",
        "Novikov et al.",
        2022,
        "2202.00441",
    ),
    trial=trial,
    arms={
        "exact": Settings(),
        **{f"few-bit-{bits}": Settings("few-bit", bits) for bits in (1, 2, 3, 4)},
        "uniform-3": Settings("uniform", 3),
        "actnn-2": Settings("actnn", 2),
        "actnn-4": Settings("actnn", 4),
        "relu": Settings("relu"),
    },
    scales={
        "smoke": {"images": 200, "width": 16, "depth": 2, "epochs": 1},
        "small": {},
        "paper": {"data": "fashion-mnist", "images": 60_000, "width": 128, "epochs": 20},
    },
    claims=[
        Claim(
            "3 bits train to the same accuracy",
            "section 4",
            abs(difference("accuracy", "exact", "few-bit-3")) < 0.01,
        ),
        Claim(
            "an activation keeps an eighth or less of what it kept",
            "section 3",
            value("activation_ratio", "few-bit-3") < 0.12,
        ),
        Claim(
            "the whole network keeps less",
            "table 1: 13.8 % of peak memory",
            value("saved_ratio", "few-bit-3") < 0.85,
        ),
        Claim(
            "the gradient with 3 bits points where the exact one does",
            "section 4",
            value("cosine", "few-bit-3") > 0.995,
        ),
        Claim(
            "each further bit brings the gradient closer",
            "section 4",
            all_of(*(difference("cosine", more, fewer) > 0 for fewer, more in itertools.pairwise(BITS))),
        ),
        Claim(
            "optimal intervals beat intervals of equal width",
            "section 3",
            ratio("error", "few-bit-3", "uniform-3") < 1,
        ),
        Claim(
            "a quantised derivative beats a quantised input at equal bits",
            "section 4, against ActNN",
            difference("cosine", "few-bit-2", "actnn-2") > 0,
        ),
    ],
    figures=[
        Curve(
            "How well the gradient points during training",
            arms=(*BITS, "uniform-3", "actnn-2", "actnn-4"),
            x="step",
            y="cosine",
        ),
        Curve("All arms learn alike", x="step", y="train_accuracy"),
        Bars("Accuracy by arm", metric="accuracy"),
        Bars("Bytes kept for the backward pass, share of exact GELU's", metric="saved_ratio"),
        Scatter("What a byte buys", x="activation_ratio", y="cosine"),
    ],
    seeds=(3, 4),
)
