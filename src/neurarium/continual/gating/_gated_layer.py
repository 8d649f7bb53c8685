"""One gated layer of a user's network: gate and norm by a forward hook, availability around the optimizer's steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual.gating._availability import Availability
from neurarium.continual.gating._relevance import (
    inner_relevance,
    output_relevance,
    parameter_relevance,
    unit_activity,
    unit_relevance,
    weight_activity,
)
from neurarium.layers import ContextGate, ContextNorm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class GatedLayer(nn.Module):
    """Gates a layer's output by a forward hook and keeps the availability of its units or weights.

    The gate (and, with ``normalize``, the norm) become submodules of the layer, ``context_gate`` and ``context_norm``,
    so that they train, save and switch with the model.

    Args:
        layer: `nn.Linear` or a convolution.
        following: the next gated layer, or the output layer: rule "local" needs its weight.
        last: whether the output layer follows.
        gates: multiply by the context's gates.
        normalize: after the gate, norm per context, ReLU and unit length (fully connected layers only).
        num_contexts: capacity.
        level: "neuron" or "parameter".
        relevance: "full", "activity", "local", or "none" for no availability at all.
    """

    def __init__(
        self,
        layer: nn.Module,
        following: nn.Module,
        last: bool,
        *,
        gates: bool,
        normalize: bool,
        num_contexts: int,
        level: str,
        relevance: str,
    ) -> None:
        super().__init__()
        weight = layer.get_parameter("weight")
        self.layer = [layer]  # in lists: they stay the model's, not this module's
        self.following = [following]
        self.level, self.rule, self.last = level, relevance, last
        self.is_convolution = isinstance(layer, CONVOLUTIONS)
        self.dim = 1 if self.is_convolution else -1
        self.normalize = normalize and not self.is_convolution
        place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        if gates:
            layer.context_gate = ContextGate(len(weight), num_contexts, self.dim, **place)
        if self.normalize:
            layer.context_norm = ContextNorm(len(weight), num_contexts, **place)
        kept = {} if relevance == "none" else dict(layer.named_parameters(recurse=False))
        self.availability = nn.ModuleDict(
            {name: Availability(p if level == "parameter" else p.detach().flatten(1)[:, 0] if p.dim() > 1 else p)
             for name, p in kept.items()}
        )  # fmt: skip
        self._found: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        layer.register_forward_hook(self._gate)
        if relevance == "local":
            following.register_forward_hook(self._local)

    def states(self) -> dict[str, Availability]:
        """Availability by the name of the layer's parameter; empty without availability."""
        return dict(self.availability.items())  # type: ignore[arg-type]

    def parameters_held(self) -> dict[str, nn.Parameter]:
        """The layer's own parameters by name, those that have an availability."""
        return {name: self.layer[0].get_parameter(name) for name in self.availability}

    def _gate(self, layer: Any, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        a = output
        if hasattr(layer, "context_gate"):
            a = layer.context_gate(a)
        if self.normalize:
            a = layer.context_norm(a).relu()
            a = a / a.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        if layer.training and torch.is_grad_enabled() and a.requires_grad:
            self._measure(arguments[0].detach(), a)
        return a

    def _measure(self, x: Tensor, a: Tensor) -> None:
        activity = a.detach()
        if self.rule == "full" and self.level == "neuron":
            a.register_hook(lambda gradient: self._add("unit", unit_relevance(activity, gradient, self.dim)))
        elif self.rule == "activity" and self.level == "neuron":
            self._add("unit", unit_activity(activity, self.dim))
        elif self.rule == "activity":
            for name, value in weight_activity(self.layer[0], x, activity).items():  # type: ignore[arg-type]
                self._add(name, value)

    def _local(self, following: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
        if not (following.training and torch.is_grad_enabled()):
            return
        x, weight = arguments[0].detach().flatten(0, -2), following.weight.detach()
        logits = output.detach().flatten(0, -2)
        if self.last:
            self._add("unit", output_relevance(x, weight, logits))
        else:
            gate = following.context_gate.gate().detach() if hasattr(following, "context_gate") else 1.0
            self._add("unit", inner_relevance(x, weight, (logits > 0) * gate))

    def _add(self, name: str, value: Tensor) -> None:
        self._found[name] = self._found[name] + value if name in self._found else value

    # Around a step of the optimizer

    def before_step(self, obstruct: str) -> None:
        """Note the weights, or scale their gradients."""
        if self.rule == "full" and self.level == "parameter":
            self._found = {name: parameter_relevance(p) for name, p in self.parameters_held().items()}
        self._before = {}
        for name, p in self.parameters_held().items():
            state = self.states()[name]
            if p.grad is None or state.untouched:
                continue
            if obstruct == "gradient":
                p.grad *= spread(state.in_force, p)
            else:
                self._before[name] = p.detach().clone()

    @torch.no_grad()
    def after_step(self, rate: float, leak: float) -> None:
        """Take back the part of the step that availability does not allow; then wear the availability down."""
        for name, p in self.parameters_held().items():
            if name in self._before:
                p.copy_(torch.lerp(self._before[name], p, spread(self.states()[name].in_force, p)))
        self._before = {}
        if self.is_convolution:
            rate *= 0.4
        elif self.rule == "activity" and self.level == "neuron":
            rate *= 3 if self.last else 2
        for name, state in self.states().items():
            relevance = self._found.get("unit" if self.level == "neuron" else name)
            if relevance is not None:
                state.wear(relevance, rate, leak)
        self._found = {}

    def commit(self) -> None:
        """A new context starts."""
        for state in self.states().values():
            state.commit()


def spread(availability: Tensor, parameter: Tensor) -> Tensor:
    """A per unit as a factor for each row of a parameter; A per weight as it is."""
    missing = parameter.dim() - availability.dim()
    return availability.view(-1, *[1] * missing) if missing else availability


def chosen_layers(model: nn.Module, names: Sequence[str] | None) -> list[str]:
    """The layers to gate and, last, the output layer that follows them.

    Raises:
        ValueError: a name that leads nowhere or to another kind of layer, or too few layers.
    """
    inside = [f"{name}." for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    every = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, *CONVOLUTIONS)) and not name.startswith(tuple(inside))
    ]
    if names is None:
        if len(every) < 2:
            raise ValueError(f"model has {len(every)} linear or convolution layers; gating needs one before the output")
        return every
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise ValueError(
            f"layers must name linear or convolution layers of the model ({', '.join(every)}), not {unknown}"
        )
    later = [name for name in every if every.index(name) > max(every.index(n) for n in names)]
    if not later:
        raise ValueError(f"layers must leave out the output layer ({every[-1]}), which is neither gated nor protected")
    return [*names, later[0]]


def check_rule(layers: Sequence[nn.Module], level: str, relevance: str) -> None:
    """Whether the relevance rule can be computed on these layers.

    Raises:
        ValueError: it cannot; the message says what to use.
    """
    if relevance == "local":
        for before, after in pairwise(layers):
            sizes = (getattr(before, "out_features", None), getattr(after, "in_features", None))
            if None in sizes or sizes[0] != sizes[1]:
                raise ValueError('relevance "local" needs fully connected layers that feed each other; use "full"')
    if (
        relevance == "activity"
        and level == "parameter"
        and any(isinstance(layer, CONVOLUTIONS) for layer in layers[:-1])
    ):
        raise ValueError('relevance "activity" per parameter needs fully connected layers; use "full"')
