"""A fixed random projection of the output error trains the hidden blocks of very different networks.

The paper (Launay et al., 2020) trains every block with a random projection of the error at the output: graph networks
come within about a point of backpropagation, recommenders close to it, radiance fields learn visibly less (25.4 against
31.0 dB) and a transformer pays most (perplexity 52.0 against 29.8; worse with feedback inside the layers, "micro").
Training the last block alone ("shallow") does far worse everywhere.

Small: five tasks. Digits: 12,000 MNIST images, 784-256-256-10, SGD at 0.01 for all arms. Graph: a stochastic block
model of 1,000 nodes with Cora's degrees (3.2 neighbours inside and 0.7 outside of seven communities), bag-of-words
features and 20 labels each; two graph convolutions, Adam at 0.01. Fields: is a digit odd, from 64 pixels in 8 levels
each, by embeddings and a wide part, in place of click logs (which must be fetched). Picture: a network of coordinates
fits 64 x 64 pixels of a photograph, in place of a radiance field. Text: a two-layer transformer on English bytes (the
data set descriptions that ship with scikit-learn), error taken at the last hidden state. Arms of a task share data,
initial weights and batches. In the last three tasks the rate of each arm is the best of three on seed 100.

Paper: MNIST whole, Cora, Adult, a 512 x 512 photograph and six layers of width 512. Criteo, the radiance fields and
WikiText-103 are not to be had here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.data import Batches, load, load_graph
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.layers import GraphConvolution, normalized_adjacency
from neurarium.learning import Backprop, DirectFeedbackAlignment, FeedbackAlignment, LearningRule, Shallow
from neurarium.models import CausalTransformer
from neurarium.probes import alignment
from neurarium.training import evaluate

RuleName = Literal["bp", "dfa", "shallow", "fa", "micro"]


@dataclass(frozen=True)
class Settings:
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
    score: Callable[[], float], steps: int,
) -> None:  # fmt: skip
    """Train on the batches; record the score, and the alignment of each block, ten times on the way."""
    for step, (x, y) in enumerate(run.track(itertools.islice(batches, steps)), start=1):
        optimizer.zero_grad()
        rule.assign_credit(x, y)
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            run.record(step=step, score=score())
            if type(rule) is DirectFeedbackAlignment:
                found = alignment(rule, x, y)
                for block, cosine in zip(found.blocks, found.mean, strict=True):
                    run.record(step=step, block=block, cosine=cosine)


def aligned(rule: LearningRule, x: Any, y: Tensor) -> float:
    """The worst block's mean cosine with the true error; 0 for a rule without signals of its own."""
    return min(alignment(rule, x, y).mean) if type(rule) is DirectFeedbackAlignment else 0.0


def trial(settings: Settings, run: Run) -> Metrics:
    tasks = {"digits": digits, "graph": graph, "fields": fields, "picture": picture, "text": text}
    return tasks[settings.task](settings, run)


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
    return {"psnr": score()}


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

    learn(rule, draw(), optimizer, run, score, settings.steps)
    return {"loss": score()}


GRAPH = Settings(task="graph", steps=150, size=1000)
FIELDS = Settings(task="fields", steps=300, batch_size=64, size=64, lr=0.01)
PICTURE = Settings(task="picture", steps=250, size=64, lr=3e-3)
TEXT = Settings(task="text", steps=400, batch_size=8, size=64, lr=3e-3)


def smoke(settings: Settings) -> Settings:
    small = {"digits": 32, "graph": 200, "fields": 16, "picture": 16, "text": 16}
    return replace(settings, steps=3, batch_size=8, size=small[settings.task])


def paper(settings: Settings) -> Settings:
    changes: dict[str, dict[str, Any]] = {
        "digits": {"data": "mnist", "steps": 20 * 469, "size": 1000},
        "graph": {"data": "cora", "steps": 250},
        "fields": {"data": "adult", "steps": 5000, "batch_size": 256, "size": 400},
        "picture": {"steps": 5000, "size": 512},
        "text": {"steps": 50_000, "batch_size": 64, "size": 512},
    }
    return replace(settings, **changes[settings.task])


