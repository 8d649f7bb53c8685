"""Pre-train on digits of which a part has labels, throw the projections away, and read five new classes."""

import torch
from torch import nn

from neurarium.data import Arrays, Batches, load
from neurarium.objectives import OmniSupervised
from neurarium.probes import few_shot_accuracy, supervision_conflict
from neurarium.training import evaluation, fit

data = load("mnist-small").scaled().map_inputs(lambda x: x.unsqueeze(1))
known, new = data.train[data.train.y < 5][:1000], data.train[data.train.y >= 5]
labels = torch.where(torch.arange(1000) % 2 == 0, known.y, -1)  # every other image has no label

torch.manual_seed(0)
convolutions = [nn.Conv2d(1, 16, 5, stride=3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()]
backbone = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(288, 64), nn.ReLU())
loader = Batches(Arrays(known.x, labels), 100, shuffle=True)
opera = OmniSupervised(backbone, 64, 5, hidden_dim=128, projection_dim=32, total_steps=8 * len(loader))
fit(opera, loader, torch.optim.AdamW(opera.parameters(), 3e-3), epochs=8)

with torch.no_grad(), evaluation(opera):
    features = opera.features(new.x)
print(few_shot_accuracy(features, new.y, ways=5, shots=5, generator=torch.Generator().manual_seed(0)).summary())
x = known.x[:200]
print(supervision_conflict(opera, opera.views(x), opera.views(x), labels[:200]).summary())
