"""Transformers train as well when every product of floats is an addition of their bits as integers.

Kosson & Jaggi, 2023: Multiplication-Free Transformer Training via Piecewise Affine Operations (arXiv 2305.17190).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.layers import pam, to_piecewise_affine
from neurarium.learning import PAMAdamW
from neurarium.models import CausalTransformer
from neurarium.probes import multiplication_report

print(pam.mul(torch.tensor([1.5, 4.5, 0.1]), torch.tensor([1.5, 3.0, 0.1])))  # 2.25, 13.5 and 0.01 would be true

torch.manual_seed(0)
model = CausalTransformer(num_tokens=30, d_model=16, nhead=2, num_layers=1, dim_feedforward=32, context=8)
conversion = to_piecewise_affine(model, "network")  # a copy; "matmul" for matrix products only
print(conversion)  # and what it could not convert
student = conversion.model

optimizer = PAMAdamW(student.parameters(), lr=2e-3)  # hyper-parameters stay
x, y = torch.randint(30, (4, 8)), torch.randint(30, (32,))


def step():
    optimizer.zero_grad()
    pam.cross_entropy(student(x).flatten(0, 1), y).backward()
    optimizer.step()


print(multiplication_report(step).summary())  # 0 multiplications
print(multiplication_report(lambda: cross_entropy(model(x).flatten(0, 1), y).backward()).summary())
