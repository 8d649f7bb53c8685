"""One set of weights, trained as many truncations of itself, holds a network for every budget.

Valipour et al., 2023: SortedNet: A Scalable and Generalized Framework for Training Modular Deep Neural Networks
(arXiv 2309.00255).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import (
    BranchedNet,
    SortedNet,
    greedy_generate,
    select,
    self_speculative_generate,
)
from neurarium.models import CausalTransformer

torch.manual_seed(0)
x = torch.randn(512, 20)
y = x[:, :4].argmax(1)
batches = [(x[i : i + 64], y[i : i + 64]) for i in range(0, 512, 64)]
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

net = SortedNet(model, x[:1], widths=(0.25, 0.5, 0.75, 1.0))  # your model, an example of its input
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(20):
    for inputs, targets in batches:
        optimizer.zero_grad()
        net.loss(inputs, targets, cross_entropy)  # in place of loss.backward()
        optimizer.step()

with net.at(0.25):  # the model itself, a quarter as wide
    print((model(x).argmax(1) == y).float().mean())
table = net.table(batches)  # parameters, FLOPs and accuracy of every member
row = select(table, max_flops=5_000)
small = net.extract(row.sub)  # an ordinary module of that size
print(row, small)

branched = BranchedNet(model, x[:1], widths=(0.25, 0.5, 0.75, 1.0), heads="4", same_batch=False)
optimizer = torch.optim.Adam(branched.parameters(), 3e-3)  # the heads are not the model's
branched.loss(x, y, cross_entropy)
optimizer.step()
print(branched.head(0.25), branched.extract(0.25)[4])

tokens = (torch.arange(24) + torch.arange(12)[:, None]) % 12
writer = CausalTransformer(12, d_model=24, nhead=2, num_layers=3, dim_feedforward=48, context=32)
family = SortedNet(writer, tokens, widths=(1,), depths=(1, 2, 3), blocks="layers")
optimizer = torch.optim.Adam(writer.parameters(), 5e-3)
for _ in range(40):
    optimizer.zero_grad()
    family.loss(tokens[:, :-1], tokens[:, 1:], lambda out, target: cross_entropy(out.flatten(0, 1), target.flatten()))
    optimizer.step()
family.eval()
found = self_speculative_generate(family, tokens[:1, :3], 16, draft_depth=1)
assert torch.equal(found.tokens, greedy_generate(family, tokens[:1, :3], 16))
print(f"{found.passes} passes of the whole for 16 tokens, {found.acceptance:.0%} of the draft accepted")
