"""Find the formula behind 200 numbers: train a KAN sparsely, prune it, name its edges, print sympy and LaTeX."""

import math

import torch

from neurarium.compression import KANPruning
from neurarium.models import KAN, formula, snap, train_kan
from neurarium.probes import edge_scores

x = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
y = torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)

for start in (5, 1, 0):  # about one start in three ends at the formula: take six where it matters
    network = KAN([2, 3, 1], generator=torch.Generator().manual_seed(start), dtype=torch.float64)
    train_kan(network, x, y, steps=10, sparsity=0.01)
    print("trained:", edge_scores(network, x).summary())

    pruned = KANPruning(node=0.1, edge=0.1).compress(network, [(x, y)])
    train_kan(pruned, x, y, steps=6)
    named = snap(pruned, x)
    losses = train_kan(named, x, y, steps=10, update_grid=False)
    error = losses[-1] ** 0.5
    print(f"pruned to {pruned.widths}; named and trained on, the error is {error:.1e}")
    if error < 1e-6:
        break

found = formula(named, ["a", "b"], x)
print(found)
print(found.latex()[0])
