"""`to_piecewise_affine`: the layers of a network that already exists, exchanged for piecewise affine ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.functional import relu

from neurarium.layers._conversion import Conversion, swap
from neurarium.layers.pam._channels import PAMBatchNorm, PAMGlobalAvgPool2d
from neurarium.layers.pam._layers import (
    PAMGELU,
    PAMConv2d,
    PAMDropout,
    PAMLayerNorm,
    PAMLinear,
    PAMMultiheadAttention,
    PAMSoftmax,
)  # fmt: skip

LEVELS = ("matmul", "network")
CONVERTED = (
    PAMLinear, PAMConv2d, PAMLayerNorm, PAMBatchNorm, PAMSoftmax, PAMGELU, PAMDropout, PAMGlobalAvgPool2d,
    PAMMultiheadAttention,
)  # fmt: skip
NETWORK = "LayerNorm, BatchNorm1d to 3d, Softmax, GELU, Dropout, AdaptiveAvgPool2d(1)"
TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
MATRIX_PRODUCTS = (
    nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.modules.conv._ConvNd,
)  # fmt: skip
# Layers that do not multiply.
FREE = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold, nn.Identity, nn.Flatten, nn.Unflatten, nn.Embedding, nn.Unfold,
    nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d, nn.PixelShuffle,
)  # fmt: skip
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def to_piecewise_affine(
    model: nn.Module, level: str = "matmul", *, inplace: bool = False, offset: float | None = None,
    approximate_backward: bool = True,
) -> Conversion:  # fmt: skip
    """Exchange a network's layers for piecewise affine ones. Weights and hyper-parameters stay as they are.

    Knows `nn.Linear`, `nn.Conv2d` and `nn.MultiheadAttention` (inside torch's transformer layers too) and, at level
    "network", `nn.LayerNorm`, batch norm, `nn.Softmax`, `nn.GELU`, `nn.Dropout` and the mean over an image,
    `nn.AdaptiveAvgPool2d(1)`. The new layers hold the old parameters and buffers themselves, so that optimizers, ties
    and checkpoints stay valid. Products written out in a module's own ``forward`` cannot be seen: use
    the functions of `neurarium.layers.pam` there, and `neurarium.probes.multiplication_report` to see what is left.

    Args:
        model: the network.
        level: "matmul" for matrix products and convolutions only, "network" for everything that is known.
        inplace: change the model itself instead of a copy.
        offset: see `pam.mul`.
        approximate_backward: see `pam.mul`.

    Returns:
        The converted model, what was converted, and what was not and why.

    Raises:
        ValueError: nothing could be converted, or an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be 'matmul' or 'network', not {level!r}")
    modes = {"offset": offset, "approximate_backward": approximate_backward}
    known = "Linear, Conv2d, MultiheadAttention" + (f", {NETWORK}" if level == "network" else "")
    return swap(
        model, nn.Module, lambda name, module: _convert(module, level, modes), inplace=inplace,
        looked_for=f"{known} of torch.nn",
    )  # fmt: skip


def _convert(module: nn.Module, level: str, modes: Mapping[str, Any]) -> nn.Module | str | None:
    """The layer's piecewise affine form, or why there is none, or None where there is nothing to do."""
    if type(module) in CONVERTED:
        return None
    if type(module).__name__ == "Conv1D":
        return "transformers' Conv1D is not known"
    new = _matrix_product(module, level, modes)
    if new is None and level == "matmul":
        return f"{type(module).__name__} is not known" if isinstance(module, MATRIX_PRODUCTS) else None
    if new is None:
        new = _other(module, {"approximate_backward": modes["approximate_backward"]})
    if not isinstance(new, nn.Module):
        return new
    for name, parameter in module.named_parameters():
        owner, _, last = name.rpartition(".")
        setattr(new.get_submodule(owner), last, parameter)
    for name, buffer in module.named_buffers():
        setattr(new, name, buffer)
    return new


def _matrix_product(module: nn.Module, level: str, modes: Mapping[str, Any]) -> nn.Module | str | None:
    """A layer of matrix products, on no device; or why there is none; or None for other layers."""
    kind = type(module)
    if kind is nn.Linear:
        return PAMLinear(module.in_features, module.out_features, module.bias is not None, **modes, device="meta")  # type: ignore[arg-type]
    if kind is nn.Conv2d:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            return "only convolutions padded with a number of zeros are known"
        return PAMConv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,  # type: ignore[arg-type]
            module.dilation, module.groups, module.bias is not None, **modes, device="meta",  # type: ignore[arg-type]
        )  # fmt: skip
    if kind is nn.MultiheadAttention:
        if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
            return "attention with kdim, vdim, add_bias_kv or add_zero_attn is not known"
        return PAMMultiheadAttention(
            module.embed_dim, module.num_heads, module.dropout, module.in_proj_bias is not None, module.batch_first,
            true_softmax=level == "matmul", **modes, device="meta",
        )  # fmt: skip
    return None


def _other(module: nn.Module, backward: Mapping[str, Any]) -> nn.Module | str | None:
    """Any other layer, on no device; or why there is none; or None where nothing multiplies."""
    kind = type(module)
    if kind is nn.LayerNorm:
        if len(module.normalized_shape) != 1:  # type: ignore[arg-type]
            return "only norms over the last dimension are known"
        return PAMLayerNorm(
            module.normalized_shape[0], module.eps, module.elementwise_affine,  # type: ignore[index, arg-type]
            module.bias is not None, **backward, device="meta",
        )  # fmt: skip
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return PAMBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats,  # type: ignore[arg-type]
            **backward, device="meta",
        )  # fmt: skip
    if kind is nn.AdaptiveAvgPool2d:
        one = module.output_size in (1, (1, 1), [1, 1])
        return PAMGlobalAvgPool2d(**backward) if one else "only the mean over a whole image, output_size 1, is known"
    if kind is nn.Softmax:
        return PAMSoftmax(-1 if module.dim is None else module.dim, **backward)  # type: ignore[arg-type]
    if kind is nn.GELU:
        return PAMGELU(module.approximate, **backward)  # type: ignore[arg-type]
    if kind is nn.Dropout:
        return PAMDropout(module.p) if module.p < 1 else "drops everything"  # type: ignore[arg-type, operator]
    return _multiplies(module)


def _multiplies(module: nn.Module) -> str | None:
    """Why a layer that is left as it is may multiply."""
    kind = type(module)
    if isinstance(module, TRANSFORMER_LAYERS):
        known = module.activation is relu or isinstance(module.activation, (nn.ReLU, nn.GELU))
        return None if known else "its activation multiplies; use relu or gelu"
    if isinstance(module, (*FREE, *CONTAINERS)) or (any(True for _ in module.children())):
        return None
    if kind.__module__.startswith("torch.nn"):
        return f"{kind.__name__} is not known"
    return f"{kind.__name__} computes what cannot be seen; look at it with multiplication_report"
