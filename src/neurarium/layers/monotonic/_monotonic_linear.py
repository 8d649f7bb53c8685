"""A linear layer whose weights have prescribed signs, and with it the direction in which each output moves."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from neurarium.layers.monotonic._monotonic_activation import RATIOS, Function, MonotonicActivation

Directions = int | Sequence[int] | Sequence[Sequence[int]] | Tensor


class MonotonicLinear(nn.Module):
    """``ρ(|W|_t x + b)``: never falls along inputs with t = 1, never rises along those with t = -1.

    ``|W|_t`` has the entries |w| where t is 1, -|w| where it is -1, and w where it is 0 (Runje and Shankaranarayana,
    equation 5); it is made anew in each forward pass, so that optimizers, weight decay and checkpoints see an
    unconstrained W. Takes the place of `torch.nn.Linear` followed by an activation.

    Args:
        in_features: size of an input.
        out_features: size of an output.
        monotonicity: 1, -1 or 0 for all inputs, one per input, or one per output and input [out_features, in_features].
        activation: of a `MonotonicActivation`; None for none, as at the end of a network.
        ratios: of convex, concave and bounded units.
        convex: only convex units: the output is then convex in the inputs with t = 1 or -1 (and in all, if the inputs
            are the network's).
        concave: only concave units.
        bias: whether a constant is added.
        generator: of the initial values; torch's global one by default.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        x: [..., in_features]; output: [..., out_features].

    Raises:
        ValueError: directions that are not -1, 0 or 1 or do not fit the layer, ``convex`` and ``concave`` together, or
            what `MonotonicActivation` refuses.
    """

    directions: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        monotonicity: Directions = 1,
        activation: str | Function | None = "elu",
        ratios: Sequence[float] = RATIOS,
        convex: bool = False,
        concave: bool = False,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features and out_features must be at least 1, not {in_features} and {out_features}")
        if convex and concave:
            raise ValueError("convex and concave cannot both be asked for: leave one out")
        self.in_features, self.out_features = in_features, out_features
        signs = check_directions(monotonicity, in_features, out_features)
        self.register_buffer("directions", signs.to(device=device))
        ratios = (1, 0, 0) if convex else (0, 1, 0) if concave else ratios
        self.activation = None if activation is None else MonotonicActivation(activation, ratios)
        if self.activation is not None:
            warn_of_missing_kinds(self.activation, out_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Glorot's uniform distribution for the weights before their signs are set, and zero biases."""
        nn.init.xavier_uniform_(self.weight, generator=generator)
        if self.bias is not None:
            self.bias.zero_()

    def constrained_weight(self) -> Float[Tensor, "outputs inputs"]:
        """The weights as they are used."""
        return signed(self.weight, self.directions)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The linear map with signed weights, then the activation."""
        output = linear(x, self.constrained_weight(), self.bias)
        return output if self.activation is None else self.activation(output)

    def extra_repr(self) -> str:
        """Sizes, and how many weights are held in which direction."""
        held = {name: int((self.directions == sign).sum()) for name, sign in (("up", 1), ("down", -1), ("free", 0))}
        shown = ", ".join(f"{name}={count}" for name, count in held.items() if count)
        return f"{self.in_features}, {self.out_features}, {shown}, bias={self.bias is not None}"


class SignedWeight(nn.Module):
    """The parametrization that gives a weight its signs: ``|w|``, ``-|w|`` or ``w`` by its direction.

    Args:
        directions: 1, -1 or 0 for each entry of the weight.
    """

    directions: Tensor

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its signs."""
        return signed(weight, self.directions)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What a given weight is stored as: itself."""
        return weight


def warn_of_missing_kinds(activation: MonotonicActivation, units: int) -> None:
    """Say so where a layer is too small to have a unit of every kind that was asked for."""
    counts = activation.counts(units)
    if any(ratio and not count for ratio, count in zip(activation.ratios, counts)):
        shown = ", ".join(f"{count} {kind}" for kind, count in zip(("convex", "concave", "bounded"), counts))
        warnings.warn(f"a layer of {units} units has {shown}: some kinds that were asked for are missing", stacklevel=3)


def signed(weight: Tensor, directions: Tensor) -> Tensor:
    """``|W|_t``."""
    return torch.where(directions == 0, weight, weight.abs() * directions.to(weight.dtype))


def check_directions(given: Directions, inputs: int, outputs: int) -> Tensor:
    """Directions as int8 [outputs, inputs].

    Raises:
        ValueError: an entry is not -1, 0 or 1, or there is not one per input.
    """
    signs = torch.as_tensor(given).detach().cpu()
    if signs.is_floating_point() or not bool(((signs >= -1) & (signs <= 1)).all()):
        raise ValueError(f"monotonicity must be made of -1, 0 and 1, not {signs.flatten()[:8].tolist()}")
    if tuple(signs.shape) not in ((), (inputs,), (outputs, inputs)):
        raise ValueError(
            f"monotonicity must be one number, {inputs} (one per input) or [{outputs}, {inputs}], "
            f"not of shape {list(signs.shape)}"
        )
    return signs.to(torch.int8).expand(outputs, inputs).clone()
