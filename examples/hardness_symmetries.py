"""Symmetric targets that gradients cannot see, students that know the symmetry, and a solver that is no gradient.

Kiani et al., 2024: On the hardness of learning under symmetries (arXiv 2401.01869).
"""

import torch
from torch import nn
from torch.nn.functional import mse_loss

from neurarium.data import cyclic_shifts, degree_counts, degree_parity, subset_parity
from neurarium.models import FrameAveraged, cyclic_frame
from neurarium.theory import correlation_matrix, csq_lower_bound, solve_parity

generator = torch.Generator().manual_seed(0)
n, group = 8, cyclic_shifts(8)

family = [subset_parity(n, subset, group) for subset in ((0, 1), (0, 2), (0, 3), (0, 4))]
report = correlation_matrix(family, family[0].sample(20_000, generator))
print(report.summary())
print("queries for 64 coordinates, 8 of them:", csq_lower_bound(4_426_165_368 / 64, tolerance=0.01))

for subset in ((0, 1), (0, 1, 2, 4)):  # an easy member and a harder one
    target = subset_parity(n, subset, group)
    torch.manual_seed(0)
    student = FrameAveraged(nn.Sequential(nn.Linear(n, 128), nn.ReLU(), nn.Linear(128, 1)), cyclic_frame)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for _ in range(300):
        x = target.sample(128, generator)
        loss = mse_loss(student(x)[:, 0], target(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(target.name, f"squared error {loss.item():.2f} of 1")

target = degree_parity([0, 2, 3, 7, 9], bits=12)  # which of 12 stars count, in graphs of 114 nodes
graphs = target.sample(40, generator)
found = solve_parity(degree_counts(graphs, 12), (target(graphs) < 0).long())
assert found is not None
print("elimination finds", found.nonzero().flatten().tolist())
