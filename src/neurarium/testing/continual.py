"""The contract of continual-learning strategies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual import Strategy
from neurarium.learning import Backprop
from neurarium.testing.contract import blobs, require, same, seeded
from neurarium.testing.learning import MODELS
from neurarium.training import fit


def check_strategy(strategy_class: type[Strategy]) -> None:
    """Hold a strategy to the contract: ``strategy_class(model)`` with its defaults, through two tasks.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    for make in MODELS.values():
        strategy = seeded(0, _build, strategy_class, make)
        _check_first_task(strategy)
        _check_second_task(strategy)
        fresh = seeded(5, _build, strategy_class, make)
        fresh.load_state_dict(strategy.state_dict())
        fresh.begin_task(2)
        require(
            torch.allclose(seeded(6, fresh.penalty), seeded(6, strategy.penalty)), strategy_class,
            "must hold all it remembers in its state_dict",
        )  # fmt: skip


def _build(strategy_class: type[Strategy], make: Callable[[], nn.Module]) -> Strategy:
    return strategy_class(make())


def _train(strategy: Strategy, seed: int) -> list[tuple[Tensor, Tensor]]:
    loader = [blobs(seed=seed)]
    if any(p.requires_grad for p in strategy.model.parameters()):  # one with a frozen encoder learns by observing
        rule = Backprop(strategy.model, cross_entropy)
        fit(rule, loader, torch.optim.SGD(rule.parameters(), 0.05), epochs=5, penalties=[strategy.penalty])
    for x, y in loader:
        strategy.observe(x, y)
    return loader


def _state(model: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _check_first_task(strategy: Strategy) -> None:
    kind = type(strategy)
    strategy.begin_task(0)
    before = strategy.penalty()
    require(before.dim() == 0 and float(before) == 0, kind, "must have a penalty of 0 before the first task has ended")
    loader = _train(strategy, seed=0)
    strategy.zero_grad()
    state, mode = _state(strategy.model), strategy.model.training
    seeded(1, lambda: strategy.end_task(loader))
    require(same(state, _state(strategy.model)), kind, "must leave the weights and buffers alone in end_task")
    require(strategy.model.training == mode, kind, "must put the model's mode back in end_task")
    left = [p for p in strategy.model.parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    require(not left, kind, "must leave no gradient behind in end_task")


def _check_second_task(strategy: Strategy) -> None:
    kind = type(strategy)
    strategy.begin_task(1)
    _train(strategy, seed=1)
    penalty = strategy.penalty()
    require(penalty.dim() == 0 and bool(torch.isfinite(penalty)), kind, "must give a finite scalar penalty")
    require(float(penalty) >= 0, kind, "must not give a negative penalty")
    if penalty.requires_grad:
        strategy.zero_grad()
        penalty.backward()
        found = [p.grad for p in strategy.model.parameters() if p.grad is not None]
        require(any(bool(g.abs().sum() > 0) for g in found), kind, "must pull on the weights once they have moved")
    strategy.model.train()
    prediction = strategy.predict(blobs()[0])
    require(prediction.shape[-1] == 3 and not prediction.requires_grad, kind, "must predict without a graph")
    require(strategy.model.training, kind, "must put the model's mode back in predict")
