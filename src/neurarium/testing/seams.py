"""The seams with a user's world as named checks: ``for name, check in seam_checks(component): check()``.

A component shows how it is used by an example: a function of a `World` (what tensors, labels and batches are like) that
uses it once and returns what came out. A class may have one of its own, ``example(world)`` as a static method; ours
stand in `examples`, and layers, rules, strategies and compressors need none, since one call fits all of a kind. Each
check runs the example in two worlds, or twice in one, and compares.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from neurarium.compression import Compressor
from neurarium.continual import Strategy
from neurarium.learning import LearningRule
from neurarium.testing import _compressor_seams, _module_seams, _rule_seams, _strategy_seams, second_device
from neurarium.testing.contract import require
from neurarium.testing.examples import EXAMPLES, MODULES
from neurarium.testing.exemptions import CHECKS_EXEMPT, EXEMPT
from neurarium.testing.layers import has_forward, inputs, make_layer
from neurarium.testing.world import World, close, leaves

ROOMS = (
    "layers",
    "objectives",
    "models",
    "learning",
    "probes",
    "theory",
    "speech",
    "continual",
    "compression",
    "search",
)
Check = Callable[[], None]


def components() -> dict[str, Any]:
    """Every public class and function of the rooms, as ``"room.name"``, found through the rooms' stubs."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"neurarium.{room}")
        for name in module.__all__:
            if inspect.isclass(thing := getattr(module, name)) or inspect.isfunction(thing):
                found[f"{room}.{name}"] = thing
    return found


def exemption(component: Any) -> str:
    """Why a component has no seams to check; empty where it has."""
    name = component.__name__
    if name in EXEMPT:
        return EXEMPT[name]
    if hasattr(component, "example") or name in EXAMPLES or name in MODULES:
        return ""
    if inspect.isclass(component):
        if issubclass(component, Exception):
            return "an exception"
        if issubclass(component, (tuple, enum.Enum)) or dataclasses.is_dataclass(component):
            return "a record of what a method found or was told"
        if getattr(component, "_is_protocol", False) or inspect.isabstract(component):
            return "a protocol or a base; those who implement it are checked"
        if issubclass(component, nn.Module) and not has_forward(component):
            return "a base of modules; those who implement it are checked"
    return ""


def seam_checks(component: Any) -> Iterator[tuple[str, Check]]:
    """The checks of one component, each with its name, to be called one by one.

    Args:
        component: a class or function, ours or another's.

    Yields:
        Name and check; the check raises `ContractError` with one sentence, or whatever the component raised.
    """
    for name, check in _checks(component):
        if (component.__name__, name) not in CHECKS_EXEMPT:
            yield name, check


def _checks(component: Any) -> Iterator[tuple[str, Check]]:
    bind = functools.partial
    if inspect.isclass(component) and issubclass(component, LearningRule):
        for name, check in _rule_seams.RULE_CHECKS.items():
            yield name, bind(check, component)
        return
    if inspect.isclass(component) and issubclass(component, Strategy):
        for name, check in _strategy_seams.STRATEGY_CHECKS.items():
            yield name, bind(check, component)
        return
    if inspect.isclass(component) and issubclass(component, Compressor):
        for name, check in _compressor_seams.COMPRESSOR_CHECKS.items():
            yield name, bind(check, component)
        return
    if made := module_example(component):
        for name, on_module in _module_seams.CHECKS.items():
            yield name, bind(on_module, component, made)
        return
    example = example_of(component)
    yield "second device", bind(check_second_device, component, example)
    yield "double precision", bind(check_double, component, example)
    yield "inputs untouched", bind(check_undisturbed, component, example)
    yield "random state", bind(check_random_state, component, example)
    used = _uses(example)
    if used & {"y", "batches"}:
        yield "labels in int32", bind(check_labels, component, example, World(label_dtype=torch.int32), True)
        yield "labels with a gap", bind(check_labels, component, example, World(labels=(0, 2)), False)
        yield "one class only", bind(check_labels, component, example, World(labels=(1,)), False)
    if "batches" in used:
        for kind in ("triple", "dict", "encoding"):
            yield f"batches as {kind}", bind(check_labels, component, example, World(batch=kind), True)


def example_of(component: Any) -> Callable[[World], Any]:
    """The component's own example, or ours.

    Raises:
        ContractError: there is none.
    """
    example = getattr(component, "example", None) or EXAMPLES.get(component.__name__)
    require(
        example is not None, component,
        "must show how it is used: an example(world) of its own, or a line in neurarium.testing.examples",
    )  # fmt: skip
    return example  # type: ignore[return-value]


