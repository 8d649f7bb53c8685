"""Train a residual network on digits, put its blocks side by side, and train that from the same start."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.layers import Residual, parallelise
from neurarium.learning import Backprop
from neurarium.probes import overdetermination, truncation_error
from neurarium.training import evaluate, fit

digits = load("digits").scaled().map_inputs(lambda x: x.unsqueeze(1))
torch.manual_seed(0)
blocks = [Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())) for _ in range(6)]
deep = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), *blocks, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)
)
found = parallelise(deep, fuse=True)  # a copy with the same weights
print(found)
print(overdetermination(deep, Batches(digits.train, 64)).summary())

for name, model in (("deep", deep), ("shallow", found.model)):
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    fit(Backprop(model, cross_entropy), Batches(digits.train, 64, shuffle=True, seed=0), optimizer, epochs=6)
    print(f"{name}: {evaluate(model, Batches(digits.test, 500)):.3f}")

print(truncation_error(deep, digits.test.x[:100]).summary())
