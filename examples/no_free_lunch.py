"""How many bits the labels of a data set take, and what a language model with random weights expects.

Goldblum et al., 2023: The No Free Lunch Theorem, Kolmogorov Complexity, and the Role of Inductive Biases in Machine
Learning (arXiv 2304.05366).
"""

import itertools

import torch
from torch import nn

from neurarium.compression import label_code_length
from neurarium.data import Arrays, expression_sequences, load, repeat_complexity
from neurarium.models import CausalTransformer, SoftDegreePolynomial
from neurarium.probes import sequence_preference

digits = load("digits").scaled().flat()
torch.manual_seed(0)
noise = Arrays(digits.train.x, digits.train.y[torch.randperm(len(digits.train))])


def build() -> nn.Module:
    """A network for rows of 64 numbers."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


for name, data in {"digits": digits.train, "permuted labels": noise}.items():
    code = label_code_length(build, data, test=digits.test, dim=100, epochs=6, tuning_epochs=2, lr=0.02)
    print(f"{name}: {code.summary()}")

strings = torch.tensor(list(itertools.product((0, 1), repeat=8)))
decoders = [CausalTransformer(3, 32, 4, 3, 64, context=8) for _ in range(10)]
complexity = [repeat_complexity(row) for row in strings.tolist()]
print(sequence_preference(decoders, strings, complexity, start=2, symbols=(0, 1)).summary())
some = expression_sequences(3, 8)[100]
print("of three operators:", *some.values, "is", some.expression)

x = torch.rand(10)
y = torch.cos(4.7 * x) + 0.1 * torch.randn(10)
grid = torch.linspace(0, 1, 100)
for alpha in (0.0, 0.01):
    error = (SoftDegreePolynomial(10, alpha).fit(x, y)(grid) - torch.cos(4.7 * grid)).square().mean()
    print(f"degree 10 on ten points, alpha {alpha}: error {float(error):.3g}")
