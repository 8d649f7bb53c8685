"""Recipes that end in gradients, and the one loop that trains for all of them."""

from __future__ import annotations

import copy
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from neurarium.learning import Backprop, LearningRule
from neurarium.recipes.knobs import Knobs
from neurarium.recipes.problem import Problem, clock, endless
from neurarium.recipes.recipe import Predictor, Progress, Recipe
from neurarium.training import evaluation, fit, peak_bytes, training

T = TypeVar("T")
EVALUATIONS = 40
"""Validations in a whole training; a quarter of them without progress ends it."""


@dataclass
class Plan:
    """What differs from plain training; whatever is None is as in the reference.

    Args:
        model: the network that is trained.
        rule: what fills ``.grad``; None for backpropagation.
        optimizer: over ``rule.parameters()``; None for AdamW.
        batches: pairs ``(x, y)``, iterated again and again; None for the problem's, shuffled by the seed.
        penalties: scalars added to the objective.
        callbacks: called after each step with its number (from 1) and its loss.
        anneal: the rate falls to zero along a cosine; otherwise it is constant.
        finish: makes the predictor of the trained rule; None for the rule's (or its model's) own forward.
    """

    model: nn.Module
    rule: LearningRule | None = None
    optimizer: torch.optim.Optimizer | None = None
    batches: Iterable[tuple[Tensor, Tensor]] | None = None
    penalties: Sequence[Callable[[], Tensor]] = ()
    callbacks: Sequence[Callable[[int, float], object]] = ()
    anneal: bool = True
    finish: Callable[[Any], nn.Module | Predictor] | None = None


class GradientRecipe(Recipe):
    """An idea that is applied by training in gradient steps; it says what differs, in `plan`.

    Its knobs should have a ``learning_rate``, and may have a ``weight_decay``; both are AdamW's.
    """

    @abstractmethod
    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """What differs from plain training.

        Raises:
            ValueError: the idea cannot act on this network; the message is shown to the person.
        """

    def fits(self, problem: Problem) -> str:
        """Why the idea cannot be applied: the traits, or what `plan` and a first batch of four refuse."""
        return super().fits(problem) or refused(lambda: self._try(problem))

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Train by the plan; what it draws (feedback, say) depends on the seed alone, too."""
        torch.manual_seed(progress.seed)
        return learn(problem, self.plan(problem, knobs, progress), knobs, progress)

    def _try(self, problem: Problem) -> None:
        plan = self.plan(problem, self.defaults(), Unwatched())
        rule = plan.rule or Backprop(plan.model, problem.loss)
        rule.to(problem.device).assign_credit(problem.train.x[:4], problem.train.y[:4])


class Unwatched:
    """A progress that keeps nothing."""

    seed = 0

    def record(self, **values: float | str) -> None:
        """Ignore."""

    def track(self, items: Iterable[T], what: str = "steps") -> Iterator[T]:
        """The items."""
        return iter(items)


def refused(attempt: Callable[[], object]) -> str:
    """The first line of the `ValueError` by which a component refuses what it is given; empty without one."""
    try:
        attempt()
    except ValueError as error:
        return str(error).strip().partition("\n")[0] or "it refuses these data"
    return ""


def learn(problem: Problem, plan: Plan, knobs: Knobs, progress: Progress, *, share: float = 1.0) -> Predictor:
    """Train within the problem's budget, and keep the state that was best on validation.

    Validation happens 40 times; ten in a row without a better score (accuracy, then log-loss; or R²) end the training.

    Args:
        problem: what to learn.
        plan: how.
        knobs: ``learning_rate`` and ``weight_decay`` of the optimizer, where the plan brings none.
        progress: seed and curves.
        share: of the budget's steps, for one of several phases.

    Raises:
        FloatingPointError: the loss was not finite before the first validation.
    """
    torch.manual_seed(progress.seed)
    rule = (plan.rule or Backprop(plan.model, problem.loss)).to(problem.device)
    batches = plan.batches if plan.batches is not None else problem.batches(progress.seed)
    optimizer = plan.optimizer or adamw(rule, knobs)
    steps = max(1, int(problem.steps * share))
    interval = math.ceil(steps / EVALUATIONS)
    if plan.anneal:
        schedule = LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))
        optimizer.register_step_post_hook(lambda *_: schedule.step())
    stream = endless(batches)
    best, state, waited, done = (-math.inf, -math.inf), None, 0, 0
    callbacks = [lambda step, loss, call=call: call(done + step, loss) for call in plan.callbacks]
    start = clock(problem.device)
    for _ in progress.track(range(math.ceil(steps / interval)), "validations"):
        part = itertools.islice(stream, min(interval, steps - done))
        try:
            loss = fit(rule, part, optimizer, penalties=plan.penalties, callbacks=callbacks)
        except FloatingPointError:
            if state is None:
                raise
            break
        done = min(done + interval, steps)
        with evaluation(rule):
            found = problem.scores(rule, problem.validation)
        seconds = clock(problem.device) - start
        shown = {f"validation_{problem.metric}": found[problem.metric]}
        progress.record(step=done, seconds=seconds, loss=loss[0], **shown)
        score = (found[problem.metric], -found.get("log_loss", 0.0))
        waited += 1
        if score > best:
            best, state, waited = score, copy.deepcopy(rule.state_dict()), 0
        if waited >= EVALUATIONS // 4 or seconds > problem.seconds:
            break
    step_bytes = bytes_of_a_step(rule, batches)
    if state is not None:
        rule.load_state_dict(state)
    made = plan.finish(rule) if plan.finish else predicting(rule)
    predictor = made if isinstance(made, Predictor) else Predictor.of(made)
    return replace(predictor, costs={**predictor.costs, "step_bytes": float(step_bytes), "steps": float(done)})


def bytes_of_a_step(rule: LearningRule, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Most bytes of tensors alive at a moment of one step, beside weights and data; no gradient is left behind."""
    x, y = next(iter(batches))
    with training(rule):
        found = peak_bytes(lambda: rule.assign_credit(x, y))
    rule.zero_grad()
    return found


def predicting(rule: LearningRule) -> nn.Module:
    """What is kept to predict: the network alone, unless the rule predicts in a way of its own."""
    return rule.model if type(rule).forward is LearningRule.forward else rule


def adamw(module: nn.Module, knobs: Knobs) -> torch.optim.AdamW:
    """AdamW in one fused pass: three times faster on a CPU, the same steps."""
    rate, decay = knobs.get("learning_rate", 1e-3), knobs.get("weight_decay", 0.01)
    return torch.optim.AdamW(module.parameters(), rate, weight_decay=decay, fused=True)
