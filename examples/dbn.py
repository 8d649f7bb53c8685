"""Learn digits without labels, dream of some, then learn to read them from 100 labels."""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.models import DeepBeliefNetwork, log_likelihood, log_partition
from neurarium.training import evaluate, fit

digits = load("digits").flat().map_inputs(lambda x: x.float() / 16)
generator = torch.Generator().manual_seed(0)
network = DeepBeliefNetwork((64, 100, 60), generator=generator)
network.pretrain(Batches(digits.train, 50, shuffle=True), epochs=10, generator=generator)

partition = log_partition(network.machines[0], "ais", chains=50, temperatures=200, generator=generator)
print(log_likelihood(network.machines[0], digits.test.x, partition))

for picture in network.sample(3, steps=200, generator=generator).reshape(3, 8, 8):
    print("\n".join("".join(" .:#"[int(3.99 * float(ink))] for ink in line) for line in picture), "\n")

model = network.to_classifier(10)  # shares the layers' weights
rule = Backprop(model, cross_entropy)
fit(rule, Batches(digits.train[:100], 20, shuffle=True), torch.optim.Adam(rule.parameters(), lr=3e-3), epochs=30)
print(f"accuracy from 100 labels: {evaluate(model, Batches(digits.test, 500)):.3f}")
