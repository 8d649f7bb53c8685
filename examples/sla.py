"""Train a small network to name digit and rotation at once; predict from one view, from all, and by its student."""

import torch
from torch import nn

from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.objectives import Rotations, SelfSupervisedLabelAugmentation, widen_classifier
from neurarium.training import evaluate, fit

data = load("mnist-small").scaled().map_inputs(lambda x: x.unsqueeze(1))
train, test = Batches(data.train[:1000], 50, shuffle=True), Batches(data.test[:1000], 500)
torch.manual_seed(0)
convolutions = [nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()]
narrow = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 10))

sla = SelfSupervisedLabelAugmentation(Rotations(), num_classes=10, mode="sla+sd")
model = widen_classifier(narrow, sla)  # 10 outputs become 40 joint ones and 10 of the student
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
fit(Backprop(model, sla), sla.batches(train), optimizer, epochs=6)

for how in ("single", "aggregate", "distilled"):
    print(f"{how}: {evaluate(sla.predictor(model, how), test):.3f}")
