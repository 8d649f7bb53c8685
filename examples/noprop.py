"""Blocks that learn alone to denoise the label match backpropagation through the chain of them.

Li, Teh and Pascanu, 2025: NoProp: Training Neural Networks without Back-propagation or Forward-propagation (arXiv
2503.24322).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import NoProp
from neurarium.models import DenoisingBlock

torch.manual_seed(0)
x = torch.randn(512, 20)
y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
rule = NoProp(model, cross_entropy, steps=4)  # every block: a copy of the model beside a branch for the noised label
optimizer = torch.optim.AdamW(rule.parameters(), lr=NoProp.learning_rate, weight_decay=1e-3)
for _ in range(60):
    optimizer.zero_grad()
    rule.assign_credit(x, y)  # in place of loss.backward()
    optimizer.step()
rule.eval()
print(float((rule(x).argmax(1) == y).float().mean()))  # the chain without noise
print(float((rule.log_probs(x, samples=5).argmax(1) == y).float().mean()))  # five noise samples, probabilities averaged
path = rule.trajectory(x)  # z_0, ..., z_4

images, labels = torch.randn(32, 1, 16, 16), torch.randint(4, (32,))
rule = NoProp(lambda t, d: DenoisingBlock((1, 16, 16), d, 4, channels=(8, 16)), num_classes=4, steps=3)
own = [torch.optim.AdamW(rule.block_parameters(t), lr=1e-3) for t in (1, 2, 3)]
for t in (3, 1, 2):  # in any order, or at the same time elsewhere
    rule.block_loss(t, images, labels).backward()
    own[t - 1].step()
rule.readout_loss(labels).backward()  # readout and, where it is learned, the embedding