def module_example(component: Any) -> Callable[[World], tuple[nn.Module, tuple[Any, ...]]] | None:
    """For a module: what makes it and its inputs, before they are put anywhere."""
    if not (inspect.isclass(component) and issubclass(component, nn.Module)):
        return None
    if component.__name__ in MODULES:
        return MODULES[component.__name__]
    if component.__module__.startswith("neurarium.layers") and component.__name__ not in EXAMPLES:

        def of_layer(world: World) -> tuple[nn.Module, tuple[Any, ...]]:
            layer = make_layer(component)
            return layer, tuple(t.to(world.device, world.dtype) for t in inputs(layer))

        return of_layer
    return None


def _run(example: Callable[[World], Any], world: World, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return example(world)


def check_second_device(component: Any, example: Callable[[World], Any]) -> None:
    """Nothing stays behind on the CPU or comes from there, and what does not draw gives the CPU's numbers."""
    here = _run(example, World())
    there = _run(example, World(device=second_device.register()))
    if close(here, _run(example, World(), seed=1)):
        require(close(here, there), component, "must give the same numbers on another device")


def check_double(component: Any, example: Callable[[World], Any]) -> None:
    """Floating-point tensors come out in the precision in which they went in."""
    single, double = _run(example, World()), _run(example, World(dtype=torch.float64))
    for place, value in leaves(double).items():
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        require(not floating or value.dtype == torch.float64, component, f"must stay in float64 (result {place!r})")
    if close(single, _run(example, World(), seed=1)):
        require(close(single, double, 1e-2, 1e-3), component, "must give the numbers of float32 in float64")


def check_undisturbed(component: Any, example: Callable[[World], Any]) -> None:
    """Networks keep state, modes and gradients; with its own generator or none, two calls give the same numbers."""
    for training in (False, True):
        world = _Watched(training=training)
        torch.manual_seed(0)
        try:
            first = example(world)
        except ValueError as refusal:
            require(len(str(refusal)) > 20, component, "must say why it refuses a network")
            continue
        torch.manual_seed(0)
        second = example(_Watched(training=training))
        require(close(first, second, 0, 0), component, "must give the same numbers again from the same random state")
        for model, state, modes in world.before:
            now = model.state_dict()
            kept = state.keys() == now.keys() and all(torch.equal(state[n], now[n]) for n in state)
            require(kept, component, f"must leave the state of the network as it was (training={training})")
            require(
                [m.training for m in model.modules()] == modes, component, "must leave every module's mode as it was"
            )
            left = any(p.grad is not None for p in model.parameters())
            require(not left, component, "must leave no gradient behind")


def check_random_state(component: Any, example: Callable[[World], Any]) -> None:
    """Random numbers come from a generator that was given, not from torch's own, on no device."""
    device = torch.get_device_module(second_device.register())
    for world in (World(), World(device=second_device.NAME)):
        torch.manual_seed(0)
        before = torch.get_rng_state(), device.get_rng_state()
        example(world)
        after = torch.get_rng_state(), device.get_rng_state()
        require(all(map(torch.equal, before, after)), component, "must leave torch's random state as it was")


class _Watched(World):
    """Remembers each network as it was handed out, a batch norm of it frozen."""

    def put(self, module: nn.Module) -> Any:
        """As `World.put`."""
        module = super().put(module)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        state = {name: t.detach().clone() for name, t in module.state_dict().items()}
        before = self.__dict__.setdefault("before", [])
        before.append((module, state, [m.training for m in module.modules()]))
        return module

    @property
    def before(self) -> list[tuple[nn.Module, dict[str, torch.Tensor], list[bool]]]:
        """The networks, their state and modes."""
        return self.__dict__.get("before", [])


def check_labels(component: Any, example: Callable[[World], Any], world: World, same: bool) -> None:
    """It works in that world (or says why not), where ``same`` with the numbers of the usual one."""
    try:
        found = _run(example, world)
    except ValueError as refusal:
        require(not same and len(str(refusal)) > 20, component, f"must work here, or say why not, but said: {refusal}")
        return
    if same:
        usual = _run(example, World())
        require(close(usual, found), component, "must give the same numbers for labels and batches of this kind")


def _uses(example: Any) -> set[str]:
    """The names that an example's code speaks of: what of a `World` it takes."""
    found: set[str] = set()
    stack = [getattr(example, "__code__", None)]
    while stack:
        code = stack.pop()
        if isinstance(code, types.CodeType):
            found |= set(code.co_names)
            stack += code.co_consts
    return found
