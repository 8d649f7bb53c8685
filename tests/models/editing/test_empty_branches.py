"""Layers taken out of residual blocks: a block without layers is the identity."""

import pytest
import torch
from torch import nn

from neurarium.models import describe, remove_layers, trace_architecture


class Block(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.scale = nn.Parameter(torch.tensor(0.3))
        self.form = form

    def forward(self, x):
        if self.form == "in place":
            y = self.body(x)
            y += x
            return y
        return {
            "plain": lambda: x + self.body(x),
            "other way": lambda: self.body(x) + x,
            "scaled": lambda: x + 0.5 * self.body(x),
            "gated": lambda: x + self.scale * nn.functional.dropout(self.body(x), 0.1, self.training),
            "torch.add": lambda: torch.add(x, self.body(x)),
            "difference": lambda: x - self.body(x),
        }[self.form]()


def network(form):
    torch.manual_seed(0)
    parts = nn.Conv2d(1, 4, 3, padding=1), Block(form), nn.ReLU(), Block(form), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(4, 2)).eval()


FORMS = ["plain", "other way", "in place", "scaled", "gated", "torch.add", "difference"]


@pytest.mark.parametrize("form", FORMS)
def test_without_all_of_its_layers_a_residual_block_is_the_identity(form):
    net, x = network(form), torch.randn(3, 1, 6, 6)
    inside = [layer.name for layer in describe(net, x) if layer.name.startswith("1.body")]
    assert len(inside) == 3
    assert torch.equal(remove_layers(net, x, inside)(x), net[2:](net[0](x)))
    both = [*inside, "2", *(name.replace("1.", "3.", 1) for name in inside)]
    small = remove_layers(net, x, both)
    assert torch.equal(small(x), net[4:](net[0](x)))
    assert trace_architecture(small, x).groups  # what is left can still be cut


@pytest.mark.parametrize("form", FORMS)
def test_a_branch_that_keeps_a_layer_keeps_its_sum(form):
    net, x = network(form), torch.randn(3, 1, 6, 6)
    small = remove_layers(net, x, ["1.body.0", "1.body.1"])
    net[1].body = net[1].body[2:]
    assert torch.equal(small(x), net(x))


def test_a_sum_of_a_tensor_with_itself_is_no_branch():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.norm = nn.ReLU(), nn.LayerNorm(4)

        def forward(self, x):
            y = self.act(x)
            return self.norm(y + y)

    net = nn.Sequential(nn.Linear(4, 4), Doubled(), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    small = remove_layers(net, x, ["1.act", "1.norm"])
    assert torch.allclose(small(x), net[2](2 * net[0](x)))
