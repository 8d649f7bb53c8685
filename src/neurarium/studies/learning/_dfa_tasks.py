"""The five tasks on which direct feedback alignment is held against backpropagation: data, network, training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.data import Batches, load, load_graph
from neurarium.lab import Metrics, Run
from neurarium.layers import GraphConvolution, normalized_adjacency
from neurarium.learning import Backprop, DirectFeedbackAlignment, FeedbackAlignment, LearningRule, Shallow
from neurarium.models import CausalTransformer
from neurarium.probes import alignment
from neurarium.training import evaluate

RuleName = Literal["bp", "dfa", "shallow", "fa", "micro"]


@dataclass(frozen=True)
class Settings:
    """One arm: a task, a rule, and the sizes."""

    task: Literal["digits", "graph", "fields", "picture", "text"] = "digits"
    rule: RuleName = "dfa"
    lr: float = 0.01
    steps: int = 470
    batch_size: int = 128
    size: int = 256
    data: str = ""


def make_rule(settings: Settings, model: nn.Module, loss: Any, **options: Any) -> LearningRule:
    """The arm's rule on a model."""
    if settings.rule == "bp":
        return Backprop(model, loss)
    if settings.rule == "fa":
        return FeedbackAlignment(model, loss)
    kind = Shallow if settings.rule == "shallow" else DirectFeedbackAlignment
    return kind(model, loss, **options)


def learn(
    rule: LearningRule, batches: Iterable[tuple[Any, Tensor]], optimizer: torch.optim.Optimizer, run: Run,
    score: Callable[[], float], steps: int, falling: bool = False,
) -> None:  # fmt: skip
    """Train on the batches; record the score, and the alignment of each block, ten times on the way.

    Where ``falling`` the rate falls linearly to 0.
    """
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0 if falling else 1.0, steps)
    for step, (x, y) in enumerate(run.track(itertools.islice(batches, steps)), start=1):
        optimizer.zero_grad()
        rule.assign_credit(x, y)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 10) == 0:
            run.record(step=step, score=score())
            if type(rule) is DirectFeedbackAlignment:
                found = alignment(rule, x, y)
                for block, cosine in zip(found.blocks, found.mean, strict=True):
                    run.record(step=step, block=block, cosine=cosine)


def aligned(rule: LearningRule, x: Any, y: Tensor) -> float:
    """The worst block's mean cosine with the true error; 0 for a rule without signals of its own."""
    return min(alignment(rule, x, y).mean) if type(rule) is DirectFeedbackAlignment else 0.0


def digits(settings: Settings, run: Run) -> Metrics:
    """Images, a plain stack, SGD with momentum."""
    split = load(settings.data or "mnist-small").scaled().flat().to(run.device)
    size, test = settings.size, Batches(split.test, 1000)
    model = nn.Sequential(nn.Linear(784, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 10))
    rule = make_rule(settings, model, cross_entropy).to(run.device)
    optimizer = torch.optim.SGD(rule.parameters(), settings.lr, momentum=0.9)
    batches = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    learn(rule, endless, optimizer, run, lambda: evaluate(model, test), settings.steps)
    return {"accuracy": evaluate(model, test), "alignment": aligned(rule, split.train.x[:500], split.train.y[:500])}


def graph(settings: Settings, run: Run) -> Metrics:
    """Node classification by two graph convolutions."""
    if settings.data:
        source = load_graph(settings.data)
        x, y, edges, train, test = source.features, source.labels, source.edges, source.train, source.test
    else:
        x, y, edges = block_model(run.rng(1), settings.size)
        train = torch.cat([(y == c).nonzero()[:20, 0] for c in range(7)])
        test = torch.ones(len(y), dtype=torch.bool)
        test[train] = False
    x = x / x.sum(1, keepdim=True).clamp_min(1)
    adjacency = normalized_adjacency(edges, len(y))
    model = nn.Sequential(
        GraphConvolution(x.shape[1], 16, adjacency), nn.ReLU(), GraphConvolution(16, int(y.max()) + 1, adjacency)
    )
    rule = make_rule(settings, model, lambda output, target: cross_entropy(output[train], target[train]))
    optimizer = torch.optim.Adam(rule.parameters(), settings.lr)

    @torch.no_grad()
    def score() -> float:
        return float((model(x).argmax(1) == y)[test].double().mean())

    learn(rule, itertools.repeat((x, y)), optimizer, run, score, settings.steps)
    return {"accuracy": score(), "alignment": aligned(rule, x, y)}


