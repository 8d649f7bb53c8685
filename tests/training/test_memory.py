"""Bytes of a step against what can be counted by hand."""

import torch
from torch import nn

from neurarium.training import peak_bytes, saved_bytes


def test_peak_counts_what_is_alive_together():
    x = torch.zeros(1000)
    assert peak_bytes(lambda: (x + 1, None)) == 4000
    assert peak_bytes(lambda: ((x + 1) + 1) + 1) == 8000  # the first sum is freed when the third is made
    assert peak_bytes(lambda: x.add_(1)) == 0
    assert peak_bytes(lambda: x.view(10, 100)) == 0


def test_peak_falls_when_activations_are_dropped():
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(8)])
    x = torch.randn(256, 64)

    def whole():
        layers(x).sum().backward()

    def layer_by_layer():
        h = x
        for layer in layers:
            out = layer(h)
            out.sum().backward()
            h = out.detach()

    whole()
    assert peak_bytes(layer_by_layer) < 0.5 * peak_bytes(whole)


def test_saved_bytes_are_inputs_of_linear_and_outputs_of_tanh():
    layer = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    x = torch.randn(32, 8)
    assert saved_bytes(lambda: layer(x)) == 4 * 32 * (8 + 16)  # x, and tanh's output, which the last layer shares
    assert saved_bytes(lambda: layer.requires_grad_(False)(x)) == 0
