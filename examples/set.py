"""A network that is sparse from the start and rewires itself learns as well as a dense one with 60 times the weights.

Mocanu et al., 2017: Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired by
Network Science (arXiv 1707.04780).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import (
    SparseEvolution,
    SparseEvolutionaryTraining,
    random_sparse,
)
from neurarium.learning import Backprop
from neurarium.probes import degree_distribution
from neurarium.training import fit

torch.manual_seed(0)
x = torch.zeros(600, 100)
x[:, :10] = torch.randn(600, 10)  # 10 inputs of 100 say something
y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 600, 50)]

dense = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 3))
model = random_sparse(dense, epsilon=3.0).model  # 3 (100 + 100) of 10,000 connections
optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
evolution = SparseEvolution(model, optimizer, every=len(batches), steps=20 * len(batches))
fit(Backprop(model, cross_entropy), batches, optimizer, epochs=20, callbacks=[evolution])

degrees = degree_distribution(model[0])
print(degrees.summary())
print(degrees.inputs[:10].float().mean(), degrees.inputs[10:].float().mean())
print((model(x).argmax(1) == y).float().mean())

small = SparseEvolutionaryTraining(density=0.05, epochs=10).compress(dense, batches)
print(small[0])
