"""Convolutions that skip pixels and read some of the maps below (Cireşan et al., 2011)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv2d

Pair = int | tuple[int, int]


class SkippingConv2d(nn.Module):
    """A convolution at valid positions only, each output map reading the input maps that a table connects it to.

    ``skip`` pixels are left out between two positions of the kernel, so that a side of n pixels becomes
    (n - kernel) // (skip + 1) + 1. Kernels are stored for connected pairs alone: `weight` holds one for each.

    Args:
        in_channels: input maps.
        out_channels: output maps.
        kernel_size: height and width.
        skip: pixels left out, down and across; the stride less one.
        connections: which input maps each output map reads: None for all; a number for so many, drawn at random for
            each; or a table [out_channels, in_channels].
        bias: one number for each output map.
        path: how it is computed. "dense" puts the kernels into a full convolution, zeros elsewhere; "gathered" brings
            each output its own inputs, and makes no product that the table leaves out.
        generator: of the table that is drawn.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: a table of another shape, or an output map that reads nothing; an unknown path; or, in the forward
            pass, maps that are smaller than the kernel.
    """

    outputs: Tensor
    inputs: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        skip: Pair = 0,
        connections: int | Bool[Tensor, "out in"] | None = None,
        bias: bool = True,
        path: Literal["dense", "gathered"] = "dense",
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if path not in ("dense", "gathered"):
            raise ValueError(f"path must be 'dense' or 'gathered', not {path!r}")
        self.in_channels, self.out_channels, self.path = in_channels, out_channels, path
        self.kernel_size, self.skip = _pair(kernel_size), _pair(skip)
        table = _table(connections, out_channels, in_channels, generator)
        outputs, inputs = table.nonzero(as_tuple=True)
        self.register_buffer("outputs", outputs.to(device))
        self.register_buffer("inputs", inputs.to(device))
        kernels = torch.empty(len(outputs), *self.kernel_size, device=device, dtype=dtype)
        self.weight = nn.Parameter(kernels)
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform values within one over the root of the numbers that an output reads, as torch's convolutions."""
        if self.weight.is_meta:
            return
        reads = self.connections.sum(1) * math.prod(self.kernel_size)
        bound = reads.to(self.weight.dtype).rsqrt()
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bound[self.outputs, None, None])
            if self.bias is not None:
                self.bias.uniform_(-1, 1).mul_(bound)

    @property
    def connections(self) -> Bool[Tensor, "out in"]:
        """The table."""
        table = torch.zeros(self.out_channels, self.in_channels, dtype=torch.bool, device=self.outputs.device)
        table[self.outputs, self.inputs] = True
        return table

    @property
    def stride(self) -> tuple[int, int]:
        """Pixels from one position to the next."""
        return self.skip[0] + 1, self.skip[1] + 1

    def forward(self, x: Float[Tensor, "*batch in height width"]) -> Float[Tensor, "*batch out height2 width2"]:
        """The output maps."""
        valid_size((x.shape[-2], x.shape[-1]), self.kernel_size, self.skip, "the layer")
        if self.path == "dense":
            return conv2d(x, self.dense_weight(), self.bias, self.stride)
        return self._gathered(x)

    def dense_weight(self) -> Float[Tensor, "out in height width"]:
        """Kernels of all pairs, zero for those that are not connected."""
        full = self.weight.new_zeros(self.out_channels * self.in_channels, *self.kernel_size)
        full = full.index_copy(0, self.outputs * self.in_channels + self.inputs, self.weight)
        return full.unflatten(0, (self.out_channels, self.in_channels))

    def to_conv(self) -> nn.Conv2d:
        """Torch's own layer with the same outputs, zeros for the pairs that are not connected."""
        conv = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, bias=self.bias is not None,
            device="meta",
        )  # fmt: skip
        conv.weight = nn.Parameter(self.dense_weight().detach().clone())
        if self.bias is not None:
            conv.bias = nn.Parameter(self.bias.detach().clone())
        return conv.train(self.training)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, connections: int | Bool[Tensor, "out in"] | None = None) -> SkippingConv2d:
        """A convolution of torch's with its kernels, those of pairs that the table leaves out lost.

        Args:
            conv: without padding or dilation; its groups become a table.
            connections: as in the constructor, without groups; by default what the convolution reads.

        Raises:
            ValueError: padding, dilation, or a table beside groups.
        """
        if any(conv.padding if isinstance(conv.padding, tuple) else (1,)) or set(conv.dilation) != {1}:
            raise ValueError("conv must have neither padding nor dilation: positions are valid ones only")
        if conv.groups > 1 and connections is not None:
            raise ValueError("conv has groups, which are a table already: leave connections out")
        if conv.groups > 1:
            blocks = torch.ones(conv.out_channels // conv.groups, conv.in_channels // conv.groups)
            connections = torch.block_diag(*[blocks] * conv.groups).bool()
        skip = (conv.stride[0] - 1, conv.stride[1] - 1)
        size = (conv.kernel_size[0], conv.kernel_size[1])
        made = cls(
            conv.in_channels, conv.out_channels, size, skip, connections, conv.bias is not None,
            device=conv.weight.device, dtype=conv.weight.dtype,
        )  # fmt: skip
        with torch.no_grad():
            made.weight.copy_(conv.weight[made.outputs, made.inputs % conv.weight.shape[1]])
            if made.bias is not None and conv.bias is not None:
                made.bias.copy_(conv.bias)
        return made.train(conv.training)

    def _gathered(self, x: Tensor) -> Tensor:
        """One group of a grouped convolution for each output map, filled up with zero kernels to the longest."""
        counts = torch.bincount(self.outputs, minlength=self.out_channels)
        longest = int(counts.max())
        start = counts.cumsum(0) - counts
        place = torch.arange(len(self.outputs), device=x.device) - start[self.outputs]
        slots = self.outputs * longest + place
        read = self.inputs.new_zeros(self.out_channels * longest).index_copy(0, slots, self.inputs)
        kernels = self.weight.new_zeros(self.out_channels * longest, *self.kernel_size)
        kernels = kernels.index_copy(0, slots, self.weight).unflatten(0, (self.out_channels, longest))
        return conv2d(x.index_select(-3, read), kernels, self.bias, self.stride, groups=self.out_channels)

    def extra_repr(self) -> str:
        """Sizes, and how many pairs are connected."""
        pairs = f"{len(self.outputs)} of {self.in_channels * self.out_channels}"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, skip={self.skip}, "
            f"connections={pairs}"
        )


