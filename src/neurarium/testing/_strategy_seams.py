"""What users do to strategies of continual learning: devices, labels, batches, frozen layers, copies."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop
from neurarium.testing import second_device
from neurarium.testing.contract import require
from neurarium.testing.world import World, close
from neurarium.training import fit


def two_tasks(component: Any, world: World, model: nn.Module | None = None) -> tuple[Any, Any]:
    """A strategy after two tasks, and what it predicts and asks for then."""
    torch.manual_seed(0)
    strategy = component(model if model is not None else world.classifier()).to(world.device)
    for task in range(2):
        strategy.begin_task(task)
        loader = world.batches(seed=3 * task)
        if any(p.requires_grad for p in strategy.model.parameters()):
            rule = Backprop(strategy.model, cross_entropy)
            optimizer = torch.optim.SGD(rule.parameters(), 0.05)
            with strategy.attach(optimizer):
                fit(rule, loader, optimizer, penalties=[strategy.penalty])
        for batch in loader:
            x, y = (batch["x"], batch["labels"]) if not isinstance(batch, tuple) else batch[:2]
            strategy.observe(x, y)
        strategy.end_task(loader)
    strategy.begin_task(2)
    torch.manual_seed(1)
    prediction = strategy.predict(world.examples(6, seed=9))
    return strategy, (prediction.get("logits") if isinstance(prediction, dict) else prediction, strategy.penalty())


def strategy_world(component: Any, world: World, same_numbers: bool) -> None:
    """Two tasks in another world; the same numbers where the world differs in form alone."""
    found = two_tasks(component, world)[1]
    require(bool(torch.as_tensor(found[1]).isfinite().all()), component, "must give a finite penalty")
    if same_numbers:
        require(
            close(two_tasks(component, World())[1], found), component, "must learn the same from batches of this form"
        )


def strategy_second(component: Any) -> None:
    """Two tasks on another device (dropout draws there for itself, so the numbers may differ)."""
    prediction, penalty = two_tasks(component, World(device=second_device.register()))[1]
    for tensor in (prediction, penalty):
        require(tensor.device.type == second_device.NAME, component, "must answer on the model's device")


def strategy_copy(component: Any) -> None:
    """A copy predicts and penalises alike."""
    strategy, _ = two_tasks(component, World())
    copied = copy.deepcopy(strategy)
    x = World().examples(6, seed=9)
    for method in (lambda s: s.predict(x), lambda s: s.penalty()):
        results = []
        for one in (strategy, copied):
            torch.manual_seed(2)
            results.append(method(one))
        require(close(results[0], results[1], 0, 0), component, "must survive copy.deepcopy")


def strategy_state(component: Any) -> None:
    """What it remembers loads under ``weights_only=True``."""
    strategy, _ = two_tasks(component, World())
    file = io.BytesIO()
    torch.save(strategy.state_dict(), file)
    file.seek(0)
    fresh = component(World().classifier(seed=4))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    fresh.begin_task(2)
    torch.manual_seed(2)
    expected = strategy.penalty()
    torch.manual_seed(2)
    require(close(expected, fresh.penalty(), 1e-5, 1e-7), component, "must hold all it remembers in its state_dict")


def strategy_whole(component: Any) -> None:
    """`torch.save` of the strategy itself."""
    strategy, _ = two_tasks(component, World())
    file = io.BytesIO()
    torch.save(strategy, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    x = World().examples(6, seed=9)
    require(close(strategy.predict(x), loaded.predict(x), 0, 0), component, "must survive torch.save of the whole")


def strategy_frozen(component: Any) -> None:
    """With a frozen first layer it works on the rest and leaves the frozen weights alone."""
    world = World()
    model = world.classifier()
    model.layers[0].requires_grad_(False)  # type: ignore[index]
    before = model.layers[0].weight.clone()  # type: ignore[index, union-attr]
    two_tasks(component, world, model)
    require(torch.equal(before, model.layers[0].weight), component, "must leave frozen weights alone")  # type: ignore[index, union-attr]


STRATEGY_CHECKS: dict[str, Callable[[Any], None]] = {
    "second device": strategy_second,
    "labels in int32": lambda c: strategy_world(c, World(label_dtype=torch.int32), False),
    "labels with a gap": lambda c: strategy_world(c, World(labels=(0, 2)), False),
    "one class only": lambda c: strategy_world(c, World(labels=(1,)), False),
    "batches as triples": lambda c: strategy_world(c, World(batch="triple"), True),
    "batches as dictionaries": lambda c: strategy_world(c, World(batch="dict"), True),
    "batches as encodings": lambda c: strategy_world(c, World(batch="encoding"), True),
    "frozen": strategy_frozen,
    "deepcopy": strategy_copy,
    "state under weights_only": strategy_state,
    "torch.save of the whole": strategy_whole,
}
"""Name -> check of a strategy, which is built as ``strategy_class(model)``."""
