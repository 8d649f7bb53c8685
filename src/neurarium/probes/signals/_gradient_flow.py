"""How large the gradient is at each layer of a network, and at its embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation, find_module, undisturbed, unpack


@dataclass(frozen=True)
class GradientFlow(ProbeResult):
    """Gradients of one batch's loss.

    Args:
        layers: names of the modules that own parameters, in the order in which the network uses them.
        norms: norm of the gradient of a module's own parameters.
        sizes: the same divided by the root of their number: a parameter's typical gradient, comparable between widths.
        outputs: name of a watched module -> norm of the gradient of its output.
    """

    layers: tuple[str, ...]
    norms: tuple[float, ...]
    sizes: tuple[float, ...]
    outputs: dict[str, float]

    def summary(self) -> str:
        """A line for each layer and each watched output."""
        lines = [f"{name}: {norm:.3g} ({size:.2g} a parameter)" for name, norm, size in zip(
            self.layers, self.norms, self.sizes, strict=True)]  # fmt: skip
        return "\n".join(lines + [f"output of {name}: {norm:.3g}" for name, norm in self.outputs.items()])

    def plot(self, ax: Any) -> Any:
        """Typical gradients, layer by layer."""
        ax.semilogy(range(1, len(self.sizes) + 1), self.sizes, marker="o")
        ax.set(xlabel="layer", ylabel="gradient of a parameter")
        return ax


def gradient_flow(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    outputs: Sequence[str] = (),
) -> GradientFlow:
    """Gradient norms of one batch's loss, layer by layer, in evaluation mode; frozen parameters are passed over.

    Args:
        model: any network.
        batch: inputs and targets in any form that `unpack` knows.
        loss: ``loss(output, y)``.
        outputs: names of modules whose output's gradient is wanted too: an embedding that is frozen, for one.

    Raises:
        ValueError: no parameter is trainable, a watched module was not called, or there is no module of its name.
    """
    x, y = unpack(batch)
    watched = {name: find_module(model, name) for name in outputs}
    owners = {name: [p for p in m.parameters(recurse=False) if p.requires_grad] for name, m in model.named_modules()}
    owners = {name: found for name, found in owners.items() if found}
    if not owners:
        raise ValueError(f"{type(model).__name__} has no trainable parameters")
    used: list[str] = []
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda m, a, o, name=name: used.append(name))
        for name, module in model.named_modules() if name in owners
    ]  # fmt: skip
    for name, module in watched.items():

        def keep(m: nn.Module, a: Any, output: Any, name: str = name) -> Any:
            seen[name] = output if output.requires_grad else output.detach().requires_grad_()
            return seen[name]

        hooks.append(module.register_forward_hook(keep))
    try:
        with undisturbed(model), evaluation(model), torch.enable_grad():
            value = loss(call(model, x), y)
            missing = [name for name in watched if name not in seen]
            if missing:
                raise ValueError(f"{missing[0]} was not called, so its output has no gradient")
            names = list(dict.fromkeys([*used, *owners]))
            parameters = [p for name in names for p in owners[name]]
            grads = torch.autograd.grad(value, [*parameters, *seen.values()], allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    by_parameter = dict(zip(map(id, parameters), grads, strict=False))
    squares = [sum(_square(by_parameter[id(p)]) for p in owners[name]) for name in names]
    sizes = [(s / sum(p.numel() for p in owners[name])) ** 0.5 for s, name in zip(squares, names, strict=True)]
    at_outputs = {name: _square(g) ** 0.5 for name, g in zip(seen, grads[len(parameters) :], strict=True)}
    return GradientFlow(tuple(names), tuple(s**0.5 for s in squares), tuple(sizes), at_outputs)


def _square(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.float().square().sum())
