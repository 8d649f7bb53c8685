"""Two tasks, one network: what it still knows of the first one, with and without elastic weight consolidation.

python examples/ewc.py --tasks 10 --data mnist --hidden 400
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC
from neurarium.data import Batches, load, permuted_stream
from neurarium.training import evaluate

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", default="digits")
parser.add_argument("--tasks", type=int, default=3)
parser.add_argument("--hidden", type=int, default=100)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--strength", type=float, default=100.0)
options = parser.parse_args()

stream = permuted_stream(load(options.data).scaled(), tasks=options.tasks, seed=0)
inputs, classes = stream[0].train.x[0].numel(), len(stream[0].classes)
for strength in (0.0, options.strength):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, options.hidden), nn.ReLU(), nn.Linear(options.hidden, classes)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ewc = EWC(model, strength=strength)
    for task, split in enumerate(stream):
        ewc.begin_task(task)
        for _ in range(options.epochs):
            for x, y in Batches(split.train, 32, shuffle=True):
                optimizer.zero_grad()
                (cross_entropy(model(x), y) + ewc.penalty()).backward()
                optimizer.step()
        ewc.end_task(Batches(split.train, 256))
    kept = [round(evaluate(model, Batches(split.test, 256)), 2) for split in stream]
    print(f"strength {strength:g}: accuracy on each task at the end {kept}")
