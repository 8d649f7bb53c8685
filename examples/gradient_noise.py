"""Annealed gradient noise starts networks that would never start from a bad initialisation.

Neelakantan et al., 2015: Adding Gradient Noise Improves Learning for Very Deep Networks (arXiv 1511.06807).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import Backprop, GradientNoise
from neurarium.models import plain_mlp
from neurarium.training import fit

digits = load("digits").scaled().flat()
rule = Backprop(plain_mlp(64, 10, width=32, depth=4, init="zero"), cross_entropy)
optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
noise = GradientNoise(eta=0.1, max_norm=10.0)
handle = noise.attach(optimizer)  # handle.remove() ends it
fit(rule, Batches(digits.train, 32, shuffle=True), optimizer, epochs=2)
print(f"noise of deviation {noise.sigma(noise.step):.3f} after {noise.step} steps")