def block_model(rng: np.random.Generator, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Seven communities: 3.2 neighbours inside and 0.7 outside on average; of 500 words 30 are a community's own."""
    y = np.arange(nodes) % 7
    same = y[:, None] == y[None, :]
    chance = np.where(same, 3.2 * 7 / nodes, 0.7 * 7 / 6 / nodes)
    edges = np.argwhere(np.triu(rng.random((nodes, nodes)) < chance, 1)).T
    words = np.arange(500)
    own = (words[None, :] // 30) == y[:, None]
    x = rng.random((nodes, 500)) < np.where(own, 0.06, 0.02)
    return torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(edges)


class WideAndDeep(nn.Module):
    """A linear part on one-hot fields, and a deep part on embeddings of its own."""

    def __init__(self, fields: int, levels: int, size: int) -> None:
        super().__init__()
        self.wide = nn.Embedding(fields * levels, 1)
        nn.init.zeros_(self.wide.weight)
        self.deep = nn.Sequential(
            nn.Sequential(nn.Embedding(fields * levels, 4), nn.Flatten(), nn.Linear(4 * fields, size), nn.ReLU()),
            nn.Sequential(nn.Linear(size, size), nn.ReLU()),
            nn.Linear(size, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(x) + self.wide(x).sum(1)


def fields(settings: Settings, run: Run) -> Metrics:
    """Prediction from categorical fields."""
    if settings.data:
        split = load(settings.data)
        table = torch.cat([split.train.x, split.test.x]).numpy()
        labels, cut = torch.cat([split.train.y, split.test.y]).numpy(), len(split.train.x)
        order = np.arange(len(labels))
    else:
        table, labels = load_digits(return_X_y=True)
        labels = labels % 2
        order, cut = run.rng(2).permutation(len(labels)), 1200
    edges = np.quantile(table[order[:cut]], np.linspace(0, 1, 9)[1:-1], axis=0)
    levels = (table[None] > edges[:, None]).sum(0) + 8 * np.arange(table.shape[1])
    x, y = torch.from_numpy(levels)[order], torch.from_numpy(labels[order]).float()
    model = WideAndDeep(table.shape[1], 8, settings.size)
    rule = make_rule(
        settings, model, lambda output, target: nn.functional.binary_cross_entropy_with_logits(output[:, 0], target),
        blocks=["deep.0", "deep.1"],
    )  # fmt: skip
    optimizer = torch.optim.Adam(rule.parameters(), settings.lr)

    def draw() -> Iterable[tuple[Tensor, Tensor]]:
        while True:
            rows = torch.randint(cut, (settings.batch_size,))
            yield x[rows], y[rows]

    @torch.no_grad()
    def score() -> float:
        return float(roc_auc_score(y[cut:], model(x[cut:])[:, 0]))

    learn(rule, draw(), optimizer, run, score, settings.steps)
    return {"auc": score()}


def picture(settings: Settings, run: Run) -> Metrics:
    """Grey values of a photograph as a function of the coordinates (Fourier features, four layers of 128)."""
    size = settings.size
    pixels = torch.from_numpy(load_sample_image("flower.jpg").copy()).float().mean(-1) / 255
    side = min(pixels.shape)
    target = nn.functional.interpolate(pixels[None, None, :side, 100 : 100 + side], size=(size, size), mode="area")
    target = target.reshape(-1, 1)
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, size),) * 2, indexing="ij"), -1).reshape(-1, 2)
    waves = grid @ (4 * torch.randn(2, 64))
    x = torch.cat([waves.sin(), waves.cos()], 1)
    layers = [nn.Sequential(nn.Linear(128, 128), nn.ReLU()) for _ in range(4)]
    model = nn.Sequential(*layers, nn.Linear(128, 1))
    rule = make_rule(settings, model, mse_loss)
    optimizer = torch.optim.Adam(rule.parameters(), settings.lr)

    @torch.no_grad()
    def score() -> float:
        return float(-10 * mse_loss(model(x), target).log10())

    learn(rule, itertools.repeat((x, target)), optimizer, run, score, settings.steps)
    with torch.no_grad():
        draw_picture(model(x).view(size, size), "fitted", run)
    if settings.rule == "bp":  # once is enough
        draw_picture(target.view(size, size), "photograph", run)
    return {"psnr": score()}


def draw_picture(pixels: Tensor, name: str, run: Run) -> None:
    """Record the grey values of a square picture, at most 32 x 32 of them, as rows for a figure."""
    side = min(len(pixels), 32)
    small = nn.functional.interpolate(pixels[None, None], size=(side, side), mode="area")[0, 0]
    for row, column in itertools.product(range(side), repeat=2):
        run.record(row=side - row, column=column, **{name: float(small[row, column])})


def text(settings: Settings, run: Run) -> Metrics:
    """Next byte of English prose by a post-norm transformer; the error is taken at its last hidden state."""
    folder = files("sklearn.datasets.descr")
    parts = [p.read_bytes() for p in sorted(folder.iterdir(), key=lambda p: p.name) if p.name.endswith(".rst")]
    data = torch.tensor(np.frombuffer(b"".join(parts), np.uint8).astype(np.int64))
    train, held_out = data[: -len(data) // 10], data[-len(data) // 10 :]
    depth = 6 if settings.size >= 512 else 2
    model = CausalTransformer(256, settings.size, 4, depth, 4 * settings.size, 64, "post-norm")
    points = [f"layers.{i}" for i in range(depth - 1)]
    if settings.rule == "micro":
        points += [f"layers.{i}.{inside}" for i in range(depth) for inside in ("norm1", "dropout")]
    rule = make_rule(
        settings, model, lambda output, target: cross_entropy(output.flatten(0, 1), target.flatten()),
        blocks=points, batch_dims=(0, 1), error_at=f"layers.{depth - 1}",
    )  # fmt: skip
    optimizer = torch.optim.Adam(rule.parameters(), settings.lr)

    def windows(source: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        rows = source[starts[:, None] + torch.arange(65)]
        return rows[:, :-1], rows[:, 1:]

    def draw() -> Iterable[tuple[Tensor, Tensor]]:
        while True:
            yield windows(train, torch.randint(len(train) - 65, (settings.batch_size,)))

    test = windows(held_out, torch.arange(0, min(len(held_out), 8000) - 65, 64))

    @torch.no_grad()
    def score() -> float:
        return float(rule.loss(model(test[0]), test[1]))

    learn(rule, draw(), optimizer, run, score, settings.steps, falling=True)
    return {"loss": score()}
