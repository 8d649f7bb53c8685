"""Weights whose bits are what is trained: integers in sign and magnitude, with a straight-through gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurarium.layers._conversion import Conversion, swap
from neurarium.layers._exact_buffers import ExactBuffers
from neurarium.layers.low_bit._bit_packing import pack_bits, unpack_bits
from neurarium.training import copy_module

KINDS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)
CANNOT: dict[type[nn.Module] | str, str] = {
    "Conv1D": "transformers' Conv1D is no torch layer; its weights stay as they are",
    nn.MultiheadAttention: "its packed projection (in_proj_weight) is not a layer; its weights stay as they are",
    nn.RNNBase: "the weights of recurrent layers stay as they are",
    nn.RNNCellBase: "the weights of recurrent cells stay as they are",
    nn.Bilinear: "bilinear weights stay as they are",
}
"""Layers with matrices that `bitwise` does not reach -> why."""


class _Reconstruct(torch.autograd.Function):
    """W = alpha s m, and its straight-through gradient, from the trainable planes and the fixed rest."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, fixed: Tensor, sign: Tensor | None, powers: tuple[int, ...], alpha: Tensor, clip: bool
    ) -> Tensor:
        magnitude = fixed.clone()
        for plane, power in enumerate(powers):
            magnitude.add_((x[plane] > 0).to(x.dtype), alpha=float(2**power))
        signed = (x[-1] <= 0).to(x.dtype).mul_(2).sub_(1) if sign is None else sign
        ctx.save_for_backward(x if clip else None, magnitude, signed, alpha)
        ctx.powers, ctx.sign_learns, ctx.planes = powers, sign is None, len(x)
        return magnitude * signed * alpha

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, magnitude, sign, alpha = ctx.saved_tensors
        scaled = gradient * alpha
        planes = gradient.new_empty(ctx.planes, *gradient.shape)
        through = scaled * sign
        to_alpha = (gradient * sign * magnitude).sum(dtype=alpha.dtype) if ctx.needs_input_grad[4] else None
        for plane, power in enumerate(ctx.powers):
            torch.mul(through, float(2**power), out=planes[plane])
        if ctx.sign_learns:
            torch.mul(scaled, magnitude, out=planes[-1]).mul_(-2)
        if x is not None:
            planes.mul_(x.abs() <= 1)
        return planes, None, None, None, to_alpha, None


