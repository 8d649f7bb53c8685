"""Which lengths a sequence model goes on to is decided by its memory.

Delétang et al., 2022: Neural Networks and the Chomsky Hierarchy (arXiv 2207.02098).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import FormalBatches, UniformLengths, formal_tasks
from neurarium.models import StackRNN, reversing_stack
from neurarium.probes import length_curve, memory_film

torch.manual_seed(0)
task = formal_tasks["reverse_string"]
model = StackRNN(task.channels, task.answers, hidden_size=64)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for x, y in FormalBatches(task, UniformLengths(6), batch_size=32, steps=150):  # raise steps to 600 to see it solved
    loss = cross_entropy(model(x)[:, -y.shape[1] :].flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

print("trained:", length_curve(model, task, (4, 6, 8, 12), samples=64, trained=6).summary())
print("by hand:", length_curve(reversing_stack(), task, (6, 100), samples=64, trained=6).summary())
x, y, _ = task.sample(1, 6, torch.Generator().manual_seed(0))
print(memory_film(reversing_stack(), x).summary())
