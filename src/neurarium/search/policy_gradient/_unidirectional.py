"""The plain removal policy: it reads the layers once, from the input to the output."""

from __future__ import annotations

import math

import torch
from torch import nn

from neurarium.search.policy_gradient._policies import RemovalPolicy


class UnidirectionalRemovalPolicy(RemovalPolicy):
    """π(a_t | h_{t-1}, x_t): decides on a layer without knowing those behind it (N2N's ablation of `RemovalPolicy`).

    Takes the arguments of `RemovalPolicy`, and its place: in `LayerRemovalSearch(policy=)` and `N2N(policies=)`.
    """

    def __init__(self, features: int = 5, hidden_size: int = 30, num_layers: int = 2, keep: float = 0.8) -> None:
        super().__init__(features, hidden_size, num_layers, keep)
        self.lstm = nn.LSTM(features, hidden_size, num_layers)
        self.head = nn.Linear(hidden_size, 2)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(torch.tensor([math.log(1 - keep), math.log(keep)]))
