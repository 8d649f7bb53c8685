"""The training objective falls almost monotonically on the straight line from initial to final parameters.

Goodfellow, Vinyals, Saxe, 2014: Qualitatively characterizing neural network optimization problems (arXiv 1412.6544).
"""

import copy

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.probes import (
    TrajectoryRecorder,
    align_units,
    loss_along_line,
    loss_around_run,
)
from neurarium.training import accuracy, fit

data = load("mnist-small").scaled().flat()
train, fixed = data.train[:3000], Batches(data.train[:1000], 500)


def solution(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    start = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    recorder = TrajectoryRecorder(model, every=10)
    recorder.attach(optimizer)
    fit(Backprop(model, cross_entropy), Batches(train, 100, shuffle=True, seed=seed), optimizer, epochs=5)
    return start, model, recorder.decompose()


start, first, run = solution(0)
print(loss_along_line(first, cross_entropy, fixed, start, first, metric=accuracy).summary())
print(run.summary())

second = solution(1)[1]
aligned = align_units(second, first, train.x[:16])
for end in (second, aligned):
    print(loss_along_line(first, cross_entropy, fixed, first, end).barrier)

surface = loss_around_run(first, cross_entropy, fixed, run)  # surface.plot(ax), then run.plot(ax)
print(surface.summary())
