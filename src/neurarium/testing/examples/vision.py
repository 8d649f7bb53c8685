"""How convolutional networks, their parts and their probes are used."""

from __future__ import annotations

from torch import nn

from neurarium import layers
from neurarium.testing.world import Example, ModuleExample

MODULES: dict[str, ModuleExample] = {
    "DenseConnection": lambda w: (
        layers.DenseConnection(nn.Conv1d(3, 4, 1), nn.Conv1d(7, 2, 3, padding=1)), (w.x(2, 3, 6),),
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "conv_norm_act": lambda w: w.new(lambda: layers.conv_norm_act(3, 4, 4))(w.x(2, 3, 6, 6)),
}
