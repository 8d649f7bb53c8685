"""A copy of somebody's network, also where torch's own ``copy.deepcopy`` fails or errs."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def copy_module(model: M) -> M:
    """``copy.deepcopy(model)``, for any network.

    A weight that a hook computes anew before each pass (`torch.nn.utils.prune`, the older ``weight_norm`` and
    ``spectral_norm``) keeps its history in an attribute, which torch refuses to copy: it is copied without. A copy of
    `nn.TransformerDecoderLayer` whose activation is a module falls back to ReLU in torch: here it keeps its own.
    """
    computed = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    try:
        for module, name, value in computed:
            module.__dict__[name] = value.detach()
        copied = copy.deepcopy(model)
    finally:
        for module, name, value in computed:
            module.__dict__[name] = value
    for old, new in zip(model.modules(), copied.modules()):
        for name in new._modules.keys() & new.__dict__.keys() - old.__dict__.keys():
            del new.__dict__[name]
    return copied
