"""Passes through a chain graph: layers drawn, integrated out, or replaced by their expectation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from neurarium.theory.chain_graph._layers import OPERATIONS, Layer
from neurarium.theory.chain_graph._moments import LINEAR, Moments, through_dropout
from neurarium.theory.chain_graph._nodes import Categorical

if TYPE_CHECKING:
    from neurarium.theory.chain_graph._chain_graph import ChainGraph


class Steps(fx.Interpreter):
    """Runs a network on moments; what happens at a layer of random variables is for the subclass to say."""

    def __init__(self, graph: ChainGraph) -> None:
        super().__init__(graph.network)
        self.chain = graph

    def run_node(self, n: fx.Node) -> Any:
        """A layer of random variables, or a linear part."""
        name = self.chain.places.get(n.name)
        if name is None:
            return super().run_node(n)
        arguments, _ = self.fetch_args_kwargs_from_env(n)
        return self.at_layer(self.chain.layers[name], arguments[0])

    def at_layer(self, layer: Layer, e: Moments) -> Moments:
        """The layer's values for its inputs."""
        raise NotImplementedError

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A linear part that is a module."""
        module, x = self.fetch_attr(target), args[0]
        return self.dropped(module, x) if isinstance(module, nn.Dropout) else LINEAR[type(module)](module, x)

    def dropped(self, layer: nn.Dropout, x: Moments) -> Moments:
        """Dropout leaves expectations as they are."""
        return x

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A linear part that is a function."""
        return OPERATIONS[target](*args, **kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A linear part that is a method."""
        return OPERATIONS[target](*args, **kwargs)


class Pass(Steps):
    """Layers drawn, integrated out, or replaced by their expectation."""

    def __init__(
        self,
        graph: ChainGraph,
        sampled: set[str] | None,
        drops: bool,
        generator: torch.Generator | None,
        kept: dict[str, Tensor] | None,
    ) -> None:
        super().__init__(graph)
        self.sampled, self.drops, self.generator, self.kept = sampled, drops, generator, kept

    def at_layer(self, layer: Layer, e: Moments) -> Moments:
        """Draw it, or hand its moments on; the forward pass (``sampled`` is None) hands on the mean alone."""
        node, spread = layer.node, e.variance
        if isinstance(node, Categorical) and e.covariance is not None:
            spread = e.covariance()
        mean = node.mean(e.mean, spread)
        if self.kept is not None:
            self.kept[layer.name] = mean.detach()
        if self.sampled is None:
            return Moments(mean)
        if layer.name in self.sampled:
            return Moments(node.draw(e.mean, spread, self.generator))
        return Moments(mean, node.variance(e.mean, spread))

    def dropped(self, layer: nn.Dropout, x: Moments) -> Moments:
        """The coins are drawn where a certain value arrives, and integrated out where a spread one does."""
        if not self.drops or self.sampled is None:
            return x
        if x.variance is not None:
            return through_dropout(layer, x)
        device = x.mean.device if self.generator is None else self.generator.device
        coin = torch.rand(x.mean.shape, generator=self.generator, device=device).to(x.mean) >= layer.p
        return replace(x, mean=x.mean * coin / (1 - layer.p))
