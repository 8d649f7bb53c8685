"""Blocks that each learn from a cross-entropy of their own match backpropagation and need less memory.

Gong et al., 2025: Mono-Forward: Backpropagation-Free Algorithm for Efficient Neural Network Training Harnessing Local
Errors (arXiv 2501.09238).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import ForwardForward, MonoForward

torch.manual_seed(0)
x = torch.randn(512, 20)
y = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] > 0).long()
model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
rule = MonoForward(model, cross_entropy)  # the readout that is there serves the last hidden layer
optimizer = torch.optim.Adam(rule.parameters(), lr=MonoForward.learning_rate)
for _ in range(100):
    optimizer.zero_grad()
    rule.assign_credit(x, y)  # in place of loss.backward()
    optimizer.step()
print([round(float(loss), 3) for loss in rule.layer_losses])
print([float((g.argmax(1) == y).float().mean()) for g in rule.goodness(x)])
assert torch.equal(rule(x), model(x))  # the model is unchanged and stands alone

rule.fuse(lambda parameters: torch.optim.Adam(parameters, lr=1e-3))
for _ in range(10):
    rule.assign_credit(x, y)  # gradients and steps, block by block

padded = torch.cat([torch.zeros(512, 4), x], 1)  # the label is written over the first features
net = nn.Sequential(nn.Linear(24, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
contrast = ForwardForward(net, cross_entropy)
optimizer = torch.optim.Adam(contrast.parameters(), lr=3e-3)
for _ in range(100):
    optimizer.zero_grad()
    contrast.assign_credit(padded, y)
    optimizer.step()
print(contrast(padded).shape, contrast.layer_losses)