class BitParametrization(ExactBuffers):
    """W = alpha (1 - 2 b_sign) sum_i 2^i b_i with b = 1 where x > 0 (Ivan, 2022, section 2).

    Plane i < k - 1 is the magnitude bit of value 2^i, plane k - 1 the sign. The trainable planes' real variables are
    the weight's parameter, [planes, *shape], from low to high with the sign last; the other planes are kept as bits,
    eight to a byte. With one bit there is only the sign and the magnitude is 1.

    Args:
        shape: of the weight.
        bits: k, 1 to 32.
        trainable: planes that are trained.
        alpha: scale of the weight; None for the deviation sqrt(2 / fan-in) with the bits drawn.
        train_scale: a trained factor of alpha, 1 at the start, whatever alpha's own size.
        clip: gradient only where \\|x\\| <= 1.
        init_std: deviation of the real variables at the start.
        generator: of the bits; torch's global state by default.
    """

    frozen: Tensor
    alpha: Tensor
    fixed: Tensor
    fixed_sign: Tensor | None
    exact = ("alpha",)  # 2^-31 of a weight is 0 in half precision

    def __init__(
        self,
        shape: torch.Size,
        bits: int,
        trainable: Sequence[int],
        *,
        alpha: float | None,
        train_scale: bool = False,
        clip: bool,
        init_std: float,
        generator: torch.Generator | None,
        like: Tensor,
    ) -> None:
        super().__init__()
        self.shape, self.bits, self.clip = tuple(shape), bits, clip
        self.trainable = tuple(sorted(trainable))
        self.untrained = tuple(i for i in range(bits) if i not in self.trainable)
        device = None if generator is None else generator.device
        x = init_std * torch.randn(bits, *shape, generator=generator, device=device).to(like)
        self._start = x[list(self.trainable)]
        self.register_buffer("frozen", pack_bits((x[list(self.untrained)] > 0).flatten().byte(), 1))
        self.register_buffer("alpha", like.new_ones((), dtype=torch.promote_types(like.dtype, torch.float32)))
        self.gain = nn.Parameter(like.new_ones(())) if train_scale else None
        self.register_buffer("fixed", like.new_empty(0), persistent=False)
        self.register_buffer("fixed_sign", None, persistent=False)
        self.unpack()
        if alpha is None:
            fan_in = shape[-1] if len(shape) == 2 else math.prod(shape[1:])
            alpha = math.sqrt(2 / fan_in) / float(
                self.forward(self._start).detach().double().std(correction=0).clamp_min(1e-30)
            )
        self.alpha.fill_(alpha)

    def forward(self, x: Tensor) -> Tensor:
        """The weight."""
        if x.dtype in (torch.float16, torch.bfloat16) and self.bits > 9:
            raise ValueError(f"{x.dtype} does not hold integers of {self.bits} bits exactly: use float32 or fewer bits")
        powers = tuple(i for i in self.trainable if i < self.bits - 1)
        sign = self.fixed_sign if self.bits - 1 in self.untrained else None
        return _Reconstruct.apply(x, self.fixed, sign, powers, self.scale(), self.clip)

    def scale(self) -> Tensor:
        """What the integers are multiplied by."""
        return self.alpha if self.gain is None else self.alpha * self.gain

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The real variables at the start; the weight that was there is given up."""
        return self._start

    def planes(self, x: Tensor) -> Tensor:
        """All bits, [bits, *shape], bool."""
        found = torch.empty(self.bits, *self.shape, dtype=torch.bool, device=x.device)
        for place, plane in enumerate(self.trainable):
            found[plane] = x[place] > 0
        if self.untrained:
            found[list(self.untrained)] = self.frozen_bits().view(-1, *self.shape)
        return found

    def integers(self, x: Tensor) -> Tensor:
        """s m, int64; W is `scale` times it."""
        bits = self.planes(x).long()
        if self.bits == 1:
            return 1 - 2 * bits[0]
        values = 2 ** torch.arange(self.bits - 1, device=x.device).view(-1, *[1] * len(self.shape))
        return (1 - 2 * bits[-1]) * (bits[:-1] * values).sum(0)

    def frozen_bits(self) -> Tensor:
        """The untrained planes, [planes, weights], bool."""
        count = math.prod(self.shape)
        return unpack_bits(self.frozen, 1, len(self.untrained) * count).bool().view(-1, count)

    def freeze(self, bits: Tensor) -> None:
        """Set the untrained planes, [planes, weights], bool."""
        self.frozen.copy_(pack_bits(bits.flatten().byte().to(self.frozen.device), 1))
        self.unpack()

    @torch.no_grad()
    def unpack(self) -> None:
        """The part of the magnitude, and the sign, that do not change; from the packed planes."""
        bits = self.frozen_bits()
        magnitude = self.fixed.new_zeros(math.prod(self.shape)) if self.bits > 1 else self.fixed.new_ones(1)
        for place, plane in enumerate(self.untrained):
            if plane < self.bits - 1:
                magnitude += bits[place].to(magnitude) * float(2**plane)
        self.fixed = magnitude.view(self.shape) if self.bits > 1 else magnitude.expand(self.shape)
        sign_fixed = self.bits - 1 in self.untrained
        self.fixed_sign = 1 - 2 * bits[-1].to(magnitude).view(self.shape) if sign_fixed else None

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.unpack()

    def _apply(self, *arguments: Any) -> BitParametrization:
        super()._apply(*arguments)
        self.unpack()  # the fixed magnitudes of a wider type come from the bits, not from rounded numbers
        return self


def bitwise(
    module: nn.Module,
    bits: int | Mapping[str, int] = 8,
    *,
    trainable: int | Sequence[int] | None = None,
    straight_through: str = "identity",
    init_std: float = 0.1,
    scale: str | float = "he",
    train_scale: bool = False,
    generator: torch.Generator | None = None,
) -> Conversion:
    """Give every linear, convolutional and embedding weight of a module trained bits, in place.

    The weights that were there are given up for random bits of the same spread as He's initialisation. Train with Adam:
    its scaling lets low bits flip as readily as high ones. Weight decay would pull real variables to the edge between
    two bits and has no meaning here; `check_weight_decay` says whether an optimizer does so.

    Args:
        module: any module; biases and normalisation stay as they are.
        bits: k, the sign included, 1 to 32; or by name of a layer (others stay as they are).
        trainable: how many planes are trained, the most significant first (sign, then magnitude from high to low), or
            which (0 for the lowest magnitude bit, ``bits - 1`` for the sign); all by default. The others keep the
            random bits that they get here.
        straight_through: "identity", or "clip": no gradient where a real variable is beyond 1.
        init_std: deviation of the real variables at the start; smaller flips sooner.
        scale: "he", or the scale alpha of all weights.
        train_scale: train a factor of each layer's alpha, too.
        generator: of the bits; torch's global state by default.

    Returns:
        The module, the layers whose weights are bits now, and those whose weights stay what they are: attention's
        packed projection, recurrent layers.

    Raises:
        ValueError: an argument out of range, a name that is no such layer, a layer that is parametrised already, or
            no layer at all.
    """
    if straight_through not in ("identity", "clip"):
        raise ValueError(f"straight_through must be identity or clip, not {straight_through!r}")
    if isinstance(scale, str) and scale != "he":
        raise ValueError(f"scale must be 'he' or a number, not {scale!r}")
    found = {name: layer for name, layer in module.named_modules() if isinstance(layer, KINDS)}
    depths = dict.fromkeys(found, bits) if isinstance(bits, int) else dict(bits)
    if not depths:
        raise ValueError("the module has no linear, convolutional or embedding layer whose weight could be bits")
    for name, depth in depths.items():
        if name not in found:
            raise ValueError(f"bits names {name!r}, which is no linear, convolutional or embedding layer of the module")
        if not 1 <= depth <= 32:
            raise ValueError(f"bits must be between 1 and 32, not {depth}")
        if parametrize.is_parametrized(found[name], "weight"):
            raise ValueError(f"the weight of {name or 'the module'} is parametrised already")
    chosen = {name: _planes(depth, trainable) for name, depth in depths.items()}

    def replacement(name: str, layer: nn.Module) -> nn.Module:
        weight = layer.weight.detach()  # type: ignore[operator]
        parametrization = BitParametrization(
            weight.shape, depths[name], chosen[name], alpha=None if isinstance(scale, str) else scale,
            train_scale=train_scale, clip=straight_through == "clip", init_std=init_std, generator=generator,
            like=weight,
        )  # fmt: skip
        return parametrize.register_parametrization(layer, "weight", parametrization)

    include = None if isinstance(bits, int) else list(depths)
    return swap(module, KINDS, replacement, include=include, inplace=True, cannot=CANNOT)


def bit_layers(module: nn.Module) -> Iterator[tuple[str, BitParametrization, Tensor]]:
    """Name, parametrisation and real variables of every layer whose weight is bits."""
    for name, layer in module.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            first = layer.parametrizations["weight"][0]
            if isinstance(first, BitParametrization):
                yield name, first, layer.parametrizations["weight"].original


def to_dense(module: nn.Module) -> nn.Module:
    """A copy with ordinary weights of the same values, for use without this library."""
    plain = copy_module(module)
    for name, _, _ in list(bit_layers(plain)):
        layer: Any = plain.get_submodule(name)
        value = layer.weight.detach() + 0.0  # a new tensor, and no -0.0 where a magnitude of 0 has a sign
        # torch.nn.utils.parametrize.remove_parametrizations edits the class, which the copy shares with the original
        layer.__class__ = type(layer).__mro__[1]
        del layer._modules["parametrizations"]
        layer.register_parameter("weight", nn.Parameter(value))
    return plain


def to_integers(module: nn.Module) -> dict[str, tuple[Tensor, float]]:
    """By layer: the weight as the smallest signed integer type that holds it, and its scale; W is their product."""
    found = {}
    for name, parametrization, x in bit_layers(module):
        kind = next(t for t, k in ((torch.int8, 8), (torch.int16, 16), (torch.int32, 32)) if parametrization.bits <= k)
        found[name] = (parametrization.integers(x.detach()).to(kind), float(parametrization.scale().detach()))
    return found


def _planes(bits: int, trainable: int | Sequence[int] | None) -> list[int]:
    if trainable is None:
        return list(range(bits))
    if isinstance(trainable, int):
        if not 0 <= trainable <= bits:
            raise ValueError(f"trainable must be between 0 and the number of bits, {bits}, not {trainable}")
        return list(range(bits))[bits - trainable :]
    if any(not 0 <= plane < bits for plane in trainable) or len(set(trainable)) < len(trainable):
        raise ValueError(f"trainable must name planes between 0 and {bits - 1}, each once, not {list(trainable)}")
    return list(trainable)
