"""A router that chooses between perceptrons and Kolmogorov-Arnold networks spares one the choice.

He et al. put eight experts in the place of a transformer's feed-forward network, four perceptrons and four FasterKANs,
of which each token uses two. They report it best or nearly best on images (CIFAR-10 and -100, mini-ImageNet), on text
(SST-2) and on Feynman's formulas, where a pure network of either kind loses on the other's ground. Mixtures of eight
experts of *one* kind, which say whether the kinds matter or the mixing, are missing; they are arms here.

Small: the same arms on two tasks. Images: Fashion-MNIST, a vision transformer of two blocks (patches of 7 pixels, width
48). Functions: two of Feynman's formulas in two variables (the Gaussian of I.6.20, I.12.11 without units), 1,000
points, two residual blocks of width 32; ``error`` is log10 of the test error relative to the target's spread, its mean
over formulas. A pure block has the size that is *in use* in a mixture: an expert of either kind has 2 d² weights, a
pure block 4 d². All arms have the same rates (2e-3 and 3e-3, one cycle), taken from a prototype and tuned for none.
``mlp-kan-soft`` mixes tokens, so it sees images alone. ``kan-spline`` and ``mlp-kan-spline`` have cubic splines with a
silu base and no LayerNorm in the place of FasterKAN, on functions alone; nothing is claimed of them.

Paper: DeiT-tiny on CIFAR-10 in 224 pixels, 300 epochs, four formulas. Text is left out; `replace_feed_forward` converts
a BERT of yours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, mse_loss
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
    all_of,
    difference,
    value,
)  # fmt: skip
from neurarium.layers import MixtureOfExperts, kan_expert, mlp_expert, replace_feed_forward
from neurarium.learning import Backprop
from neurarium.probes import mixture_cost, routing
from neurarium.studies.layers._vision_transformer import VisionTransformer, as_images
from neurarium.training import evaluate, fit

EXPERTS = 8
FORMULAS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[float, float], tuple[float, float]]] = {
    "I.6.20": (lambda t, s: torch.exp(-(t**2) / (2 * s**2)) / (2 * math.pi * s**2) ** 0.5, (-1, 1), (0.5, 2)),
    "I.12.11": (lambda a, t: 1 + a * t.sin(), (-1, 1), (0, 2 * math.pi)),
    "I.16.6": (lambda a, b: (a + b) / (1 + a * b), (-0.9, 0.9), (-0.9, 0.9)),
    "I.10.7": (lambda m, v: m / (1 - v**2) ** 0.5, (0, 1), (0, 0.9)),
}
"""A formula of two variables, and their ranges."""


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    block: Literal["mlp", "kan", "mlp-kan", "moe-mlp", "moe-kan"] = "mlp-kan"
    router: Literal["top_k", "soft"] = "top_k"
    basis: str = "switch"
    data: str = "fashion-mnist"
    images: int = 1500
    tested: int = 1500
    epochs: int = 3
    side: int = 0
    patch: int = 7
    width: int = 48
    heads: int = 3
    blocks: int = 2
    lr: float = 2e-3
    formulas: int = 2
    points: int = 1000
    steps: int = 150


def feed_forward(settings: Settings, width: int) -> nn.Module:
    """What an arm has in the place of a feed-forward network."""
    if settings.block == "mlp":
        return mlp_expert(width, 2 * width)
    if settings.block == "kan":
        return kan_expert(width, width // 4, settings.basis)
    perceptrons = {"mlp-kan": EXPERTS // 2, "moe-mlp": EXPERTS, "moe-kan": 0}[settings.block]
    experts = [mlp_expert(width, width) for _ in range(perceptrons)]
    experts += [kan_expert(width, width // 8, settings.basis) for _ in range(EXPERTS - perceptrons)]
    return MixtureOfExperts(experts, width, settings.router)


class Block(nn.Module):
    """``x + mlp(norm(x))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width] -> [batch, width]."""
        out: Tensor = x + self.mlp(self.norm(x))
        return out


def learn(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], train: Arrays, batch: int, rate: float, steps: int,
    run: Run, look: Callable[[int, float], None],
) -> None:  # fmt: skip
    """AdamW with one cycle of its rate; ``look(step, loss)`` after every pass over the data, or every 20 steps."""
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05, fused=True)
    loader = Batches(train, batch, shuffle=True, seed=run.seed)
    schedule = OneCycleLR(optimizer, rate, max(steps, 4))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    rule, done = Backprop(model, loss), 0
    stream = itertools.chain.from_iterable(itertools.repeat(loader))
    while done < steps:
        part = min(max(len(loader), 20), steps - done)
        losses = fit(rule, itertools.islice(stream, part), optimizer)
        done += part
        look(done, losses[-1])


def on_images(settings: Settings, run: Run) -> dict[str, float]:
    """Train a vision transformer."""
    data = load(settings.data).scaled()
    train, test = as_images(data.train.subset(settings.images, seed=run.seed)), as_images(data.test[: settings.tested])
    if settings.side:
        train, test = (replace(part, x=interpolate(part.x, settings.side, mode="bilinear")) for part in (train, test))
    train, test = train.to(run.device), test.to(run.device)
    model: nn.Module = VisionTransformer(
        train.x[0], len(data.classes), settings.patch, settings.width, settings.heads, settings.blocks, settings.width
    )
    replace_feed_forward(model, lambda width: feed_forward(settings, width), inplace=True)
    model = model.to(run.device)

    def look(step: int, loss: float) -> None:
        epoch = step * 64 / len(train)
        run.record(epoch=round(epoch), accuracy=evaluate(model, Batches(test, 500)), train_loss=loss)

    learn(model, cross_entropy, train, 64, settings.lr, settings.epochs * math.ceil(len(train) / 64), run, look)
    found = {"accuracy": evaluate(model, Batches(test, 500)), **cost(model, train.x[:64])}
    if settings.block == "mlp-kan":
        seen = routing(model, Batches(test, 500))
        found["kan_share_images"] = sum(seen.kan_share) / len(seen.kan_share)
        for layer in range(len(seen.layers)):
            run.record(layer=layer + 1, kan_share=seen.kan_share[layer], task="images")
            for label, shares in seen.kan_by_class.items():
                run.record(garment=label, block=layer + 1, to_kan=shares[layer])
    return found


def cost(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Parameters, and those that a token uses."""
    total = float(sum(p.numel() for p in model.parameters()))
    if not any(isinstance(m, MixtureOfExperts) for m in model.modules()):
        return {"parameters": total, "active_parameters": total}
    return {"parameters": total, "active_parameters": float(mixture_cost(model, x).active_parameters)}


