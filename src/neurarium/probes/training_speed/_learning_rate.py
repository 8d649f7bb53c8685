"""The largest learning rate with which a fresh network can start to train."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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
    loader: Callable[[int], Iterable[Any]],
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


def _endless(begin: Callable[[], Iterable[Any]]) -> Iterator[tuple[Any, Tensor]]:
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
