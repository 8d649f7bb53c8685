"""A model with fewer units or fewer blocks: run in place on views of its weights, or taken out as a module."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.models.editing._architecture import Architecture, Segment

Units = Mapping[int, int | Tensor]
"""Per group how many units are kept, the first ones; or which, as an index tensor."""


def take(tensor: Tensor, axes: Sequence[tuple[Segment, ...] | None], units: Units) -> Tensor:
    """The kept part of a weight: a view, except where an axis joins several stretches or units are given by index.

    Args:
        tensor: the whole weight.
        axes: its axes, from `Architecture.axes`.
        units: what is kept of each group; groups that are not in it stay whole.
    """
    for dim, axis in enumerate(axes):
        if axis is None or not any(segment.group in units for segment in axis):
            continue
        parts, start = [], 0
        for group, size, repeat in axis:
            kept = units.get(group, size) if group is not None else size
            if isinstance(kept, int):
                parts.append(tensor.narrow(dim, start, kept * repeat))
            else:
                places = (kept[:, None] * repeat + torch.arange(repeat, device=kept.device)).flatten()
                parts.append(tensor.index_select(dim, start + places.to(tensor.device)))
            start += size * repeat
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    return tensor


@contextmanager
def sliced(
    model: nn.Module,
    architecture: Architecture | None = None,
    units: Units | None = None,
    *,
    blocks: str = "",
    depth: int | None = None,
    buffers: Mapping[str, Tensor] | None = None,
) -> Iterator[nn.Module]:
    """Within the block the model itself runs with the first units of each group and the first blocks of one list.

    Its layers hold views of their own weights, so gradients arrive in the whole ones; afterwards everything is as
    before. What is kept whole is not touched, so that at full size the model is the plain one.

    Args:
        model: the traced module.
        architecture: what `trace_architecture` found; needed with ``units``.
        units: kept units per group.
        blocks: name of the `nn.ModuleList` or `nn.Sequential` whose first ``depth`` modules are kept.
        depth: how many.
        buffers: tensors to stand in for buffers of the model (running statistics of this size), by name.
    """
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def put(table: dict[str, Any], key: str, value: Any) -> None:
        undo.append((table, key, table[key]))
        table[key] = value

    try:
        touched = {}
        axes_of = architecture.axes if architecture is not None and units else {}
        for name in dict.fromkeys([*axes_of, *(buffers or {})]):
            module, table, key = _place(model, name)
            whole = table[key]
            part = buffers[name] if buffers and name in buffers else take(whole, axes_of[name], units or {})
            if part.shape != whole.shape:
                touched[id(module)] = module
            if part is not whole:
                put(table, key, part)
        for module in touched.values():
            for key, value in sizes(module).items():
                put(module.__dict__, key, value)
        if depth is not None:
            holder = model.get_submodule(blocks)
            put(holder.__dict__, "_modules", dict(list(holder._modules.items())[:depth]))
        yield model
    finally:
        for table, key, value in reversed(undo):
            table[key] = value


def extract(
    model: nn.Module,
    architecture: Architecture | None = None,
    units: Units | None = None,
    *,
    blocks: str = "",
    depth: int | None = None,
    buffers: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """An ordinary small module, a copy of the part that `sliced` runs; takes the same arguments."""
    with torch.no_grad(), sliced(model, architecture, units, blocks=blocks, depth=depth, buffers=buffers):
        changed: dict[int, Any] = {}
        for module in model.modules():
            for table in (module._parameters, module._buffers):
                for value in table.values():
                    if value is None:
                        continue
                    own = value.detach().clone(memory_format=torch.contiguous_format)
                    if table is module._parameters:
                        own = nn.Parameter(own, requires_grad=value.requires_grad)
                    changed.setdefault(id(value), own)
        return copy.deepcopy(model, changed)


def sizes(module: nn.Module) -> dict[str, Any]:
    """The attributes of a layer that state its size, as its present weights have them."""
    weight = module._parameters.get("weight")
    if isinstance(module, nn.MultiheadAttention):
        width = module.out_proj.weight.shape[0]
        heads = width // module.head_dim
        return {"embed_dim": width, "kdim": width, "vdim": width, "num_heads": heads}
    if weight is None:
        return {}
    if isinstance(module, nn.Linear):
        return {"out_features": weight.shape[0], "in_features": weight.shape[1]}
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups > 1:
            return {"out_channels": weight.shape[0], "in_channels": weight.shape[0], "groups": weight.shape[0]}
        first, second = ("in", "out") if module.transposed else ("out", "in")
        return {f"{first}_channels": weight.shape[0], f"{second}_channels": weight.shape[1]}
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return {"num_features": weight.shape[0]}
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return {"normalized_shape": tuple(weight.shape)}
    if isinstance(module, nn.Embedding):
        return {"embedding_dim": weight.shape[1]}
    return {}


def _place(model: nn.Module, name: str) -> tuple[nn.Module, dict[str, Any], str]:
    owner, _, key = name.rpartition(".")
    module = model.get_submodule(owner)
    return module, module._parameters if key in module._parameters else module._buffers, key
