"""Gates per context, and weights less free to change the more earlier contexts need them, keep a long stream of tasks.

Barry, Gerstner & Bellec, 2023: GateON: an unsupervised method for large scale continual learning (arXiv 2306.01690).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import GateON
from neurarium.data import Batches, load, permuted_stream

torch.manual_seed(0)
stream = permuted_stream(load("mnist-small").flat().scaled(), tasks=3, seed=0)
model = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
strategy = GateON(model, max_contexts=8, leak=0.5)  # the gates become part of the model ...
optimizer = torch.optim.Adam(strategy.model.parameters(), 5e-3)  # ... so the optimizer comes after
strategy.attach(optimizer)

for number, task in enumerate(stream):
    strategy.begin_task(number)
    for x, y in Batches(task.train[:4000], 100, shuffle=True, seed=number):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

for number, task in enumerate(stream):
    right = strategy.predict(task.test.x, context=number).argmax(1) == task.test.y
    print(f"task {number + 1}: {right.double().mean():.3f}")
print(strategy.occupancy(), strategy.gate_overlap())
