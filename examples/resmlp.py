"""A network without attention, convolutions or norms: a teacher's second label, and what is left of it in the end."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.layers import fold_affine
from neurarium.models import ResMLP
from neurarium.objectives import hard_distillation_loss
from neurarium.probes import mixing_locality
from neurarium.training import evaluate

torch.manual_seed(0)
data = load("digits").scaled().map_inputs(lambda x: x.view(-1, 1, 8, 8))
teacher = nn.Sequential(nn.Conv2d(1, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
student = ResMLP(image_size=8, patch_size=2, in_channels=1, num_classes=10, dim=32, depth=2, init_std=None)

for model in (teacher, student):
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(8):
        for x, y in Batches(data.train, 64, shuffle=True):
            optimizer.zero_grad()
            logits = model(x)
            if model is student:
                with torch.no_grad():
                    named = teacher(x)
                loss = hard_distillation_loss(logits, named, y)
            else:
                loss = cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
    print(f"{type(model).__name__}: {evaluate(model, Batches(data.test, 256)):.1%} right")

folded = fold_affine(student, data.train.x[:8])
print(f"{len(folded.changed)} affine maps folded: {evaluate(folded.model, Batches(data.test, 256)):.1%} right")
print(mixing_locality(student).summary())
