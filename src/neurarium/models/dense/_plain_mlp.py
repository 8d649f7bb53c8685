"""A deep stack of ReLU layers without skips or norms, with the initialisations that decide whether it trains."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn


def plain_mlp(
    in_features: int,
    out_features: int,
    *,
    width: int = 50,
    depth: int = 20,
    init: str = "he",
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """``depth`` hidden ReLU layers of one width and a linear readout.

    Args:
        in_features: size of an input.
        out_features: number of outputs.
        width: units of each hidden layer.
        depth: hidden layers.
        init: "zero" (all weights and biases 0), "simple" (weights of deviation 0.1, biases 0), "he" (variance
            2 / fan-in; He et al., 2015) or "sussillo" (the random-walk gain of Sussillo and Abbott, 2014:
            variance g² / fan-in with g = √2 · exp(1.2 / (max(fan-in, 6) − 2.4))).
        dropout: rate after every hidden layer; 0 for none.
        generator: source of the initial weights.

    Raises:
        ValueError: an unknown ``init``, or a ``depth`` below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    sizes = [in_features] + [width] * depth
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
    model = nn.Sequential(*layers, nn.Linear(width, out_features))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
            nn.init.normal_(module.weight, 0.0, _deviation(init, module.in_features), generator=generator)
    return model


def _deviation(init: str, fan_in: int) -> float:
    if init == "zero":
        return 0.0
    if init == "simple":
        return 0.1
    if init == "he":
        return math.sqrt(2 / fan_in)
    if init == "sussillo":
        return math.sqrt(2 / fan_in) * math.exp(1.2 / (max(fan_in, 6) - 2.4))
    raise ValueError(f"init must be 'zero', 'simple', 'he' or 'sussillo', not {init!r}")