STUDY = Study(
    paper=Paper(
        "Direct Feedback Alignment Scales to Modern Deep Learning Tasks and Architectures", "Launay et al.", 2020,
        "2006.12878",
    ),
    trial=trial,
    arms={
        "digits-bp": Settings(rule="bp"),
        "digits-dfa": Settings(),
        "digits-fa": Settings(rule="fa"),
        "digits-shallow": Settings(rule="shallow"),
        "graph-bp": replace(GRAPH, rule="bp"),
        "graph-dfa": GRAPH,
        "graph-shallow": replace(GRAPH, rule="shallow"),
        "fields-bp": replace(FIELDS, rule="bp"),
        "fields-dfa": FIELDS,
        "fields-shallow": replace(FIELDS, rule="shallow"),
        "picture-bp": replace(PICTURE, rule="bp", lr=1e-3),
        "picture-dfa": PICTURE,
        "picture-shallow": replace(PICTURE, rule="shallow"),
        "text-bp": replace(TEXT, rule="bp"),
        "text-macro": TEXT,
        "text-micro": replace(TEXT, rule="micro"),
        "text-shallow": replace(TEXT, rule="shallow"),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "on digits it comes close to backpropagation and far above the last block alone", "section 3",
            all_of(
                difference("accuracy", "digits-bp", "digits-dfa") < 0.03,
                difference("accuracy", "digits-dfa", "digits-shallow") > 0.04,
            ),
        ),
        Claim(
            "graph convolutions train with it", "Table 4",
            all_of(
                difference("accuracy", "graph-bp", "graph-dfa") < 0.03,
                difference("accuracy", "graph-dfa", "graph-shallow") > 0.03,
            ),
        ),
        Claim(
            "recommenders train with it", "Table 3",
            all_of(
                difference("auc", "fields-bp", "fields-dfa") < 0.02,
                difference("auc", "fields-dfa", "fields-shallow") > 0.005,
            ),
        ),
        Claim(
            "networks of coordinates learn pictures with it", "Table 2",
            difference("psnr", "picture-dfa", "picture-shallow") > 1.0,
        ),
        Claim(
            "in transformers feedback per layer beats feedback inside layers", "Table 5",
            difference("loss", "text-micro", "text-macro") > 0.0,
        ),
        Claim(
            "transformers learn with it more than their last layer would", "section 4.4",
            difference("loss", "text-shallow", "text-macro") > 0.05,
        ),
        Claim(
            "transformers stay behind backpropagation", "Table 5: perplexity 52.0 and 29.8",
            difference("loss", "text-macro", "text-bp") > 0.0,
        ),
        Claim(
            "the signals point with the true error in every trained block", "section 2",
            all_of(value("alignment", "digits-dfa") > 0.1, value("alignment", "graph-dfa") > 0.1),
        ),
    ],
    figures=[
        Curve(
            "Digits: accuracy by step", arms=("digits-bp", "digits-dfa", "digits-fa", "digits-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Graph: accuracy by step", arms=("graph-bp", "graph-dfa", "graph-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Fields: area under the curve by step", arms=("fields-bp", "fields-dfa", "fields-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Picture: decibels by step", arms=("picture-bp", "picture-dfa", "picture-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Text: held-out loss by step", arms=("text-bp", "text-macro", "text-micro", "text-shallow"),
            x="step", y="score",
        ),
        Curve(
            "The forward weights turn towards the feedback: cosine with the true error",
            arms=("digits-dfa", "graph-dfa", "picture-dfa"), x="step", y="cosine", series="block",
        ),
        Bars(
            "Digits: test accuracy", metric="accuracy",
            arms=("digits-bp", "digits-dfa", "digits-fa", "digits-shallow"),
        ),
    ],
)  # fmt: skip
