"""A training set whose size breathes, easy examples first in each breath, beats always using all of it.

Kesgin and Amasyali, 2022: Cyclical Curriculum Learning (arXiv 2202.05531).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import (
    Backprop,
    CurriculumSampler,
    cycle_sizes,
    difficulty_scores,
)
from neurarium.training import fit

torch.manual_seed(0)
train = load("digits").scaled().flat().train
build = lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
first = build()
fit(
    Backprop(first, cross_entropy),
    Batches(train, 64, shuffle=True),
    torch.optim.Adam(first.parameters(), 3e-3),
    epochs=5,
)

losses = difficulty_scores(first, Batches(train, 500))  # by index, in the order of the data
sampler = CurriculumSampler(1 / losses, cycle_sizes(epochs=5), labels=train.y)
print(f"effectively chooses from {sampler.effective_size:.0f} of {len(train)} examples")
model = build()
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for number in range(len(sampler.sizes)):  # or DataLoader(dataset, sampler=sampler)
    sampler.set_epoch(number)
    for rows in sampler.indices().split(64):
        optimizer.zero_grad()
        cross_entropy(model(train.x[rows]), train.y[rows]).backward()
        optimizer.step()
