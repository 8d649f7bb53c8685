"""A few rounds along the residual path replace the backward pass through all layers.

Fagnou, Caillon, Delattre and Allauzen, 2025: Accelerated Training through Iterative Gradient Propagation Along the
Residual Path (arXiv 2501.17086).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.layers import Residual
from neurarium.learning import HighwayBackprop
from neurarium.probes import path_spectrum

torch.manual_seed(0)
x = torch.randn(512, 20)
y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def block():
    return Residual(nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)))


model = nn.Sequential(nn.Linear(20, 32), *(block() for _ in range(12)), nn.Linear(32, 4))
rule = HighwayBackprop(model, cross_entropy, iterations=2)  # finds the residual blocks; 2 rounds for 12 of them
optimizer = torch.optim.Adam(rule.parameters(), lr=1e-3)
for _ in range(40):
    optimizer.zero_grad()
    rule.assign_credit(x, y)  # in place of loss.backward()
    optimizer.step()
print(float((rule(x).argmax(1) == y).float().mean()))
print(path_spectrum(rule, x, y).summary())  # which orders of paths carry the gradient


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


rule = HighwayBackprop(Reader(), cross_entropy, iterations=5)
rule.assign_credit(torch.randn(8, 100, 4), torch.randint(2, (8,)))
rule.iterations = 10  # at any time
