"""What users do to learning rules: their optimizers, precisions, labels, batches, odd parameters."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations

from neurarium.testing import second_device
from neurarium.testing.contract import require, same
from neurarium.testing.world import World, close
from neurarium.training import fit


def stack(world: World, seed: int = 0) -> nn.Module:
    """The plain network that every rule accepts."""
    return world.mlp(8, 16, 16, 3, seed=seed)


def build_rule(component: Any, model: nn.Module) -> Any:
    """The rule with its defaults, seeded, where the model is."""
    torch.manual_seed(0)
    rule = component(model, cross_entropy)
    return rule.to(next(model.parameters()).device)


def credit(rule: Any, x: Any, y: Tensor, seed: int = 1) -> dict[str, Tensor]:
    """The gradients of one batch by name."""
    rule.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    rule.assign_credit(x, y)
    return {name: p.grad.clone() for name, p in rule.named_parameters() if p.grad is not None}


def usual(component: Any, world: World | None = None) -> tuple[Any, Tensor, Tensor]:
    """A rule, inputs and labels of a world."""
    world = world or World(training=True)
    return build_rule(component, stack(world)), world.examples(), world.y()


def rule_second(component: Any) -> None:
    """Moved to another device it gives the same gradients there, where it draws nothing."""
    rule, x, y = usual(component)
    here = credit(rule, x, y)
    device = second_device.register()
    there = copy.deepcopy(rule).to(device)
    found = credit(there, x.to(device), y.to(device))
    require(here.keys() == found.keys(), component, "must fill the same gradients on another device")
    for name, gradient in found.items():
        require(gradient.device.type == device, component, f"must leave {name}'s gradient on its device")
    if same(here, credit(rule, x, y, seed=2)):
        require(close(here, found), component, "must give the same gradients on another device")


def rule_autocast(component: Any, dtype: torch.dtype) -> None:
    """Under autocast: finite gradients of the parameters' own type."""
    rule, x, y = usual(component)
    with torch.autocast("cpu", dtype):
        found = credit(rule, x, y)
    kinds = {g.dtype for g in found.values()}
    require(kinds == {torch.float32}, component, "must give gradients of the parameters' type under autocast")
    require(
        all(bool(g.isfinite().all()) for g in found.values()), component, "must give finite gradients under autocast"
    )


def rule_optimizer(component: Any, options: dict[str, Any]) -> None:
    """One step under another implementation of an optimizer moves the weights as the plain one does."""
    results = []
    for more in ({}, options):
        rule, x, y = usual(component)
        optimizer = torch.optim.Adam(rule.parameters(), 1e-2, **more)
        credit(rule, x, y)
        optimizer.step()
        results.append(dict(rule.named_parameters()))
    require(close(results[0], results[1], 1e-4, 1e-6), component, f"must train under Adam({options}) as under Adam()")