def on_functions(settings: Settings, run: Run) -> dict[str, float]:
    """Fit formulas, each with a network of its own."""
    errors, shares = [], []
    generator = torch.Generator().manual_seed(run.seed)
    for name, (formula, *ranges) in run.track(list(FORMULAS.items())[: settings.formulas], "formulas"):
        low, high = torch.tensor(ranges).T
        x = low + (high - low) * torch.rand(2 * settings.points, 2, generator=generator)
        y = formula(*x.T)[:, None]
        whole = Arrays((2 * x - low - high) / (high - low), (y - y.mean()) / y.std()).to(run.device)
        train, test = whole[: settings.points], whole[settings.points :]
        model: nn.Module = nn.Sequential(nn.Linear(2, 32), Block(32), Block(32), nn.Linear(32, 1))
        replace_feed_forward(model, lambda width: feed_forward(settings, width), inplace=True)
        model = model.to(run.device)

        def error(model: nn.Module = model, test: Arrays = test) -> float:
            return 0.5 * math.log10(evaluate(model, Batches(test, 1000), mse_loss))

        learn(
            model, mse_loss, train, 128, 3e-3, settings.steps, run,
            lambda step, _, name=name, error=error: run.record(step=step, log10_error=error(), formula=name),  # type: ignore[misc]
        )  # fmt: skip
        errors.append(error())
        if settings.block == "mlp-kan":
            found = routing(model, Batches(test, 1000)).kan_share
            shares.append(sum(found) / len(found))
            for layer, share in enumerate(found):
                run.record(layer=layer + 1, kan_share=share, task=name)
    metrics = {"error": sum(errors) / len(errors)}
    return metrics | {"kan_share_functions": sum(shares) / len(shares)} if shares else metrics