def valid_size(size: tuple[int, int], kernel: tuple[int, int], skip: tuple[int, int], layer: str) -> tuple[int, int]:
    """Height and width behind a kernel at valid positions.

    Raises:
        ValueError: the kernel is larger than the maps; the message names the layer.
    """
    if size[0] < kernel[0] or size[1] < kernel[1]:
        raise ValueError(f"{layer} has a kernel of {kernel[0]} x {kernel[1]} for maps of {size[0]} x {size[1]} only")
    return (size[0] - kernel[0]) // (skip[0] + 1) + 1, (size[1] - kernel[1]) // (skip[1] + 1) + 1


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _table(
    connections: int | Tensor | None, out_channels: int, in_channels: int, generator: torch.Generator | None
) -> Int[Tensor, "out in"] | Bool[Tensor, "out in"]:
    if connections is None:
        return torch.ones(out_channels, in_channels, dtype=torch.bool)
    if isinstance(connections, int):
        if not 1 <= connections <= in_channels:
            raise ValueError(f"connections must be from 1 to the {in_channels} input maps, not {connections}")
        device = None if generator is None else generator.device
        drawn = torch.rand(out_channels, in_channels, generator=generator, device=device)
        return (drawn.argsort(1).argsort(1) < connections).cpu()
    if connections.shape != (out_channels, in_channels):
        raise ValueError(f"connections must be [{out_channels}, {in_channels}], not {list(connections.shape)}")
    table = connections.detach().bool().cpu()
    deaf = (~table.any(1)).nonzero().flatten()
    if len(deaf):
        raise ValueError(f"connections: output map {int(deaf[0])} reads no input map")
    return table
