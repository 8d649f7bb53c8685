"""Parts of networks that keep the direction in which each of their inputs moves."""

from __future__ import annotations

from torch import nn

from neurarium.layers.monotonic._monotonic_activation import MonotonicActivation

RISING = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.LogSigmoid, nn.Tanh,
    nn.Hardtanh, nn.Hardsigmoid, nn.Softsign, nn.Identity, nn.Dropout, nn.AlphaDropout, nn.Flatten, MonotonicActivation,
)  # fmt: skip
"""Modules that never fall, unit by unit."""
