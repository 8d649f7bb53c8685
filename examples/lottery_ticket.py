"""A sparse sub-network trains as well as the whole network, but only from its original initial values.

Jonathan Frankle, Michael Carbin, 2018: The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks
(arXiv 1803.03635).
"""

import torch
from torch import nn
from torch.nn import functional as F

from neurarium.compression import LotteryTicket, account, find_ticket
from neurarium.layers import sparsify

torch.manual_seed(0)
x = torch.randn(512, 20)
y = x[:, :4].argmax(1)
model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))


def train(network, ticket):  # your own loop; one line is new
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    ticket.attach(optimizer)  # pruned weights stay exactly zero
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    return {"accuracy": float((network(x).argmax(1) == y).float().mean())}


ticket = LotteryTicket(model, rate=0.4)  # before training: it remembers the initial values
for found in find_ticket(ticket, train, rounds=5):
    print(f"round {found.round}: trained to {found.metrics['accuracy']:.3f}, {found.density:.1%} left")

control = ticket.reinitialized(seed=1)  # same mask, new initial values
print("ticket", train(ticket.model, ticket), "control", train(control.model, control))
print(account(sparsify(ticket.model).model, x[:1]).summary())
