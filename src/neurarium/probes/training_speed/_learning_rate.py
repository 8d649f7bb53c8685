"""The largest learning rate with which a fresh network can start to train, and how it falls with depth and width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.training_speed._input_layer import reached_first


@dataclass(frozen=True)
class MaximalLearningRate(ProbeResult):
    """A learning rate found by bracketing and bisection.

    Args:
        value: geometric middle of the largest success and the failure above it; inf where even the cap succeeded.
        interval: that success and that failure.
        trials: every rate that was tried, in order, and the share of restarts in which it succeeded.
        censored: the cap was reached, so that ``value`` is only known to be larger.
    """

    value: float
    interval: tuple[float, float]
    trials: tuple[tuple[float, float], ...]
    censored: bool = False

    @property
    def monotone(self) -> bool:
        """Whether no rate failed between two that succeeded."""
        good = [rate for rate, share in self.trials if share > 0.5]
        return not any(min(good) < rate < max(good) for rate, share in self.trials if share <= 0.5)

    def summary(self) -> str:
        """The rate and its bracket."""
        if self.censored:
            return f"larger than {self.interval[0]:.3g}, the largest tried"
        return f"{self.value:.3g} (succeeds at {self.interval[0]:.3g}, fails at {self.interval[1]:.3g})"

    def plot(self, ax: Any) -> Any:
        """Success against rate."""
        rates, shares = zip(*sorted(self.trials), strict=True)
        ax.semilogx(rates, shares, marker="o")
        ax.set(xlabel="learning rate", ylabel="share of successes")
        return ax


class NoLearningRate(ValueError):
    """No rate that was tried succeeds."""


def search(
    succeeds: Callable[[float], float],
    *,
    low: float = 1e-4,
    factor: float = 2.0,
    tolerance: float = 0.1,
    cap: float = 1e3,
    too_large: Callable[[float], bool] | None = None,
) -> MaximalLearningRate:
    """Find a rate that succeeds, multiply it until one fails, then bisect in the logarithm.

    Where ``low`` fails, it can be too large or too small (rates that do not reach the threshold within a budget fail as
    well). With ``too_large`` the search knows which way to go. Without, it goes down first, to a thousandth of ``low``,
    and then up: an island of successes above rates that fail is no answer.

    Args:
        succeeds: ``succeeds(rate) -> share of restarts that succeeded``; more than half counts as success.
        low: where to begin, below the answer.
        factor: of the first steps.
        tolerance: stop when failure / success < 1 + tolerance.
        cap: largest rate that is tried.
        too_large: ``too_large(rate)``, asked of a rate that has failed: whether smaller ones may do.

    Raises:
        NoLearningRate: no rate succeeds.
    """
    trials: list[tuple[float, float]] = []

    def tried(rate: float) -> bool:
        trials.append((rate, succeeds(rate)))
        return trials[-1][1] > 0.5

    good = low
    if not tried(low):
        good = (
            _beside(tried, low, factor, cap)
            if too_large is None
            else _between(tried, too_large, low, factor, tolerance, cap)
        )
    failed = [rate for rate, share in trials if share <= 0.5 and rate > good]
    bad = min(failed) if failed else good * factor
    while not failed and tried(bad):
        good, bad = bad, bad * factor
        if bad > cap:
            return MaximalLearningRate(math.inf, (good, math.inf), tuple(trials), censored=True)
    while bad / good >= 1 + tolerance:
        middle = math.sqrt(good * bad)
        good, bad = (middle, bad) if tried(middle) else (good, middle)
    return MaximalLearningRate(math.sqrt(good * bad), (good, bad), tuple(trials))


def _beside(tried: Callable[[float], bool], low: float, factor: float, cap: float) -> float:
    """The nearest success below a rate that failed, and where there is none, above."""
    rate = low / factor
    while rate >= 1e-3 * low:
        if tried(rate):
            return rate
        rate /= factor
    rate = low * factor
    while rate <= cap:
        if tried(rate):
            return rate
        rate *= factor
    raise NoLearningRate(f"training fails at every rate from {low:g} to {cap:g}: the model or the budget is wrong")


def _between(
    tried: Callable[[float], bool], too_large: Callable[[float], bool], low: float, factor: float, tolerance: float,
    cap: float,
) -> float:  # fmt: skip
    """A success between the rates that are too small and those that are too large."""
    small, large, rate = 0.0, math.inf, low
    while True:
        small, large = (small, rate) if too_large(rate) else (rate, large)
        rate = math.sqrt(small * large) if small and large < math.inf else rate / factor if not small else rate * factor
        if rate > cap or rate < 1e-9 * low or large < (1 + tolerance) * small:
            raise NoLearningRate(
                f"training fails at every rate that was tried: up to {small:g} the budget is too small, from {large:g} "
                "on it diverges; the model or the budget is wrong"
            )
        if tried(rate):
            return rate


def maximal_learning_rate(
    make_model: Callable[[int], nn.Module],
    loss: Callable[[Any, Tensor], Tensor],
    loader: Callable[[int], Iterable[tuple[Any, Tensor]]],
    evaluate: Callable[[nn.Module], float],
    *,
    threshold: float,
    steps: int,
    chance: float = 0.0,
    check_every: int = 10,
    input_scale: float = 0.01,
    low: float = 1e-3,
    factor: float = 2.0,
    tolerance: float = 0.1,
    restarts: int = 3,
    rule: Callable[[nn.Module, Any], Any] | None = None,
    budget_used: list[float] | None = None,
) -> MaximalLearningRate:
    """The largest rate of plain SGD that reaches a threshold in a budget of steps (Iyer et al., 2022, section 3).

    A run succeeds as soon as ``evaluate(model) >= threshold`` and fails at a loss that is not finite, after 50 steps
    in a row at more than ten times the first loss, or at the end of the budget.

    Args:
        make_model: ``make_model(restart)``, the same network for the same restart, at every rate.
        loss: ``loss(output, y) -> scalar``.
        loader: ``loader(restart)`` gives batches ``(x, y)``, the same at every rate; it is begun again when it ends.
        evaluate: score of the model, higher is better.
        threshold: score to reach.
        steps: budget.
        chance: score of guessing, which the threshold must exceed.
        check_every: steps between evaluations.
        input_scale: the layer with parameters that inputs reach first learns at this share of the rate; without it the
            law breaks.
        low, factor, tolerance: see `search`.
        restarts: initialisations; more than half must succeed.
        rule: ``rule(model, loss)`` with ``assign_credit``; backpropagation by default.
        budget_used: a list that gets the share of the budget at which each success came.

    Raises:
        ValueError: the threshold is not above chance or not below 1, or a loader gives no batches.
        NoLearningRate: no rate succeeds.
    """
    if not chance < threshold < 1:
        raise ValueError(f"threshold must lie between chance, {chance}, and 1, not {threshold}")

    diverged: set[float] = set()

    def once(rate: float, restart: int) -> bool:
        model = make_model(restart)
        batches = _endless(lambda: loader(restart))
        x, y = next(batches)
        learner = None if rule is None else rule(model, loss)
        optimizer = torch.optim.SGD(input_scaled_groups(model, rate, input_scale, x), lr=rate)
        first, high = math.inf, 0
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            if learner is None:
                value = loss(model(x), y)
                value.backward()
            else:
                value = learner.assign_credit(x, y)
            now = float(value.detach())
            first = now if step == 1 else first
            high = high + 1 if now > 10 * first else 0
            if not math.isfinite(now) or high >= 50:
                diverged.add(rate)
                return False
            optimizer.step()
            if (step % check_every == 0 or step == steps) and evaluate(model) >= threshold:
                if budget_used is not None:
                    budget_used.append(step / steps)
                return True
            x, y = next(batches)
        return False

    def succeeds(rate: float) -> float:
        wins = losses = 0
        for restart in range(restarts):
            won = once(rate, restart)
            wins, losses = wins + won, losses + (not won)
            if max(wins, losses) > restarts / 2:  # the majority is settled
                break
        return wins / (wins + losses)

    return search(succeeds, low=low, factor=factor, tolerance=tolerance, too_large=diverged.__contains__)


def _endless(begin: Callable[[], Iterable[tuple[Any, Tensor]]]) -> Iterator[tuple[Any, Tensor]]:
    while True:
        batch = None
        for batch in begin():
            yield batch
        if batch is None:
            raise ValueError("loader gives no batches")


def input_scaled_groups(model: nn.Module, lr: float, input_scale: float = 0.01, x: Any = None) -> list[dict[str, Any]]:
    """Optimizer groups in which the first module with parameters of its own learns at ``input_scale`` times the rate.

    Args:
        model: any module.
        lr: rate of everything else.
        input_scale: factor of the first module's rate.
        x: inputs, to find the parameters that they reach first when the model runs; without them the layer that was
            registered first counts.

    Raises:
        ValueError: the model has no trainable parameter.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train")
    layers = sorted(model.modules(), key=lambda m: next(m.children(), None) is not None)  # containers come last
    own = [[p for p in m.parameters(recurse=False) if p.requires_grad] for m in layers]
    first = (reached_first(model, x) if x is not None else []) or next(part for part in own if part)
    chosen = {id(p) for p in first}
    rest = [p for p in trained if id(p) not in chosen]
    groups: list[dict[str, Any]] = [{"params": first, "lr": lr * input_scale}]
    return groups + ([{"params": rest, "lr": lr}] if rest else [])


