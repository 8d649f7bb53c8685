"""What users do to a module: move it, cast it, copy it, save it, run it under autocast."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.testing import second_device
from neurarium.testing.contract import require, same
from neurarium.testing.world import World, close, leaves

Made = Callable[[World], tuple[nn.Module, tuple[Any, ...]]]


def build(make: Made, world: World, seed: int = 0) -> tuple[nn.Module, tuple[Any, ...]]:
    """The module in evaluation mode, still where it was made, and its inputs."""
    torch.manual_seed(seed)
    module, inputs = make(world)
    return module.eval(), inputs


def run(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The output of one seeded pass."""
    torch.manual_seed(1)
    return module(*inputs)


def second(component: Any, make: Made) -> None:
    """Moved to another device it computes the same there, forward and backward, and nothing stays behind."""
    module, inputs = build(make, World())
    expected = run(module, inputs)
    device = second_device.register()
    moved, there = build(make, World(device=device))
    moved.to(device)
    found = run(moved, there)
    for place, tensor in leaves(found).items():
        away = not isinstance(tensor, Tensor) or tensor.device.type == device
        require(away, component, f"must answer on the device of its input (output {place!r} is elsewhere)")
    require(close(expected, found), component, "must give the same output on another device")
    differentiate(moved, found)
    for tensor in moved.state_dict().values():
        require(not isinstance(tensor, Tensor) or tensor.device.type == device, component, "must move with .to()")


def double(component: Any, make: Made) -> None:
    """`.double()` gives outputs in float64, near those of float32."""
    module, inputs = build(make, World())
    expected = run(module, inputs)
    wide, given = build(make, World(dtype=torch.float64))
    found = run(wide.double(), given)
    for place, tensor in leaves(found).items():
        floating = isinstance(tensor, Tensor) and tensor.is_floating_point()
        require(not floating or tensor.dtype == torch.float64, component, f"must answer in float64 (output {place!r})")
    require(close(expected, found, 1e-2, 1e-3), component, "must give the output of float32 in float64")


def half_and_back(component: Any, make: Made) -> None:
    """`.half().float()` rounds the weights and does nothing worse."""
    module, inputs = build(make, World())
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in (*rounded.parameters(), *rounded.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().to(tensor.dtype))
    expected, found = run(rounded, inputs), run(copy.deepcopy(module).half().float(), inputs)
    require(close(expected, found, 1e-2, 1e-2), component, "must survive .half().float()")


def autocast(component: Any, make: Made, dtype: torch.dtype) -> None:
    """Under autocast it runs forward and backward, and what comes out is finite."""
    module, inputs = build(make, World())
    if any(isinstance(part, nn.LSTM) for part in module.modules()) and not lstm_runs(dtype):
        return
    with torch.autocast("cpu", dtype):
        found = run(module, inputs)
    for place, tensor in leaves(found).items():
        bad = isinstance(tensor, Tensor) and tensor.is_floating_point() and bool(tensor.isnan().any())
        require(not bad, component, f"must not give NaN under autocast (output {place!r})")
    differentiate(module, found)
    for name, parameter in module.named_parameters():
        bad = parameter.grad is not None and parameter.grad.dtype != parameter.dtype
        require(not bad, component, f"must give gradients of the parameters' type under autocast ({name})")


@cache
def lstm_runs(dtype: torch.dtype) -> bool:
    """Whether torch's own LSTM has a kernel of this type on this processor; some have none."""
    try:
        with torch.autocast("cpu", dtype):
            nn.LSTM(2, 2)(torch.zeros(1, 1, 2))
    except RuntimeError:
        return False
    return True


def deepcopied(component: Any, make: Made) -> None:
    """A copy gives the same and shares nothing."""
    module, inputs = build(make, World())
    copied = copy.deepcopy(module)
    require(close(run(module, inputs), run(copied, inputs), 0, 0), component, "must survive copy.deepcopy")
    shared = {id(p) for p in module.parameters()} & {id(p) for p in copied.parameters()}
    require(not shared, component, "must not share parameters with its copy")


def state(component: Any, make: Made) -> None:
    """The state loads under ``weights_only=True`` into a fresh one, which then is the same."""
    module, inputs = build(make, World())
    expected = run(module, inputs)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh, _ = build(make, World(), seed=7)
    run(fresh, inputs)  # what is sized at the first pass exists from here on
    fresh.load_state_dict(torch.load(file, weights_only=True))
    require(close(expected, run(fresh, inputs), 0, 1e-7), component, "must hold all that it needs in its state_dict")


def whole(component: Any, make: Made) -> None:
    """`torch.save` of the module itself, and back."""
    module, inputs = build(make, World())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    require(close(run(module, inputs), run(loaded, inputs), 0, 0), component, "must survive torch.save of the whole")


def frozen(component: Any, make: Made) -> None:
    """With every parameter frozen it computes the same, and nothing requires a gradient."""
    module, inputs = build(make, World())
    expected = run(module, inputs)
    found = run(module.requires_grad_(False), inputs)
    require(close(expected, found, 0, 1e-6), component, "must compute the same when frozen")
    tensors = [t for t in leaves(found).values() if isinstance(t, Tensor)]
    require(not any(t.requires_grad for t in tensors), component, "must need no gradient when frozen")


def untouched(component: Any, make: Made) -> None:
    """A pass in evaluation mode changes neither the state nor the inputs nor torch's random state."""
    module, inputs = build(make, World())
    run(module, inputs)
    before = {name: copy.deepcopy(value) for name, value in module.state_dict().items()}
    given = copy.deepcopy(inputs)
    random = torch.get_rng_state()
    module(*inputs)
    require(same(before, dict(module.state_dict())), component, "must not change its state in evaluation mode")
    require(close(given, inputs, 0, 0), component, "must not change its inputs")
    require(torch.equal(random, torch.get_rng_state()), component, "must draw nothing in evaluation mode")


def differentiate(module: nn.Module, output: Any) -> None:
    """Gradients of the sum of what has a graph."""
    parts = [t for t in leaves(output).values() if isinstance(t, Tensor) and t.requires_grad]
    if parts:
        torch.stack([t.float().sum() for t in parts]).sum().backward()


CHECKS: dict[str, Callable[[Any, Made], None]] = {
    "second device": second,
    "double precision": double,
    "half and back": half_and_back,
    "autocast in bfloat16": lambda component, make: autocast(component, make, torch.bfloat16),
    "autocast in float16": lambda component, make: autocast(component, make, torch.float16),
    "deepcopy": deepcopied,
    "state under weights_only": state,
    "torch.save of the whole": whole,
    "frozen": frozen,
    "evaluation changes nothing": untouched,
}
"""Name -> check of a module."""
