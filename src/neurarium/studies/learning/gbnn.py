"""A network boosted a few units at a time generalises like the same network trained jointly, and can be cut short.

The paper (Emami and Martínez-Muñoz, 2019) fits small networks one after another to the residuals of those before, welds
them into one hidden layer, and reports accuracies competitive with Adam, SGD and L-BFGS on tables of data, little loss
when the units trained last are switched off, and less harm from a hidden layer that is too large.

Small: scikit-learn's breast cancer, wine, iris, digits and diabetes (regression, standardised targets), at most 400
rows of each; two of five folds per seed are held out in turn. All networks have 100 sigmoid units; each method chooses
among six settings on one inner split of the training folds: boosting J in {2, 4} and shrinkage in {0.1, 0.5, 1}, Adam
and SGD two rates by three penalties, L-BFGS six penalties (trees three rates). L-BFGS takes at most 60 steps for each
small network. A score is the accuracy, or 1 minus the RMSE over the targets' deviation; ranks are among the four
networks over the five sets. Oversize: 400 units on breast cancer and diabetes, J = 4, shrinkage 0.1 (its first 50 units
are the small network), against L-BFGS networks of 50 and of 400. Deep: a small convolutional body trained on 4,000
MNIST images for 2 epochs with a linear head, then the boosted head on its features.

Paper: 200 L-BFGS steps, all five folds, all rows, J = 1 as well, 60,000 images. Its own data sets are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop, GradientBoostedHead, boost_head, fit_heads
from neurarium.studies.learning._gbnn_tables import (
    GRIDS,
    NETWORKS,
    REGRESSION,
    Array,
    at,
    estimator,
    fitted_score,
    folds,
    rank,
    staged_ratings,
    table,
)
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """An arm: the method, the tables, and what the folds choose from."""

    method: Literal["gbnn", "mlp-adam", "mlp-sgd", "mlp-lbfgs", "hist-trees", "constant"] = "gbnn"
    task: Literal["tables", "oversize", "deep"] = "tables"
    sets: tuple[str, ...] = ("breast-cancer", "wine", "iris", "digits", "diabetes")
    rows: int = 400
    folds: int = 2
    units: int = 100
    units_per_step: tuple[int, ...] = (2, 4)
    shrinkages: tuple[float, ...] = (0.1, 0.5, 1.0)
    max_iter: int = 60
    images: int = 4_000


def trial(settings: Settings, run: Run) -> Metrics:
    """Fit one method to the folds of every table."""
    if settings.task == "deep":
        return deep(settings, run)
    metrics: dict[str, float] = {}
    cut: dict[float, list[float]] = {}
    start = time.perf_counter()
    for name in run.track(settings.sets, "sets"):
        x, y = table(name, settings.rows)
        scores = []
        for train, test in folds(y, settings.folds, name not in REGRESSION, run.seed):
            mean, deviation = x[train].mean(0), x[train].std(0) + 1e-9
            z = (x - mean) / deviation
            if settings.task == "oversize":
                scores.append(oversize(settings, z, y, train, test, name, run.seed))
                continue
            staged = boosted(settings, z, y, train, test, name, run) if settings.method == "gbnn" else None
            scores.append(staged[1.0] if staged else tuned(settings, z, y, train, test, name, run.seed))
            if staged and name not in REGRESSION:
                for share, score in staged.items():
                    cut.setdefault(share, []).append(score)
        metrics[f"score_{name}"] = float(np.mean(scores))
    if settings.task == "oversize":
        return metrics | {"error_growth": float(np.mean(list(metrics.values())))}
    classified = [score for key, score in metrics.items() if key.removeprefix("score_") not in REGRESSION]
    metrics |= {"score": float(np.mean(list(metrics.values()))), "accuracy": float(np.mean(classified))}
    metrics |= {f"accuracy_at_{share:.0%}": float(np.mean(values)) for share, values in cut.items()}
    return metrics | {"fitting_seconds": time.perf_counter() - start}


def tuned(settings: Settings, z: Array, y: Array, train: Array, test: Array, name: str, seed: int) -> float:
    """Test score of a peer with the options that do best on an inner split."""
    inner, held = (train[part] for part in folds(y[train], 1, name not in REGRESSION, seed)[0])

    def score(options: Mapping[str, float], fit_on: Array, score_on: Array) -> float:
        model = estimator(settings.method, name, settings.units, seed, options)
        return fitted_score(model, z, y, fit_on, score_on, name)

    grid = GRIDS[settings.method]
    return score(max(grid, key=lambda options: score(options, inner, held)) if len(grid) > 1 else grid[0], train, test)


def head(
    settings: Settings, z: Array, y: Array, name: str, step: int, shrinkage: float, seed: int
) -> GradientBoostedHead:
    """A head for a set, not fitted."""
    classes = 1 if name in REGRESSION or y.max() == 1 else int(y.max()) + 1
    loss = "mse" if name in REGRESSION else "binary" if classes == 1 else "cross_entropy"
    return GradientBoostedHead(
        z.shape[1], classes, units=settings.units, units_per_step=step, shrinkage=shrinkage, loss=loss,
        max_iter=settings.max_iter, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def boosted(
    settings: Settings, z: Array, y: Array, train: Array, test: Array, name: str, run: Run
) -> dict[float, float]:
    """Test scores with a quarter, half, three quarters and all of the units, at the settings best on an inner split."""
    inner, held = (train[part] for part in folds(y[train], 1, name not in REGRESSION, run.seed)[0])
    x, target = torch.from_numpy(z), torch.from_numpy(y)
    best, step, shrinkage = -np.inf, 0, 0.0
    for j in settings.units_per_step:
        heads = [head(settings, z, y, name, j, rate, run.seed) for rate in settings.shrinkages]
        fit_heads(heads, x, target, [torch.from_numpy(inner)] * len(heads))
        for rate, candidate in zip(settings.shrinkages, heads, strict=True):
            score = staged_ratings(candidate, z[held], y[held], name)[-1]
            if score > best:
                best, step, shrinkage = score, j, rate
    model = head(settings, z, y, name, step, shrinkage, run.seed).fit(x[train], target[train])
    by_step = staged_ratings(model, z[test], y[test], name)
    for share in np.linspace(0.05, 1, 20):
        run.record(share_of_units=round(float(share), 2), test_score=by_step[at(share, model.steps)], set=name)
    for t, loss in enumerate(model.train_loss[1:], 1):
        run.record(units=t * step, training_loss=loss, set=name)
    return {share: by_step[at(share, model.steps)] for share in (0.25, 0.5, 0.75, 1.0)}


def oversize(settings: Settings, z: Array, y: Array, train: Array, test: Array, name: str, seed: int) -> float:
    """How much the test error grows from an eighth of the units to all of them."""
    few = settings.units // 8
    if settings.method == "gbnn":
        model = head(settings, z, y, name, settings.units_per_step[0], settings.shrinkages[0], seed)
        model.fit(torch.from_numpy(z[train]), torch.from_numpy(y[train]))
        by_step = staged_ratings(model, z[test], y[test], name)
        return by_step[few // settings.units_per_step[0] - 1] - by_step[-1]
    small, large = (
        fitted_score(estimator(settings.method, name, units, seed, {}), z, y, train, test, name)
        for units in (few, settings.units)
    )
    return small - large


def deep(settings: Settings, run: Run) -> Metrics:
    """A boosted head on the features of a convolutional body against the linear head it was trained with."""
    split = load("mnist-small" if settings.images <= 12_000 else "mnist").scaled()
    train, test = split.train.subset(settings.images, seed=run.seed), split.test
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 25, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    rule, batches = Backprop(model, cross_entropy), Batches(train, 50, shuffle=True, seed=run.seed)
    optimizer = torch.optim.Adam(rule.parameters(), 1e-3)
    for _ in range(2):
        fit(rule, batches, optimizer)
    linear = evaluate(model, Batches(test, 1000))
    result = boost_head(
        model, Batches(train, 1000), units=settings.units, units_per_step=settings.units_per_step[0],
        shrinkage=settings.shrinkages[0], max_iter=settings.max_iter, generator=torch.Generator().manual_seed(run.seed),
    )  # fmt: skip
    boosted_head = cast(GradientBoostedHead, result.get_submodule("8"))
    reached = {}
    for share in (0.1, 0.3, 0.5, 1.0):
        boosted_head.set_active(at(share, boosted_head.steps) + 1)
        reached[share] = evaluate(result, Batches(test, 1000))
        run.record(share_of_units=share, test_accuracy=reached[share], macs=boosted_head.macs())
    return {"accuracy": reached[1.0], "accuracy_at_30%": reached[0.3], "accuracy_linear": linear}


def smoke(settings: Settings) -> Settings:
    """Two small tables, one fold, a few units."""
    return replace(
        settings, sets=("iris", "diabetes") if settings.task == "tables" else ("breast-cancer",), rows=100, folds=1,
        units=8, shrinkages=settings.shrinkages[-1:], max_iter=10, images=100,
    )  # fmt: skip


def paper(settings: Settings) -> Settings:
    """All rows, five folds, and the full choice of steps."""
    steps = (1, 2, 4) if settings.task == "tables" else settings.units_per_step
    return replace(settings, rows=100_000, folds=5, units_per_step=steps, images=60_000, max_iter=200)


WIDE = Settings(
    task="oversize", sets=("breast-cancer", "diabetes"), units=400, units_per_step=(4,), shrinkages=(0.1,)
)  # fmt: skip

STUDY = Study(
    paper=Paper(
        "Sequential Training of Neural Networks with Gradient Boosting", "Emami and Martínez-Muñoz", 2019, "1909.12098"
    ),
    trial=trial,
    arms={
        "gbnn": Settings(),
        "mlp-adam": Settings("mlp-adam"),
        "mlp-sgd": Settings("mlp-sgd"),
        "mlp-lbfgs": Settings("mlp-lbfgs"),
        "hist-trees": Settings("hist-trees"),
        "constant": Settings("constant"),
        "oversize/gbnn": WIDE,
        "oversize/mlp-lbfgs": replace(WIDE, method="mlp-lbfgs"),
        "deep/gbnn": Settings(task="deep", units_per_step=(4,), shrinkages=(0.5,), max_iter=50),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "a boosted network is as accurate as the same network trained jointly with Adam", "abstract",
            difference("accuracy", "gbnn", "mlp-adam") > -0.01,
        ),
        Claim("over the sets it ranks high among the four networks", "abstract", rank("gbnn") < 2.6),
        Claim(
            "the half of the units trained last can be switched off", "abstract",
            value("accuracy_at_100%", "gbnn") - value("accuracy_at_50%", "gbnn") < 0.01,
        ),
        Claim(
            "a hidden layer eight times too large harms it less than joint training", "first version of the paper",
            difference("error_growth", "oversize/gbnn", "oversize/mlp-lbfgs") < 0.0,
        ),
        Claim(
            "on a convolutional body it is as good as the head trained with the body, even with 30 % of its units",
            "deep models",
            all_of(
                value("accuracy", "deep/gbnn") - value("accuracy_linear", "deep/gbnn") > -0.005,
                value("accuracy_at_30%", "deep/gbnn") - value("accuracy_linear", "deep/gbnn") > -0.02,
            ),
        ),
    ],
    figures=[
        Curve(
            "Most of the score is there with a fifth of the units", x="share_of_units", y="test_score", series="set",
            arms=("gbnn",), note="Accuracy; for diabetes 1 minus the RMSE in units of the targets' deviation.",
        ),
        Curve(
            "Every step lowers the training loss", x="units", y="training_loss", series="set", arms=("gbnn",),
            log_y=True,
        ),
        Bars("Mean score over the five sets", metric="score", arms=(*NETWORKS, "hist-trees", "constant")),
        Bars("Seconds to tune and fit", metric="fitting_seconds", arms=(*NETWORKS, "hist-trees", "constant")),
        Curve(
            "A head on frozen convolutional features, cut short", x="share_of_units", y="test_accuracy",
            arms=("deep/gbnn",),
        ),
    ],
    seeds=(3, 8),
)  # fmt: skip
