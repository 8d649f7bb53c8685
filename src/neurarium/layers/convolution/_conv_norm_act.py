"""Convolution, normalisation, activation: the unit that convolutional networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

_CONVOLUTIONS: Mapping[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: Mapping[int, Callable[[int], nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_PADS: Mapping[int, Callable[..., nn.Module]] = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    dims: int = 2,
    norm: Callable[[int], nn.Module] | None = None,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution without bias that keeps the positions, batch normalisation, and an activation.

    "Same" padding by the rule of Keras and of torch: (k - 1) // 2 zeros in front, k // 2 behind, so that an even kernel
    reads one step more of the future. With a stride there is an output for each position 0, stride, 2 stride ...

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: in every dimension.
        stride: in every dimension.
        groups: of the convolution.
        dims: 1 for series [batch, channels, steps], 2 for images, 3 for volumes.
        norm: makes the normalisation for a number of channels; batch normalisation by default. Pass `nn.Identity` for
            none: the convolution then has a bias.
        activation: makes the activation; None for none.

    Returns:
        The layers in order.

    Raises:
        ValueError: ``dims`` is not 1, 2 or 3, or ``groups`` does not divide both numbers of channels.
    """
    if dims not in _CONVOLUTIONS:
        raise ValueError(f"dims must be 1, 2 or 3, not {dims}")
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"groups ({groups}) must divide in_channels ({in_channels}) and out_channels ({out_channels})")
    before, behind = (kernel_size - 1) // 2, kernel_size // 2
    layers: list[nn.Module] = []
    if before != behind:
        layers.append(_PADS[dims]((before, behind) * dims, 0.0))
    layers.append(
        _CONVOLUTIONS[dims](
            in_channels, out_channels, kernel_size, stride, padding=before if before == behind else 0, groups=groups,
            bias=norm is nn.Identity,
        )
    )  # fmt: skip
    if norm is not nn.Identity:
        layers.append((norm or _NORMS[dims])(out_channels))
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)
