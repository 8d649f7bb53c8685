"""Any network with a distribution in the place of every parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from neurarium.training import copy_module

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Prior = str | float | Callable[[str, nn.Parameter], float]


class BayesianNetwork(nn.Module):
    """A network whose parameters are normal and independent, each with a mean and a deviation that are learned.

    The whole of them is one vector, drawn at once for each forward pass: a step costs little more than the plain
    network's. Train ``loss(model(x), y) + model.kl() / examples``, a mean over the batch and the divergence over all
    examples. `bayesianize` makes it.

    Args:
        network: the network; its parameters become the first means, and are taken over.
        names: of the parameters that become random.
        deviations: of the prior, one for each of them; its mean is 0.
        log_scale: first log of the deviations of the posterior.
    """

    def __init__(self, network: nn.Module, names: list[str], deviations: list[float], log_scale: float = -3.0) -> None:
        super().__init__()
        means = [network.get_parameter(name).detach() for name in names]
        self.shapes = {name: mean.shape for name, mean in zip(names, means, strict=True)}
        self.mean = nn.Parameter(torch.cat([mean.flatten() for mean in means]))
        self.log_scale = nn.Parameter(torch.full_like(self.mean, log_scale))
        prior = torch.cat([torch.full_like(mean, s).flatten() for mean, s in zip(means, deviations, strict=True)])
        self.register_buffer("prior_scale", prior)
        self.prior_scale: Tensor
        self.network = network
        for name in names:  # a place that functional_call fills; no parameter, so that nothing trains or saves it twice
            owner, _, attribute = name.rpartition(".")
            holder = network.get_submodule(owner)
            value = getattr(holder, attribute).detach()
            shared = [
                (m, k) for m in network.modules() for k, p in m._parameters.items() if p is getattr(holder, attribute)
            ]
            for module, key in shared:
                del module._parameters[key]
                module.register_buffer(key, value, persistent=False)
        self.generator: torch.Generator | None = None

    def kl(self) -> Float[Tensor, ""]:
        """The divergence of the posterior from the prior, exact."""
        ratio = (2 * (self.log_scale - self.prior_scale.log())).exp()
        return 0.5 * (ratio + (self.mean / self.prior_scale).square() - 1 - ratio.log()).sum()

    def draw(self) -> dict[str, Tensor]:
        """Parameters by name."""
        noise = torch.empty_like(self.mean).normal_(generator=self.generator)
        return self._named(self.mean + self.log_scale.exp() * noise)

    def means(self) -> dict[str, Tensor]:
        """The means by name."""
        return self._named(self.mean)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the network gives with parameters drawn anew."""
        return functional_call(self.network, self.draw(), inputs, named)

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def bayesianize(model: nn.Module, prior: Prior = "kaiming", log_scale: float = -3.0) -> BayesianNetwork:
    """A copy of a network in which every weight is a distribution, begun at the trained value.

    Normalisation layers keep plain parameters, which are trained as before. A weight that two layers share stays one.

    Args:
        model: any network, trained or not; left as it is.
        prior: deviation of each weight's prior, whose mean is 0: "kaiming" (one over the root of the fan-in; 1 for
            biases), a number for all, or a function of name and parameter.
        log_scale: first log-deviation of the posterior.

    Raises:
        ValueError: an unknown prior, a deviation that is not positive, or no parameter to make random.
    """
    if isinstance(prior, str) and prior != "kaiming":
        raise ValueError(f"prior must be 'kaiming', a number or a function, not {prior!r}")
    network = copy_module(model)
    kept = {id(p) for module in network.modules() if isinstance(module, NORMS) for p in module.parameters()}
    chosen = {n: p for n, p in network.named_parameters() if id(p) not in kept and p.requires_grad}
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no parameter to make random")
    deviations = [_deviation(prior, name, parameter) for name, parameter in chosen.items()]
    if min(deviations) <= 0:
        raise ValueError("prior must give deviations above 0")
    return BayesianNetwork(network, list(chosen), deviations, log_scale)


def _deviation(prior: Prior, name: str, parameter: nn.Parameter) -> float:
    if callable(prior):
        return float(prior(name, parameter))
    if not isinstance(prior, str):
        return float(prior)
    return 1 / math.sqrt(parameter[0].numel()) if parameter.dim() > 1 else 1.0
