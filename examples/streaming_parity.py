"""A recurrent network that learns parity becomes a finite automaton, which can be read off its states.

van Rossem and Saxe, 2025: Algorithm Development in Neural Networks (arXiv 2507.09897).
"""

import torch
from torch import nn
from torch.nn.functional import one_hot

from neurarium.data import Batches, streaming_parity
from neurarium.learning import Backprop
from neurarium.models import SequenceReadout
from neurarium.probes import extract_automaton
from neurarium.training import fit

longest, epochs = 4, 40  # 7 and 450 for a network that is right on words of 10,000 bits
generator = torch.Generator().manual_seed(0)
cell = nn.RNN(2, 100, nonlinearity="relu", batch_first=True)
model = SequenceReadout(cell, nn.Linear(100, 2), initial=1.0, gain=0.1, generator=generator)
rule = Backprop(model, lambda output, y: (output[:, -1] - one_hot(y, 2)).square().sum(1).mean() / 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(epochs):
    for part in streaming_parity(longest):
        loss = fit(rule, Batches(part, 128, shuffle=True, seed=epoch), optimizer)[-1]

print(f"loss {loss:.4f}")
for tolerance in (0.01, 0.03, 0.1):
    print(f"within {tolerance}:", extract_automaton(model, 2, longest, tolerance).summary())