def trial(settings: Settings, run: Run) -> Metrics:
    """Both tasks, or the one that an arm is for."""
    metrics = on_images(settings, run) if settings.images else {}
    return metrics | on_functions(settings, run) if settings.formulas else metrics


def paper(settings: Settings) -> Settings:
    """DeiT-tiny on CIFAR-10; more points and formulas."""
    if settings.images:
        settings = replace(
            settings, data="cifar10", images=50_000, tested=10_000, epochs=300, side=224, patch=16, width=192,
            blocks=12, lr=5e-4,
        )  # fmt: skip
    return replace(settings, formulas=len(FORMULAS), points=10_000, steps=10_000) if settings.formulas else settings


def smoke(settings: Settings) -> Settings:
    """A few steps."""
    if settings.images:
        settings = replace(settings, images=64, tested=64, epochs=1, data="mnist-small", width=24)
    return replace(settings, formulas=1, points=100, steps=4) if settings.formulas else settings


ADAPTS = value("kan_share_functions", "mlp-kan") - value("kan_share_images", "mlp-kan")
STUDY = Study(
    paper=Paper(
        "MLP-KAN: Unifying Deep Representation and Function Learning", "He et al.", 2024, arxiv="2410.03027"
    ),
    trial=trial,
    arms={
        "mlp": Settings("mlp"),
        "kan": Settings("kan"),
        "mlp-kan": Settings(),
        "moe-mlp": Settings("moe-mlp"),
        "moe-kan": Settings("moe-kan"),
        "mlp-kan-soft": Settings(router="soft", formulas=0),
        "kan-spline": Settings("kan", basis="bspline", images=0),
        "mlp-kan-spline": Settings(basis="bspline", images=0),
    },
    scales={"smoke": smoke, "paper": paper},
    claims=[
        Claim(
            "On images MLP-KAN is ahead of a pure KAN and not behind a pure perceptron", "section 5",
            all_of(difference("accuracy", "mlp-kan", "kan") > 0, difference("accuracy", "mlp-kan", "mlp") > -0.01),
        ),
        Claim(
            "On functions it is ahead of a pure perceptron and not behind a pure KAN", "section 5",
            all_of(difference("error", "mlp", "mlp-kan") > 0, difference("error", "kan", "mlp-kan") > -0.05),
        ),
        Claim(
            "It is the two kinds that help: eight perceptrons are not ahead on images and behind on functions",
            "control of ours",
            all_of(
                difference("accuracy", "mlp-kan", "moe-mlp") > -0.005, difference("error", "moe-mlp", "mlp-kan") > 0.05
            ),
        ),
        Claim("The router sends functions to KANs more than images", "section 3", ADAPTS > 0.1),
    ],
    figures=[
        Scatter(
            "Both tasks: the best place is the lower right corner", x="accuracy", y="error",
            note="Error: log10 of the test error relative to the target's spread.",
        ),
        Curve("Images: test accuracy", x="epoch", y="accuracy"),
        Curve("Functions: log10 of the test error", ["mlp", "kan", "mlp-kan", "moe-mlp", "kan-spline"], x="step",
              y="log10_error", series="formula"),
        Curve("Share that the KAN experts have, by block and task", ["mlp-kan"], x="layer", y="kan_share",
              series="task"),
        Heatmap("Share that the KAN experts have of each kind of garment", ["mlp-kan"], x="garment", y="block",
                value="to_kan"),
        Bars("Error on functions (log10)", metric="error"),
    ],
    seeds=(3, 6),
)  # fmt: skip
