"""Which basis suits which node? Train with all of them, let the nodes choose, take the rest out, train on."""

import collections
import math

import torch
from torch import nn
from torch.nn.functional import mse_loss

from neurarium.layers import SelectableKANLinear
from neurarium.search import BasisSelection

torch.manual_seed(0)
x = torch.rand(800, 2) * 2 - 1
y = torch.sin(10 * math.pi * x[:, :1]) + (x[:, 1:] > 0.3)  # waves and a step

model = nn.Sequential(SelectableKANLinear(2, 6), SelectableKANLinear(6, 1))
optimizer = torch.optim.Adam(model.parameters(), 0.02)
selection = BasisSelection(model, optimizer=optimizer)
for step in range(600):
    if step == 300:
        selection.select(x)
        before = sum(p.numel() for p in model.parameters())
        selection.prune()
        after = sum(p.numel() for p in model.parameters())
        print(f"{before} parameters become {after}; relative change of each layer's output:", selection.change)
    optimizer.zero_grad()
    loss = mse_loss(model(x), y)
    loss.backward()
    optimizer.step()

print("chosen:", dict(collections.Counter(choice.basis for choice in selection.choices)))
print(f"relative error {float((loss / y.var()).detach()) ** 0.5:.3f}")
