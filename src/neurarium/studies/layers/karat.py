"""Is a learned operator better than softmax for turning attention scores into weights?

Maity et al. make every attention weight a sum of learned functions of all scores in its row (Kolmogorov-Arnold
attention), affordable by a bottleneck of rank 12 and a Fourier basis. Their smallest vision transformer gains on
CIFAR-10 and CIFAR-100, larger ones lose; an operator for each block is better than one for all; memory is 2.5 to 3
times that of softmax. A control is missing: the operator is also a linear map of low rank between positions, which
needs no learned function.

Small: a vision transformer (patches of 7 pixels, 16 tokens, width 48, 3 heads, 4 blocks, pooled) on 2,000 training and
2,000 test images of Fashion-MNIST, AdamW with one cycle of its rate, 5 epochs. `fourier` has 3 frequencies and rank 12
in every block, `universal` one operator for all blocks, `linear` is the same bottleneck without functions. All start
from the same projections, with the same rate of 2e-3, which was not tuned for any.
Variants on 600 images, for which nothing is claimed: a silu base, rows projected on the simplex, wavelets; and
CIFAR-10 (JPEG copies, patches of 8 pixels). The paper's class token is left out; its code is not public.

Paper: ViT-Tiny on CIFAR-10 in 224 pixels, 100 epochs (``--set width=384 --set heads=6`` for Small, 768, 12 and
``--set frequencies=1`` for Base).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.optim.lr_scheduler import OneCycleLR

from neurarium.data import Arrays, Batches, load
from neurarium.lab import (
    Bars,
    Claim,
    Curve,
    Heatmap,
    Metrics,
    Paper,
    Run,
    Scatter,
    Study,
    difference,
    ratio,
)  # fmt: skip
from neurarium.layers import AttentionOperator, LearnableAttention, replace_attention
from neurarium.learning import Backprop
from neurarium.probes import attention_spectrum
from neurarium.studies.layers._vision_transformer import VisionTransformer, as_images
from neurarium.training import evaluate, fit, saved_bytes


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    basis: Literal["softmax", "linear", "fourier", "wavelet", "bspline"] = "fourier"
    lr: float = 2e-3
    universal: bool = False
    base: Literal["zero", "silu", "identity"] = "zero"
    simplex: bool = False
    frequencies: int = 3
    rank: int = 12
    data: str = "fashion-mnist"
    images: int = 2000
    tested: int = 2000
    epochs: int = 5
    side: int = 0
    patch: int = 7
    width: int = 48
    heads: int = 3
    blocks: int = 4


def build(settings: Settings, image: Tensor, classes: int) -> nn.Module:
    """The transformer of an arm; projections are the same in all arms."""
    model = VisionTransformer(
        image, classes, settings.patch, settings.width, settings.heads, settings.blocks, 2 * settings.width
    )  # fmt: skip
    tokens = len(model.positions)
    if settings.basis == "softmax":
        return replace_attention(model, tokens, basis="softmax").model
    return replace_attention(
        model, tokens, settings.universal, basis=settings.basis, rank=settings.rank, grid_size=settings.frequencies,
        base=settings.base, project="simplex" if settings.simplex else None,
    ).model  # fmt: skip


def enlarged(part: Arrays, side: int) -> Arrays:
    """Images of another size, where one is asked for."""
    return replace(part, x=interpolate(part.x, side, mode="bilinear")) if side else part


def look(model: nn.Module, x: Tensor, run: Run) -> dict[str, float]:
    """Weights, singular values and learned functions, recorded; and what of them is a number."""
    found = attention_spectrum(model, x)
    for which, values in (("scores", found.scores), ("weights", found.weights)):
        for number, value in enumerate(values.mean(0).tolist()):
            run.record(number=number + 1, singular_value=value, of=which)
    for query, row in enumerate(next(iter(found.maps.values())).tolist()):
        for key, weight in enumerate(row):
            run.record(key=key, query=-query, weight=weight)
    layer = next(m for m in model.modules() if isinstance(m, LearnableAttention))
    if isinstance(layer.operator, AttentionOperator) and run.seed == 0:
        points = torch.linspace(-4, 4, 81, device=x.device)
        for edge in range(4):
            for point, value in zip(points.tolist(), layer.operator.edge(points, 0, edge, edge).tolist(), strict=True):
                run.record(score=point, function=value, edge=f"edge {edge + 1}")
    count = len(found.layers)
    return {
        "score_rank": sum(found.score_rank) / count,
        "weight_rank": sum(found.weight_rank) / count,
        "rank_change": (sum(found.weight_rank) - sum(found.score_rank)) / count,
        "row_sum": sum(found.row_sums) / count,
        "negative": sum(found.negative) / count,
        "score_range": max(found.score_range),
    }


def trial(settings: Settings, run: Run) -> Metrics:
    """Train and look at the attention."""
    data = load(settings.data).scaled()
    train = enlarged(as_images(data.train.subset(settings.images, seed=run.seed)), settings.side).to(run.device)
    test = enlarged(as_images(data.test[: settings.tested]), settings.side).to(run.device)
    model = build(settings, train.x[0], len(data.classes)).to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=0.05)
    loader = Batches(train, 64, shuffle=True, seed=run.seed)
    schedule = OneCycleLR(optimizer, settings.lr, settings.epochs * len(loader))

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    rule, losses, began = Backprop(model, cross_entropy), [0.0], time.process_time()
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        losses = fit(rule, loader, optimizer)
        run.record(epoch=epoch, accuracy=evaluate(model, Batches(test, 500)), loss=losses[0])
    seconds = time.process_time() - began
    attention = next(m for m in model.modules() if isinstance(m, LearnableAttention))
    tokens = torch.randn(64, attention.num_tokens, settings.width, device=run.device)
    return {
        "accuracy": evaluate(model, Batches(test, 500)),
        "train_loss": losses[-1],
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "attention_bytes": float(saved_bytes(lambda: attention(tokens, need_weights=False)[0])),
        "train_seconds": seconds,
        **look(model, test.x[:64], run),
    }


FEW = Settings(images=600)
PHOTOS = Settings(data="cifar10", patch=8, images=1000, tested=1000)
STUDY = Study(
    paper=Paper(
        "Kolmogorov-Arnold Attention: Is Learnable Attention Better For Vision Transformers?", "Maity et al.", 2025,
        arxiv="2503.10632",
    ),
    trial=trial,
    arms={
        "softmax": Settings("softmax"),
        "fourier": Settings(),
        "universal": Settings(universal=True),
        "linear": Settings("linear"),
        "few-fourier": FEW,
        "few-silu": replace(FEW, base="silu"),
        "few-simplex": replace(FEW, simplex=True),
        "few-wavelet": replace(FEW, basis="wavelet"),
        "photos-softmax": replace(PHOTOS, basis="softmax"),
        "photos-fourier": PHOTOS,
    },
    scales={
        "smoke": {"images": 128, "tested": 64, "epochs": 1, "data": "mnist-small", "patch": 7, "blocks": 2},
        "paper": {
            "data": "cifar10", "images": 50_000, "tested": 10_000, "epochs": 100, "side": 224, "patch": 16,
            "width": 192, "blocks": 12, "lr": 5e-4,
        },
    },
    claims=[
        Claim(
            "Learnable attention is ahead of softmax in a small transformer", "Table 1, ViT-Tiny",
            difference("accuracy", "fourier", "softmax") > 0.01, published="76.69 % against 72.76 % on CIFAR-10",
        ),
        Claim(
            "An operator for each block is better than one for all", "Table 1, ViT-Tiny",
            difference("accuracy", "fourier", "universal") > 0, published="76.69 % against 75.56 % on CIFAR-10",
        ),
        Claim(
            "What helps is that the functions are learned: the operator is ahead of its linear part", "title",
            difference("accuracy", "fourier", "linear") > 0.005,
        ),
        Claim(
            "It keeps more for the backward pass than softmax", "section 5",
            ratio("attention_bytes", "fourier", "softmax") > 1.5, published="2.5 to 3 times the memory",
        ),
        Claim(
            "Weights have a lower rank than with softmax", "section 5",
            difference("weight_rank", "softmax", "fourier") > 0,
        ),
    ],
    figures=[
        Curve("Test accuracy over the epochs", ["softmax", "fourier", "universal", "linear"], x="epoch", y="accuracy"),
        Heatmap(
            "Attention weights of the first block, mean over heads and seeds, on one image",
            ["softmax", "fourier", "linear"], x="key", y="query", value="weight",
        ),
        Curve("Four of the learned functions", ["fourier"], x="score", y="function", series="edge"),
        Curve(
            "Singular values before and after the operator", ["softmax", "fourier", "linear"], x="number",
            y="singular_value", series="of", log_y=True,
        ),
        Scatter("Accuracy against seconds of training", x="train_seconds", y="accuracy"),
        Bars("Test accuracy", metric="accuracy"),
    ],
    seeds=(3, 3),
)  # fmt: skip
