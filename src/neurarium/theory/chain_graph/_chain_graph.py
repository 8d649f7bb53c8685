"""A feed-forward network read as a layered chain graph, with exact and approximate inference on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.theory.chain_graph._enumeration import enumerated
from neurarium.theory.chain_graph._layers import read
from neurarium.theory.chain_graph._moments import Moments
from neurarium.theory.chain_graph._nodes import Categorical, Gaussian, Node, Rectified, TwoValued
from neurarium.theory.chain_graph._passes import Pass

Method = Literal["feedforward", "sampled", "collapsed", "exact"]


class ChainGraph(nn.Module):
    """A network as a probabilistic model: its activations are conditional expectations of layers of random variables.

    (Shen and Cremers, 2020.) Each layer is a block of units that are independent given their parents, ``P(X_i | pa) =
    f_i(e_i)`` with the usual linear input ``e``; sums and concatenations are layers with several parents, dropout an
    auxiliary coin. The network's forward pass puts expectations in the place of variables: the first of several ways to
    infer the output, which `infer` offers. The parameters are the network's own, so that training one trains the other:
    in training mode a pass of this module is one partially collapsed pass (`sampled` says which layers are drawn, the
    others are integrated out), in evaluation the forward pass of expectations.

    Args:
        model: any network that `torch.fx` can trace, of linear maps, convolutions, batch normalisation (frozen),
            pooling, dropout, sums and concatenations, with activations that `node_of` knows or ``nodes`` gives.
        output: what the last values are inputs of: "categorical" (class logits), "gaussian", "bernoulli"; None where
            the network ends in an activation of its own.
        nodes: name of an activation -> its node, in the place of the usual one.
        sampled: layers that training draws; by default all but the last hidden one.

    Raises:
        ValueError: a module or operation that has no place in a chain graph; the message names it.
    """

    def __init__(
        self,
        model: nn.Module,
        output: Literal["categorical", "gaussian", "bernoulli"] | None = None,
        *,
        nodes: Mapping[str, Node] | None = None,
        sampled: Iterable[str] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.layers, self.places = read(model, nodes or {})
        self.output = output
        names = list(self.layers)
        self.hidden = names if output else names[:-1]
        self.sampled = tuple(self._checked(self.hidden[:-1] if sampled is None else sampled))

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Log-probabilities, logits or means: what the network's loss was written for.

        In training, with dropout and the layers of `sampled` drawn and all others integrated out.
        """
        if not self.training:
            return self._scores(self.infer(x))
        return self._scores(self._pass(x, set(self.sampled), drops=True, generator=None).mean)

    def infer(
        self,
        x: Float[Tensor, "batch ..."],
        method: Method = "feedforward",
        *,
        sampled: Iterable[str] | None = None,
        samples: int = 16,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Expectation of the output: class probabilities, means.

        Args:
            x: inputs.
            method: "feedforward" puts expectations in the place of all variables; "sampled" draws all hidden layers;
                "collapsed" draws those of ``sampled`` and integrates the others out, by their mean and variance;
                "exact" sums over all states of the hidden layers (two-valued ones of up to 20 units, in a chain).
            sampled: hidden layers that "collapsed" draws; by default those of `sampled`. Empty integrates all.
            samples: passes that are averaged.
            generator: source of the draws.

        Raises:
            ValueError: an unknown layer or method, or a network that has too many states.
        """
        if method == "feedforward":
            return self._pass(x, None, drops=False, generator=None).mean
        if method == "exact":
            return enumerated(self, x)
        if method not in ("sampled", "collapsed"):
            raise ValueError(f"method must be feedforward, sampled, collapsed or exact, not {method!r}")
        chosen = set(
            self.hidden if method == "sampled" else self._checked(self.sampled if sampled is None else sampled)
        )
        drops = any(isinstance(module, nn.Dropout) for module in self.network.modules())
        if not chosen and not drops:
            return self._pass(x, chosen, drops=False, generator=generator).mean
        found = self._pass(x.repeat_interleave(samples, 0), chosen, drops=drops, generator=generator).mean
        return found.unflatten(0, (len(x), samples)).mean(1)

    def sample(
        self, x: Float[Tensor, "batch ..."], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch ..."]:
        """One draw of the output, through drawn hidden layers."""
        if self.output is None:
            return self._pass(x, set(self.layers), drops=True, generator=generator).mean
        e: Moments = Pass(self, set(self.hidden), True, generator, None).run(Moments(x))
        return self.output_node.draw(e.mean, e.variance, generator)

    def log_prob(
        self, y: Tensor, x: Float[Tensor, "batch ..."], method: Method = "feedforward", **options: Any
    ) -> Float[Tensor, " batch"]:
        """``log P(y | x)`` of class indices, or of 0 and 1, under a way of inference with its options.

        Raises:
            ValueError: the output is real-valued, for which an expectation gives no probability.
        """
        p = self.infer(x, method, **options)
        if isinstance(self.output_node, Categorical):
            return p.gather(1, y.long()[:, None]).squeeze(1).clamp_min(1e-30).log()
        if isinstance(self.output_node, TwoValued):
            high = (p - self.output_node.low) / (self.output_node.high - self.output_node.low)
            return torch.where(y > 0, high, 1 - high).clamp_min(1e-30).log().flatten(1).sum(1)
        raise ValueError("log_prob is for categorical and two-valued outputs")

    def layer_means(
        self, x: Float[Tensor, "batch ..."], sampled: Iterable[str] | None = None, **options: Any
    ) -> dict[str, Tensor]:
        """Expectation of every hidden layer: of the forward pass, or with layers drawn and averaged.

        Args:
            x: inputs.
            sampled: layers to draw; None for the forward pass.
            options: ``samples`` (1000) and ``generator``.
        """
        kept: dict[str, Tensor] = {}
        samples = options.get("samples", 1000) if sampled is not None else 1
        chosen = None if sampled is None else set(self._checked(sampled))
        rows = x.repeat_interleave(samples, 0)
        self._pass(rows, chosen, drops=chosen is not None, generator=options.get("generator"), kept=kept)
        return {name: mean.unflatten(0, (len(x), samples)).mean(1) for name, mean in kept.items()}

    @property
    def output_node(self) -> Node:
        """What the output is."""
        made: dict[str | None, Node] = {"categorical": Categorical(), "gaussian": Gaussian(), "bernoulli": TwoValued()}
        return made[self.output] if self.output else self.layers[list(self.layers)[-1]].node

    def summary(self) -> str:
        """A line for each layer: its name, node and parents."""
        rows = [
            f"{layer.name}: {_described(layer.node)} <- {', '.join(layer.parents)}" for layer in self.layers.values()
        ]
        return "\n".join([*rows, f"output: {_described(self.output_node)}"] if self.output else rows)

    def plot(self, ax: Any) -> Any:
        """Layers as boxes from left to right, with an arrow from every parent."""
        places, names = {"x": 0}, ["x", *self.layers]
        for layer in self.layers.values():
            places[layer.name] = 1 + max((places[parent] for parent in layer.parents), default=0)
        for name in names:
            label = "x" if name == "x" else f"{name}\n{_described(self.layers[name].node)}"
            ax.text(places[name], 0, label, ha="center", va="center", bbox={"boxstyle": "round", "fc": "white"})
        for layer in self.layers.values():
            for parent in layer.parents:
                long = places[layer.name] - places[parent] > 1
                style = {
                    "arrowstyle": "->",
                    "connectionstyle": f"arc3,rad={-0.4 if long else 0}",
                    "shrinkA": 28,
                    "shrinkB": 28,
                }
                ax.annotate("", (places[layer.name], 0), (places[parent], 0), arrowprops=style)
        ax.set_xlim(-0.5, max(places.values()) + 0.5)
        ax.set_ylim(-1, 1)
        ax.set_axis_off()
        return ax

    def _scores(self, mean: Tensor) -> Tensor:
        node = self.output_node
        if isinstance(node, Categorical):
            return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        if isinstance(node, TwoValued) and self.output:
            return mean.clamp(1e-7, 1 - 1e-7).logit()
        return mean

    def _pass(
        self,
        x: Tensor,
        sampled: set[str] | None,
        *,
        drops: bool,
        generator: torch.Generator | None,
        kept: dict[str, Tensor] | None = None,
    ) -> Moments:
        e: Moments = Pass(self, sampled, drops, generator, kept).run(Moments(x))
        if not self.output:
            return e
        node = self.output_node
        spread = e.covariance() if isinstance(node, Categorical) and e.covariance is not None else e.variance
        return Moments(node.mean(e.mean, spread))

    def _checked(self, names: Iterable[str]) -> list[str]:
        given = list(names)
        for name in given:
            if name not in self.layers:
                raise ValueError(f"the network has no layer {name!r}; its layers are {', '.join(self.layers)}")
        return given


def _described(node: Node) -> str:
    if isinstance(node, TwoValued):
        return f"two-valued {{{node.low:g}, {node.high:g}}}"
    if isinstance(node, Rectified):
        return f"rectified normal ({node.layer.extra_repr()})"
    return type(node).__name__.lower()
