"""Networks and other things that examples of several rooms use."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium import layers, learning
from neurarium.testing.world import World


def seed() -> torch.Generator:
    """A generator in a known state."""
    return torch.Generator().manual_seed(0)


def pixels(w: World) -> nn.Module:
    """A network with two hidden layers."""
    return w.mlp(8, 10, 10, 3)


def nested() -> nn.Module:
    """A network whose members can be cut out."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def pepita(w: World, **options: Any) -> Any:
    """A rule with feedback to the input."""
    return w.new(lambda: learning.Pepita(nested(), cross_entropy, **options))


def loose(output: Tensor, y: Tensor) -> Tensor:
    """A loss that takes labels of any whole kind."""
    return cross_entropy(output, y.long())


def bits(w: World, **options: Any) -> layers.Conversion:
    """A copy of a network with bits for weights."""
    return layers.bitwise(copy.deepcopy(pixels(w)), 4, generator=seed(), **options)
