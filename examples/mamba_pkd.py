"""A chain of small Mamba classifiers, each taught what the ones before it missed, buys accuracy with operations.

Medina et al., 2025: Mamba base PKD for efficient knowledge compression (arXiv 2503.01727).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import ProgressiveDistillation, operations

torch.manual_seed(0)
y = torch.randint(3, (600,))
x = 2 * torch.eye(3, 20)[y] + torch.randn(600, 20)
teacher = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3))
optimizer = torch.optim.Adam(teacher.parameters(), 1e-2)
for _ in range(60):
    optimizer.zero_grad()
    cross_entropy(teacher(x), y).backward()
    optimizer.step()

group = ProgressiveDistillation(shares=(0.02, 0.05, 0.1)).compress(teacher, [(x, y)])  # no loop of your own needed
classes, asked = group.predict(x, confidence=0.9)
print(
    f"{(classes == y).double().mean():.3f} with {asked.double().mean():.2f} members on average;"
    f" all together {int(group.flops.sum()) / operations(teacher, x[:1]):.0%} of the teacher's operations"
)
