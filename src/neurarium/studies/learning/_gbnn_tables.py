"""Tables of real data, their folds and scikit-learn's peers, for the study of boosted networks."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurarium.data import load
from neurarium.lab.claims import Quantity
from neurarium.learning import GradientBoostedHead

Array = NDArray[Any]
REGRESSION = ("diabetes",)
NETWORKS = ("gbnn", "mlp-adam", "mlp-sgd", "mlp-lbfgs")
PENALTIES = (1e-4, 1e-2, 0.1, 1.0, 10.0, 100.0)
GRIDS: dict[str, list[dict[str, float]]] = {
    "mlp-adam": [{"learning_rate_init": r, "alpha": a} for r in (1e-3, 1e-2) for a in (1e-4, 0.1, 1.0)],
    "mlp-sgd": [{"learning_rate_init": r, "alpha": a} for r in (3e-2, 0.3) for a in (1e-4, 0.1, 1.0)],
    "mlp-lbfgs": [{"alpha": a} for a in PENALTIES],
    "hist-trees": [{"learning_rate": r} for r in (0.05, 0.1, 0.2)],
    "constant": [{}],
}


def table(name: str, rows: int) -> tuple[Array, Array]:
    """A set as float64 inputs and targets, at most ``rows`` of them; regression targets are standardised."""
    split = load(name)
    parts = [part for part in (split.train, split.validation, split.test) if len(part)]
    x = np.concatenate([part.x.double().flatten(1).numpy() for part in parts])
    y = np.concatenate([part.y.numpy() for part in parts])
    picked = np.random.default_rng(0).permutation(len(x))[:rows]
    x, y = x[picked], y[picked]
    return x, ((y - y.mean()) / y.std()).ravel() if name in REGRESSION else y


def folds(y: Array, count: int, stratified: bool, seed: int) -> list[tuple[Array, Array]]:
    """The first ``count`` of five folds."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if stratified else KFold
    return list(itertools.islice(kind(5, shuffle=True, random_state=seed).split(y[:, None], y), count))


def rating(prediction: Array, y: Array, name: str) -> float:
    """Accuracy of class indices, or 1 minus the RMSE in units of the targets' deviation: higher is better."""
    if name in REGRESSION:
        return 1 - float(np.sqrt(np.mean((prediction - y) ** 2)) / y.std())
    return float(np.mean(prediction == y))


def estimator(method: str, name: str, units: int, seed: int, options: Mapping[str, float]) -> Any:
    """A scikit-learn peer."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    regression = name in REGRESSION
    if method == "constant":
        return DummyRegressor() if regression else DummyClassifier()
    if method == "hist-trees":
        trees = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return trees(max_iter=20, random_state=seed, **options)
    network = MLPRegressor if regression else MLPClassifier
    solver = method.removeprefix("mlp-")
    return network(
        hidden_layer_sizes=(units,), activation="logistic", solver=solver, max_iter=200, random_state=seed, **options
    )


def fitted_score(model: Any, z: Array, y: Array, train: Array, test: Array, name: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # networks that have not converged after 200 epochs are what is compared
        return rating(model.fit(z[train], y[train]).predict(z[test]), y[test], name)


def staged_ratings(model: GradientBoostedHead, z: Array, y: Array, name: str) -> list[float]:
    """Scores on a held-out part after 1, 2, ..., T steps."""
    with torch.no_grad():
        outputs = model.staged(torch.from_numpy(z).float())
    if name in REGRESSION:
        predictions = outputs[:, :, 0]
    else:
        predictions = (outputs[:, :, 0] > 0) if outputs.shape[2] == 1 else outputs.argmax(2)
    return [rating(p.numpy(), y, name) for p in predictions]


def at(share: float, steps: int) -> int:
    """Index of the step by which this share of the units is there."""
    return max(1, round(share * steps)) - 1


def rank(arm: str) -> Quantity:
    """Mean rank of a network among the four over the sets, ties shared."""

    def mean_rank(rows: Mapping[str, Mapping[str, float]]) -> float:
        sets = [metric for metric in rows[arm] if metric.startswith("score_")]
        ranks = [
            1 + sum((rows[other][s] > rows[arm][s]) + 0.5 * (rows[other][s] == rows[arm][s]) for other in rivals)
            for s in sets
        ]
        return float(np.mean(ranks))

    rivals = [other for other in NETWORKS if other != arm]
    return Quantity(f"mean rank[{arm}]", NETWORKS, mean_rank)
