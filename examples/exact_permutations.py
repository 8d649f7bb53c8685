"""How many networks have to be averaged until eight permuted bits are right? Compute it, then train them at once.

Giapitzakis, Back de Luca and Fountoulakis, 2025: Exact Learning of Permutations for Nonzero Binary Inputs
(arXiv 2502.16763).
"""

import math

import torch

from neurarium.data import PermutationTask
from neurarium.models import NTKMLP
from neurarium.theory import permutation_output_law, required_ensemble_size
from neurarium.training import RunningMean, train_ensemble

K = 4
print("two ones:", permutation_output_law(K, ones=2))
print("networks for one input, for all:", required_ensemble_size(K, 0.01), required_ensemble_size(K, 0.01, "all"))

task = PermutationTask.draw(K, torch.Generator().manual_seed(0))
data, bits = task.train(), task.inputs()  # four unit vectors to learn from, fifteen inputs to answer
rate = K / (1 + (K - 1) / (2 * math.pi))
parts = train_ensemble(
    lambda: NTKMLP(K, 256, K),
    [(data.x, data.y)],
    lambda output, y: (output - y).square().sum() / 2,
    lambda p: torch.optim.SGD(p, rate),
    members=192,
    steps=25,
)
mean = RunningMean()
for part in parts:
    right = (mean.update(part.predict_all(task.scaled(bits))) > 0) == task.target(bits)
    print(f"{mean.count} networks: {right.all(1).double().mean():.2f} of the inputs are exact")
