"""Training the few per cent of neurons that a task turns matches full fine-tuning.

Xu et al., 2024: Let's Focus on Neuron: Neuron-Level Supervised Fine-tuning for Large Language Model (arXiv 2403.11621).
"""

import copy

import torch

from neurarium.compression import NeuronFineTuning, neft, sensitive_neurons
from neurarium.models import CausalTransformer
from neurarium.objectives import response_labels, response_loss
from neurarium.probes import (
    neuron_output_similarity,
    neuron_rank_shift,
    neuron_similarity,
)

torch.manual_seed(0)
model = CausalTransformer(num_tokens=20, d_model=32, nhead=4, num_layers=2, dim_feedforward=64, context=16)
tokens = torch.randint(20, (64, 16))
tokens[:, 8:] = tokens[:, :8]  # the task: say the prompt again
labels = response_labels(tokens, starts=8)  # the prompt does not count in the loss


def train(model, parameters, steps):
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(steps or 60):
        optimizer.zero_grad()
        response_loss(model(tokens), labels).backward()
        optimizer.step()


tuned, neurons = neft(model, train, fraction=0.06, probe_steps=20)
print(neurons, *(response_loss(m(tokens), labels).item() for m in (model, tuned)))

print(neuron_similarity(model, tuned).summary())
neurons = sensitive_neurons(model, tuned, fraction=0.03)
manager = NeuronFineTuning(model, neurons)  # in place: everything else is frozen
optimizer = torch.optim.AdamW(manager.parameters(), lr=1e-2)
print(manager.trainable_count())
response_loss(model(tokens), labels).backward()
optimizer.step()
manager.merge()  # a plain model again

base, full, few = (copy.deepcopy(model) for _ in range(3))
train(full, list(full.parameters()), 60)
few, neurons = neft(base, train, probe_steps=20)
outputs = neuron_output_similarity(base, few, [tokens])  # what every neuron gives, before and after
print(neuron_rank_shift(neuron_similarity(base, full), neuron_similarity(base, few), neurons, outputs).summary())