def rule_closure(component: Any) -> None:
    """L-BFGS calls the rule several times in one step."""
    rule, x, y = usual(component)
    optimizer = torch.optim.LBFGS(rule.parameters(), 1e-2, max_iter=3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        torch.manual_seed(1)
        return rule.assign_credit(x, y)

    optimizer.step(closure)
    finite = all(bool(p.isfinite().all()) for p in rule.parameters())
    require(finite, component, "must train in a closure that is called several times")


def rule_int32(component: Any) -> None:
    """Labels in int32 give the gradients of those in int64, where the loss takes them."""
    rule, x, y = usual(component)
    loose: Any = lambda output, target: cross_entropy(output, target.long())  # noqa: E731
    rule.loss = loose
    require(close(credit(rule, x, y), credit(rule, x, y.int()), 0, 1e-7), component, "must take labels in int32")


def rule_classes(component: Any, labels: tuple[int, ...]) -> None:
    """Batches in which not all classes occur: finite gradients."""
    rule, x, y = usual(component, World(labels=labels, training=True))
    found = credit(rule, x, y)
    require(bool(found), component, f"must learn from a batch of the classes {labels}")
    require(
        all(bool(g.isfinite().all()) for g in found.values()), component, f"must give finite gradients for {labels}"
    )


def rule_loader(component: Any, kind: Any) -> None:
    """`fit` with batches in other forms trains as with pairs."""
    results = []
    for world in (World(training=True), World(training=True, batch=kind)):
        rule = build_rule(component, stack(world))
        torch.manual_seed(1)
        fit(rule, world.batches(), torch.optim.SGD(rule.parameters(), 1e-2))
        results.append(dict(rule.named_parameters()))
    require(close(results[0], results[1], 0, 0), component, f"must train on batches as {kind} as on pairs")


def rule_frozen(component: Any) -> None:
    """A frozen layer gets no gradient, and the rest still learns (or the rule says why not)."""
    world = World(training=True)
    model = stack(world)
    model[2].requires_grad_(False)  # type: ignore[index]
    try:
        rule = build_rule(component, model)
        found = credit(rule, world.examples(), world.y())
    except (ValueError, TypeError) as refusal:
        require(len(str(refusal)) > 20, component, "must say why it refuses frozen layers")
        return
    require(bool(found), component, "must go on training what is not frozen")
    require(all(p.grad is None for p in model[2].parameters()), component, "must give a frozen layer no gradient")  # type: ignore[index]


def rule_odd(component: Any, change: Callable[[nn.Module], None], what: str) -> None:
    """Tied, parametrized or unused parameters: finite gradients, or a refusal that says why."""
    world = World(training=True)
    model = stack(world)
    change(model)
    try:
        rule = build_rule(component, model)
        found = credit(rule, world.examples(), world.y())
    except (ValueError, TypeError) as refusal:
        require(len(str(refusal)) > 20, component, f"must say why it refuses {what} parameters")
        return
    require(bool(found), component, f"must train a network with {what} parameters")
    finite = all(bool(g.isfinite().all()) for g in found.values())
    require(finite, component, f"must give finite gradients to {what} parameters")


def rule_copy(component: Any) -> None:
    """A copy gives the same gradients and shares nothing."""
    rule, x, y = usual(component)
    credit(rule, x, y)
    copied = copy.deepcopy(rule)
    require(close(credit(rule, x, y), credit(copied, x, y), 0, 0), component, "must survive copy.deepcopy")
    shared = {id(p) for p in rule.parameters()} & {id(p) for p in copied.parameters()}
    require(not shared, component, "must not share parameters with its copy")


def rule_state(component: Any) -> None:
    """The state loads under ``weights_only=True``."""
    rule, x, y = usual(component)
    expected = credit(rule, x, y)
    file = io.BytesIO()
    torch.save(rule.state_dict(), file)
    file.seek(0)
    fresh = build_rule(component, stack(World(training=True), seed=5))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    require(close(expected, credit(fresh, x, y), 0, 1e-6), component, "must hold all that it needs in its state_dict")


def rule_whole(component: Any) -> None:
    """`torch.save` of the rule itself, and back."""
    rule, x, y = usual(component)
    credit(rule, x, y)
    file = io.BytesIO()
    torch.save(rule, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    require(close(credit(rule, x, y), credit(loaded, x, y), 0, 0), component, "must survive torch.save of the whole")


def tie(model: nn.Module) -> None:
    """A further layer that shares the weight of the middle one."""
    model[2].weight = model[2].weight  # type: ignore[index]
    twin = nn.Linear(16, 16)
    twin.weight = model[2].weight  # type: ignore[index]
    model.insert(3, twin)  # type: ignore[operator]


def parametrize(model: nn.Module) -> None:
    """The middle layer with weight normalisation."""
    parametrizations.weight_norm(model[2])  # type: ignore[index]


def add_unused(model: nn.Module) -> None:
    """A parameter that no pass uses."""
    model[2].register_parameter("unused", nn.Parameter(torch.zeros(3)))  # type: ignore[index]


def make_lazy(model: nn.Module) -> None:
    """The middle layer without a size until it has seen a batch."""
    model[2] = nn.LazyLinear(16)  # type: ignore[operator]


RULE_CHECKS: dict[str, Callable[[Any], None]] = {
    "second device": rule_second,
    "autocast in bfloat16": functools.partial(rule_autocast, dtype=torch.bfloat16),
    "autocast in float16": functools.partial(rule_autocast, dtype=torch.float16),
    "fused optimizer": functools.partial(rule_optimizer, options={"fused": True}),
    "foreach optimizer": functools.partial(rule_optimizer, options={"foreach": True}),
    "optimizer with a closure": rule_closure,
    "labels in int32": rule_int32,
    "labels with a gap": functools.partial(rule_classes, labels=(0, 2)),
    "one class only": functools.partial(rule_classes, labels=(1,)),
    "batches as triples": functools.partial(rule_loader, kind="triple"),
    "batches as dictionaries": functools.partial(rule_loader, kind="dict"),
    "batches as encodings": functools.partial(rule_loader, kind="encoding"),
    "frozen": rule_frozen,
    "tied": functools.partial(rule_odd, change=tie, what="tied"),
    "parametrized": functools.partial(rule_odd, change=parametrize, what="parametrized"),
    "unused": functools.partial(rule_odd, change=add_unused, what="unused"),
    "lazy": functools.partial(rule_odd, change=make_lazy, what="lazy"),
    "deepcopy": rule_copy,
    "state under weights_only": rule_state,
    "torch.save of the whole": rule_whole,
}
"""Name -> check of a learning rule, which is built as ``rule_class(model, loss)``."""
