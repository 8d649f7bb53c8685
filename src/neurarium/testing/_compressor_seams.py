"""What users do to compressors: devices, labels, batches, and a network that must stay as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop
from neurarium.testing import second_device
from neurarium.testing._rule_seams import stack
from neurarium.testing.contract import require, same
from neurarium.testing.world import World, close
from neurarium.training import fit


def compressed(component: Any, world: World, model: nn.Module | None = None) -> Tensor:
    """What the smaller network says of some inputs."""
    if model is None:
        model = stack(world)
        rule = Backprop(model, cross_entropy)
        fit(
            rule,
            World(world.device, labels=world.labels).batches(4),
            torch.optim.Adam(rule.parameters(), 1e-2),
            epochs=20,
        )
        rule.zero_grad()
    torch.manual_seed(0)
    smaller = component().compress(model, world.batches(4)).eval()
    require(smaller is not model, component, "must return another module")
    with torch.no_grad():
        return smaller(world.examples(6, seed=9))


def compressor_world(component: Any, world: World, same_numbers: bool) -> None:
    """It compresses in another world, and the same where the world differs in form alone."""
    try:
        found = compressed(component, world)
    except ValueError as refusal:
        require(not same_numbers and len(str(refusal)) > 20, component, f"must work here, but said: {refusal}")
        return
    require(found.device.type == world.device, component, "must give a network on the model's device")
    if same_numbers:
        require(close(compressed(component, World()), found), component, "must give the same for batches of this form")


def compressor_keeps(component: Any) -> None:
    """The given network: state, modes (a frozen batch norm too), gradients."""
    world = World(training=True)
    model = world.classifier()
    model.layers[1].eval()  # type: ignore[index, union-attr]
    state = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    try:
        compressed(component, world, model)
    except (ValueError, TypeError) as refusal:
        require(len(str(refusal)) > 20, component, "must say why it refuses a network")
        return
    require(same(state, dict(model.state_dict())), component, "must leave the network's state as it was")
    require([m.training for m in model.modules()] == modes, component, "must leave the network's modes as they were")
    require(all(p.grad is None for p in model.parameters()), component, "must leave no gradient behind")


COMPRESSOR_CHECKS: dict[str, Callable[[Any], None]] = {
    "second device": lambda c: compressor_world(c, World(device=second_device.register()), False),
    "labels in int32": lambda c: compressor_world(c, World(label_dtype=torch.int32), True),
    "labels with a gap": lambda c: compressor_world(c, World(labels=(0, 2)), False),
    "one class only": lambda c: compressor_world(c, World(labels=(1,)), False),
    "batches as triples": lambda c: compressor_world(c, World(batch="triple"), True),
    "batches as dictionaries": lambda c: compressor_world(c, World(batch="dict"), True),
    "batches as encodings": lambda c: compressor_world(c, World(batch="encoding"), True),
    "network untouched": compressor_keeps,
}
"""Name -> check of a compressor, which is built as ``compressor_class()``."""
