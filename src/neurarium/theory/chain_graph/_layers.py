"""Reading a network: which of its steps are layers of random variables, and what their parents are."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from neurarium.layers import RectifiedGaussian
from neurarium.theory.chain_graph import _moments
from neurarium.theory.chain_graph._moments import Moments
from neurarium.theory.chain_graph._nodes import Categorical, Certain, Gated, Node, Rectified, TwoValued


@dataclass(frozen=True)
class Layer:
    """A layer of random variables.

    Args:
        name: of the activation in the network.
        node: what its units are.
        parents: names of the layers that its inputs come from; "x" is the network's input.
    """

    name: str
    node: Node
    parents: tuple[str, ...]


def node_of(activation: Any) -> Node | None:
    """The random variable that an activation (a module, or a function of torch's) is the expectation of.

    None where we know of none.
    """
    if isinstance(activation, RectifiedGaussian):
        return Rectified(activation)
    if isinstance(activation, nn.LeakyReLU):
        return Rectified(RectifiedGaussian(negative_slope=activation.negative_slope))
    if isinstance(activation, (nn.ELU, nn.Hardtanh, nn.Mish)):
        return Certain(activation)
    make = _NODES.get(type(activation) if isinstance(activation, nn.Module) else activation)
    return make() if make else None


_NODES: dict[Any, Callable[[], Node]] = {
    **dict.fromkeys((nn.Sigmoid, torch.sigmoid, nn.functional.sigmoid, "sigmoid"), TwoValued),
    **dict.fromkeys((nn.Tanh, torch.tanh, nn.functional.tanh, "tanh"), lambda: TwoValued(-1.0, 1.0)),
    **dict.fromkeys((nn.ReLU, torch.relu, nn.functional.relu, "relu"), Rectified),
    **dict.fromkeys((nn.Softplus, nn.functional.softplus), lambda: Rectified(RectifiedGaussian("softplus"))),
    **dict.fromkeys((nn.GELU, nn.functional.gelu), lambda: Gated(torch.special.ndtr)),
    **dict.fromkeys((nn.SiLU, nn.functional.silu), lambda: Gated(torch.sigmoid)),
    nn.Softmax: Categorical,
}
"""Kind of module, function or name of a method -> its node."""

OPERATIONS: dict[Any, Callable[..., Moments]] = {
    **dict.fromkeys((operator.add, torch.add), _moments.added),
    torch.cat: lambda parts, dim=0: _moments.joined(list(parts), dim),
    **dict.fromkeys((torch.flatten, "flatten"), lambda x, *where: x.through(lambda t: torch.flatten(t, *where))),
    **dict.fromkeys(("view", "reshape"), lambda x, *shape: x.through(lambda t: t.reshape(*shape))),
}
"""Functions and methods between layers of random variables."""


class _Tracer(fx.Tracer):
    """Our layers are leaves, as torch's are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("neurarium.") or super().is_leaf_module(m, module_qualified_name)


def read(model: nn.Module, nodes: Mapping[str, Node]) -> tuple[fx.GraphModule, dict[str, Layer], dict[str, str]]:
    """The traced network, its layers by name in order, and step of the trace -> layer.

    Raises:
        ValueError: a step that has no place in a chain graph, or ``nodes`` for an activation that is not there.
    """
    if next(model.children(), None) is None:
        model = nn.Sequential(model)  # a single layer is traced as one, not as what it calls
    network = fx.GraphModule(model, _Tracer().trace(model))
    modules = dict(network.named_modules())
    layers: dict[str, Layer] = {}
    places: dict[str, str] = {}
    sources: dict[fx.Node, tuple[str, ...]] = {}
    for step in network.graph.nodes:
        above = tuple(dict.fromkeys(name for parent in step.all_input_nodes for name in sources[parent]))
        name = str(step.target) if step.op == "call_module" and str(step.target) not in layers else step.name
        node = nodes.get(name)
        if node is None and step.op in ("call_module", "call_function", "call_method"):
            node = node_of(modules[str(step.target)] if step.op == "call_module" else step.target)
        if node is None:
            _check(step, modules)
            sources[step] = ("x",) if step.op == "placeholder" else above
        else:
            layers[name] = Layer(name, node, above)
            places[step.name] = name
            sources[step] = (name,)
    unknown = sorted(set(nodes) - set(layers))
    if unknown:
        raise ValueError(f"nodes: the network has no activation {unknown[0]!r}")
    if not layers:
        raise ValueError(f"{type(model).__name__} has no activation, so there is no layer of random variables")
    return network, layers, places


def _check(step: fx.Node, modules: Mapping[str, nn.Module]) -> None:
    if step.op == "call_module":
        module = modules[str(step.target)]
        if type(module) not in _moments.LINEAR and not isinstance(module, nn.Dropout):
            raise ValueError(
                f"{step.target} is a {type(module).__name__}, which has no place in a chain graph that we know of; "
                "an activation can be given one by nodes={name: Certain(function)}"
            )
    elif step.op in ("call_function", "call_method") and step.target not in OPERATIONS:
        raise ValueError(f"the operation {step.name} ({step.target}) has no place in a chain graph that we know of")