@dataclass(frozen=True)
class PowerLaw(ProbeResult):
    """rate = constant * (depth * width)^-exponent, and the same with an exponent each.

    Args:
        constant: c.
        exponent: a.
        interval: 95 % interval of a, by resampling the measurements.
        r2: share of the variance of the logarithms that the product explains.
        depth_exponent: of depth, where it may differ from that of width.
        width_exponent: of width.
        points: (depth, width, rate) that were fitted.
    """

    constant: float
    exponent: float
    interval: tuple[float, float]
    r2: float
    depth_exponent: float
    width_exponent: float
    points: tuple[tuple[int, int, float], ...]

    def predict(self, depth: int, width: int) -> float:
        """The rate for another size."""
        return self.constant * (depth * width) ** -self.exponent

    def summary(self) -> str:
        """The law in one line."""
        return (
            f"rate = {self.constant:.3g} (depth x width)^-{self.exponent:.2f} "
            f"[{self.interval[0]:.2f}, {self.interval[1]:.2f}], R2 {self.r2:.2f}; alone: depth^-"
            f"{self.depth_exponent:.2f}, width^-{self.width_exponent:.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """Rates against depth times width, with the fit."""
        sizes = sorted({d * n for d, n, _ in self.points})
        ax.loglog([d * n for d, n, _ in self.points], [r for *_, r in self.points], "o")
        ax.loglog(sizes, [self.constant * s**-self.exponent for s in sizes])
        ax.set(xlabel="depth x width", ylabel="largest rate")
        return ax


def learning_rate_law(
    results: Mapping[tuple[int, int], float] | Sequence[tuple[int, int, float]], resamples: int = 500
) -> PowerLaw:
    """Fit a power law of depth x width to measured rates, in logarithms, by least squares.

    Args:
        results: rates by (depth, width), or rows (depth, width, rate); infinite (censored) rates are left out.
        resamples: bootstrap resamples for the interval.

    Raises:
        ValueError: fewer than three finite rates, or all at one depth x width.
    """
    rows = [(d, n, r) for (d, n), r in results.items()] if isinstance(results, Mapping) else list(results)
    rows = [row for row in rows if math.isfinite(row[2]) and row[2] > 0]
    if len(rows) < 3 or len({d * n for d, n, _ in rows}) < 2:
        raise ValueError("a law needs at least three finite rates at different depth x width")
    depth, width, rate = np.log(np.array(rows, dtype=float)).T
    size = depth + width
    slope, intercept = np.polyfit(size, rate, 1)
    residual = rate - (slope * size + intercept)
    both = np.linalg.lstsq(np.stack([depth, width, np.ones_like(depth)], 1), rate, rcond=None)[0]
    draws = np.random.default_rng(0).integers(len(rows), size=(resamples, len(rows)))
    slopes = [-np.polyfit(size[d], rate[d], 1)[0] for d in draws if np.ptp(size[d]) > 1e-9]
    low, high = np.quantile(slopes, [0.025, 0.975])
    variance = ((rate - rate.mean()) ** 2).sum()
    return PowerLaw(
        float(np.exp(intercept)), float(-slope), (float(low), float(high)),
        float(1 - (residual**2).sum() / variance) if variance > 0 else 1.0, float(-both[0]), float(-both[1]),
        tuple((int(d), int(n), float(r)) for d, n, r in rows),
    )  # fmt: skip
