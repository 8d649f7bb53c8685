"""A guide's representations, even an untrained one's, let a network learn that trains badly on its own.

Subramaniam et al., 2024: Training the Untrainable: Introducing Inductive Bias via Representational Alignment (arXiv
2410.20035).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop
from neurarium.objectives import Guidance
from neurarium.probes import cka_matrix
from neurarium.training import fit

torch.manual_seed(0)
x = torch.randn(128, 1, 8, 8)
y = (x[:, 0, :4].sum((1, 2)) > 0).long()
guide = nn.Sequential(
    nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
)
model = nn.Sequential(
    nn.Flatten(), *[m for i in range(6) for m in (nn.Linear(64 if i == 0 else 32, 32), nn.ReLU())], nn.Linear(32, 2)
)

with Guidance(model, guide, until_step=300) as guidance:  # hooks only inside
    rule = Backprop(model, guidance.around(cross_entropy))  # your loss plus the guidance, from one forward pass
    fit(rule, [(x, y)], torch.optim.Adam(model.parameters(), 1e-3), epochs=5)
    print(guidance.distances)  # 1 - CKA of each guided layer

print(cka_matrix(model, guide, [(x, y)]).summary())  # debiased, over batches
