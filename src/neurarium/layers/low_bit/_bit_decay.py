"""Weight decay on trained bits, which makes them restless: whether an optimizer does that."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from neurarium.layers.low_bit._bitwise import bit_layers


def check_weight_decay(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Layers whose trained bits an optimizer's weight decay acts on; warns where there are any.

    Decay moves a real variable towards 0, where its bit flips with the next gradient: it makes bits restless and no
    weight smaller.

    Args:
        module: one that `bitwise` has converted, or any other.
        optimizer: that trains it; AdamW decays unless it is told not to.

    Returns:
        Names of the layers.
    """
    decayed = {id(p) for group in optimizer.param_groups if group.get("weight_decay") for p in group["params"]}
    found = [name for name, _, x in bit_layers(module) if id(x) in decayed]
    if found:
        warnings.warn(
            f"weight decay acts on the bits of {', '.join(name or 'the module' for name in found)}: it pulls them to "
            "the edge between 0 and 1 and makes no weight smaller; give them a group with weight_decay=0",
            stacklevel=2,
        )
    return found
