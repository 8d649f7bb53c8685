"""AF-KAN: activations of shifted inputs, squeezed by attention to the size of a perceptron."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, layer_norm, linear
from torch.utils.checkpoint import checkpoint

from neurarium.layers.kan._basis import ALL, Basis

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu, "relu": torch.relu, "leaky_relu": nn.functional.leaky_relu, "elu": nn.functional.elu,
    "gelu": nn.functional.gelu, "selu": torch.selu, "softplus": nn.functional.softplus, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "identity": lambda x: x,
}  # fmt: skip
COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda u, v: u + v,
    "prod": lambda u, v: u * v,
    "sum_prod": lambda u, v: u + v + u * v,
    "quad1": lambda u, v: (u * v).square(),
    "quad2": lambda u, v: u * v + u.square() + v.square(),
    "cubic1": lambda u, v: (u + v) * (u.square() + v.square()),
    "cubic2": lambda u, v: (u * v) ** 3,
}
ROWS = 2**17
"""Feature values that exist at a time."""


def _known(name: str, table: dict[str, Any], argument: str) -> Any:
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.0)[0]
        raise ValueError(f"{argument} must be one of {', '.join(table)}, not {name!r}; did you mean {near!r}?")
    return table[name]


def _shifts(grid_size: int, degree: int, **where: Any) -> tuple[Tensor, Tensor]:
    if grid_size < 1:
        raise ValueError(f"grid_size must be at least 1, not {grid_size}")
    if degree < 0:
        raise ValueError(f"degree must not be negative, not {degree}")
    lows = torch.arange(-degree, grid_size, **where) / grid_size
    return lows, lows + (degree + 1) / grid_size


@final
class ActivationPairBasis(Basis):
    """``combine(f(x - l), f(h - x))`` for trained shifts ``l`` and ``h``, the same for all inputs (AF-KAN, section 3).

    In a `KANLinear` it makes the features of AF-KAN with a weight for each of them.

    Args:
        activation: ``f``: "silu", "relu", "gelu" ...
        combine: "sum", "prod", "sum_prod", "quad1", "quad2", "cubic1" or "cubic2".
        grid_size: number of intervals on [0, 1], at least 1.
        degree: how many further intervals a pair covers, at least 0.
        device: where the shifts live.
        dtype: of the shifts.

    Raises:
        ValueError: an unknown name (the nearest is offered), or a size that cannot be.
    """

    def __init__(
        self,
        activation: str = "silu",
        combine: str = "quad1",
        grid_size: int = 3,
        degree: int = 3,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _known(activation, ACTIVATIONS, "activation")
        _known(combine, COMBINATIONS, "combine")
        self.activation, self.combine, self.size = activation, combine, grid_size + degree
        lows, highs = _shifts(grid_size, degree, device=device, dtype=dtype or torch.get_default_dtype())
        self.low, self.high = nn.Parameter(lows), nn.Parameter(highs)

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        low, high = self.low.to(x.dtype)[:, None], self.high.to(x.dtype)[:, None]
        function = ACTIVATIONS[self.activation]
        return COMBINATIONS[self.combine](function(x[:, None] - low), function(high - x[:, None]))

    def extra_repr(self) -> str:
        return f"{self.activation!r}, {self.combine!r}, size={self.size}"


@final
class ActivationKANLinear(nn.Module):
    """AF-KAN (Ta and Tran 2025): features of shifted activations, reduced to one number an input, then a linear map.

    ``A_im`` are the features of input i (`ActivationPairBasis`), normalised; ``z_i = reduce_m A_im``; the output is
    ``W f(norm(z))``. So it has as many parameters as a linear layer with a normalisation, and some twenty more.

    Reductions: "global_attn" weighs the inputs: ``α = softmax_i(w·A_i / τ)``, ``z_i = α_i Σ_m A_im``, with a trained
    temperature ``τ``, at first ``√inputs`` and never below 1. "spatial_attn" weighs the features of each input by a
    convolution over its neighbours. "multistep" is a trained weighted sum.

    Args:
        in_features: size of an input.
        out_features: size of an output.
        activation: ``f``.
        combine: how the two activations of a pair are combined.
        reduce: "global_attn", "spatial_attn" or "multistep".
        grid_size: number of intervals on [0, 1].
        degree: how many further intervals a pair covers.
        feature_norm: brings the features into [0, 1] by their smallest and largest value: of each "sample"; of the
            "batch", as released, which makes an output depend on its batch mates (a warning says so); None for none.
            Features that are all equal become 0.
        norm: whether ``z`` goes through a `torch.nn.LayerNorm`.
        bias: whether a constant is added to each output.
        generator: of the initial values.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: an unknown name, a size that cannot be, or a single input with ``norm`` (it would always be 0).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "silu",
        combine: str = "quad1",
        reduce: str = "global_attn",
        grid_size: int = 3,
        degree: int = 3,
        feature_norm: str | None = "sample",
        norm: bool = True,
        bias: bool = False,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features and out_features must be at least 1, not {in_features} and {out_features}")
        if reduce not in ("global_attn", "spatial_attn", "multistep"):
            raise ValueError(f"reduce must be 'global_attn', 'spatial_attn' or 'multistep', not {reduce!r}")
        if feature_norm not in ("sample", "batch", None):
            raise ValueError(f"feature_norm must be 'sample', 'batch' or None, not {feature_norm!r}")
        if norm and in_features == 1:
            raise ValueError("in_features 1 with norm gives 0 for every input; set norm=False")
        if feature_norm == "batch":
            warnings.warn("feature_norm='batch' makes an output depend on the other rows of its batch", stacklevel=2)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.reduce, self.feature_norm = (
            in_features, out_features, reduce, feature_norm
        )  # fmt: skip
        self.features = ActivationPairBasis(activation, combine, grid_size, degree, **where)
        size = self.features.size
        shape = (size, 1, 3) if reduce == "spatial_attn" else (1, size)
        self.reduce_weight = nn.Parameter(torch.empty(shape, **where))
        self.reduce_bias = nn.Parameter(torch.empty(shape[0], **where))
        self.temperature = (
            nn.Parameter(torch.empty(1, **where)) if reduce != "multistep" else None
        )  # fmt: skip
        self.norm = nn.LayerNorm(in_features, **where) if norm else None
        self.weight = nn.Parameter(torch.empty(out_features, in_features, **where))
        self.bias = nn.Parameter(torch.zeros(out_features, **where)) if bias else None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh values as torch's linear layers do; shifts, temperature and normalisation as at first."""
        device = "cpu" if generator is None else generator.device
        fan = 3 if self.reduce == "spatial_attn" else self.features.size
        for parameter, inputs in ((self.reduce_weight, fan), (self.reduce_bias, fan), (self.weight, self.in_features)):
            drawn = torch.rand(parameter.shape, generator=generator, device=device)
            parameter.copy_((drawn * 2 - 1) / math.sqrt(inputs))
        if self.temperature is not None:
            self.temperature.fill_(math.sqrt(self.in_features))
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:
        """Features, reduction, normalisation, linear map; features of some rows at a time, made again when needed."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must have {self.in_features} inputs in its last dimension, not {x.shape[-1]}")
        rows = x.reshape(-1, self.in_features)
        low, high = self._batch_extremes(rows) if self.feature_norm == "batch" else (None, None)
        some = max(1, ROWS // (self.in_features * self.features.size))
        parts = [checkpoint(self._reduced, part, low, high, use_reentrant=False) for part in rows.split(some)]
        reduced = torch.cat(parts)
        if self.norm is not None:
            reduced = layer_norm(reduced, (self.in_features,), self.norm.weight, self.norm.bias, self.norm.eps)
        output = linear(ACTIVATIONS[self.features.activation](reduced), self.weight, self.bias)
        return output.reshape(*x.shape[:-1], self.out_features)

    def attention(self, x: Float[Tensor, "batch features"]) -> Tensor:
        """The weights of "global_attn" [batch, inputs], or of "spatial_attn" [batch, inputs, features]."""
        if self.reduce == "multistep":
            raise ValueError("reduce='multistep' has no attention")
        low, high = self._batch_extremes(x) if self.feature_norm == "batch" else (None, None)
        return self._attention(self._normalised(x, low, high))

    def _normalised(self, x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
        values = self.features.columns(x.t()).permute(2, 0, 1)  # [rows, inputs, features]
        if self.feature_norm is None:
            return values
        if low is None or high is None:
            low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        spread = high - low
        return torch.where(spread > 0, (values - low) / torch.where(spread > 0, spread, 1.0), 0.0)

    def _batch_extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        some = max(1, ROWS // (self.in_features * self.features.size))
        parts = [self.features.columns(part.t()) for part in x.split(some)]
        return torch.stack([p.amin() for p in parts]).amin(), torch.stack([p.amax() for p in parts]).amax()

    def _attention(self, values: Tensor) -> Tensor:
        assert self.temperature is not None
        temperature = self.temperature.clamp_min(1.0)
        if self.reduce == "global_attn":
            return (linear(values, self.reduce_weight, self.reduce_bias).squeeze(-1) / temperature).softmax(1)
        groups = self.features.size
        scores = conv1d(values.transpose(1, 2), self.reduce_weight, self.reduce_bias, padding=1, groups=groups)
        return (scores.transpose(1, 2) / temperature).softmax(2)

    def _reduced(self, x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
        values = self._normalised(x, low, high)
        if self.reduce == "multistep":
            return linear(values, self.reduce_weight, self.reduce_bias).squeeze(-1)
        weights = self._attention(values)
        if self.reduce == "global_attn":
            return values.sum(2) * weights
        return (values * weights).sum(2)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, reduce={self.reduce!r}, feature_norm={self.feature_norm!r}"
