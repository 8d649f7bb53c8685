"""How learnable attention and what looks at it are used."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import layers, probes
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "attention_spectrum": lambda w: probes.attention_spectrum(attended(w), w.x(2, 3, 8)).weight_rank,
    "project_simplex": lambda w: layers.project_simplex(w.x(4, 6)),
    "replace_attention": lambda w: attended(w)(w.x(2, 3, 8)),
}


def attended(w: World) -> Any:
    """A transformer layer with operators in the place of softmax."""
    layer = w.new(lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True))
    return w.new(lambda: layers.replace_attention(layer, 3).model)
