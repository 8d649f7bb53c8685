"""Cost of boosting a network: ours, the same steps through scikit-learn's `MLPRegressor`, and fits in lockstep.

5,000 rows of 30 columns, one unit per step, half the rows for each step. The peer is what the method's published code
does for each step (an estimator per step, trained by the same L-BFGS with the same limits), without the rest of its
overhead. With the package `gbnn` installed that is timed as well, on regression:
its classifier does not run with current versions of scikit-learn. Repetitions are interleaved; medians are printed.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.neural_network import MLPRegressor

from neurarium.learning import GradientBoostedHead, fit_heads

ROWS, COLUMNS, STEPS, REPETITIONS, RUNS = 5_000, 30, 20, 3, 10


def table(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, COLUMNS, generator=generator, dtype=torch.float64)
    return x, (x[:, 0] * x[:, 1] + x[:, 2] > 0).long()


def head(seed: int = 0) -> GradientBoostedHead:
    return GradientBoostedHead(
        COLUMNS, 1, units=STEPS, shrinkage=0.5, loss="binary", generator=torch.Generator().manual_seed(seed)
    )


def by_scikit_learn(x: np.ndarray, y: np.ndarray) -> None:
    """The same steps with an estimator each."""
    rng, signs = np.random.default_rng(0), 2.0 * y - 1
    scores = np.zeros(len(y))
    for _ in range(STEPS):
        residual = 2 * signs / (1 + np.exp(2 * signs * scores))
        rows = rng.permutation(len(y))[: len(y) // 2]
        net = MLPRegressor(
            hidden_layer_sizes=(1,), activation="logistic", solver="lbfgs", max_iter=200, tol=0.0,
            random_state=int(rng.integers(2**31)),
        )  # fmt: skip
        h = net.fit(x[rows], residual[rows]).predict(x)
        scores += 0.5 * (residual @ h) / (h * h * residual * (2 * signs - residual)).sum() * h


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print medians and ratios."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    x, y = table(ROWS)
    few_x, few_y = table(400)
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: head().fit(x, y),
        "an MLPRegressor per step": lambda: by_scikit_learn(x.numpy(), y.numpy()),
        f"{RUNS} heads, 400 rows, one by one": lambda: [head(i).fit(few_x, few_y) for i in range(RUNS)],
        f"{RUNS} heads, 400 rows, in lockstep": lambda: fit_heads([head(i) for i in range(RUNS)], few_x, few_y),
    }
    if importlib.util.find_spec("gbnn"):
        from gbnn import GNEGNERegressor

        numbers = (x[:, 0] * x[:, 1] + x[:, 2]).double()
        contestants["ours, regression"] = lambda: GradientBoostedHead(
            COLUMNS, 1, units=STEPS, shrinkage=0.5, loss="mse"
        ).fit(x, numbers)
        contestants["package gbnn, regression"] = lambda: GNEGNERegressor(
            total_nn=STEPS, num_nn_step=1, eta=0.5, subsample=0.5, max_iter=200
        ).fit(x.numpy(), numbers.numpy())
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(REPETITIONS):
        for name, function in contestants.items():
            times[name].append(seconds(function))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:36s} {median:8.3f} s")
    print(f"an MLPRegressor per step / ours      {medians['an MLPRegressor per step'] / medians['ours']:8.2f}")
    if "ours, regression" in medians:
        package, ours = medians["package gbnn, regression"], medians["ours, regression"]
        print(f"package gbnn / ours                  {package / ours:8.2f}")
    alone, together = (medians[f"{RUNS} heads, 400 rows, {how}"] for how in ("one by one", "in lockstep"))
    print(f"one by one / lockstep                {alone / together:8.2f}")


if __name__ == "__main__":
    main()
