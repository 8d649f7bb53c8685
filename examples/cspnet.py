"""What does a network cost when half of each stage's channels go around its blocks, and what does it lose?"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.layers import CrossStagePartial, Residual, conv_norm_act
from neurarium.learning import Backprop
from neurarium.probes import convolution_traffic
from neurarium.training import evaluate, fit


def blocks(channels: int) -> nn.Module:
    """Three residual blocks: a stage of your own network, as a function of its width."""
    return nn.Sequential(*(Residual(conv_norm_act(channels, channels, 3)) for _ in range(3)))


def network(is_partial: bool) -> nn.Module:
    """Two stages, whole or partial."""
    stages = [CrossStagePartial(blocks, width) if is_partial else blocks(width) for width in (16, 32)]
    return nn.Sequential(
        conv_norm_act(1, 16, 3), stages[0], conv_norm_act(16, 32, 3, stride=2), stages[1],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


data = load("digits").scaled().map_inputs(lambda x: x.view(-1, 1, 8, 8))
for is_partial in (False, True):
    torch.manual_seed(0)
    model = network(is_partial)
    cost = convolution_traffic(model, data.train.x[:1])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    fit(Backprop(model, cross_entropy), Batches(data.train, 64, shuffle=True), optimizer, epochs=2)
    print(f"{'partial' if is_partial else 'whole'} stages: {evaluate(model, Batches(data.test, 256)):.1%} right, "
          f"{cost.total_multiply_adds:,} multiply-adds, of which {cost.part('3')[0]:,} in the second")  # fmt: skip
