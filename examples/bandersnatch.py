"""Double a network's stages behind its activations, train all ends together, keep one path or let all vote."""

import torch
from torch import nn

from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.models import branching
from neurarium.objectives import best_head, combine, head_accuracies, heads_loss
from neurarium.training import evaluate, fit

digits = load("digits").scaled().flat()
torch.manual_seed(0)
network = nn.Sequential(
    nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
)
tree = branching(network, at=["1", "3"], branches=2, generator=torch.Generator().manual_seed(0))
print([len(level) for level in tree.levels], "copies of the stages")

train = Batches(digits.train[:300], 50, shuffle=True, seed=0)
fit(Backprop(tree, heads_loss), train, torch.optim.SGD(tree.parameters(), 0.1, momentum=0.9), epochs=30)

validation, test = Batches(digits.validation, 500), Batches(digits.test, 500)
best = best_head(tree, validation)
print("heads on test:", [round(float(a), 3) for a in head_accuracies(tree, test)])
print(f"head {best}, best on validation: {evaluate(tree.path(best), test):.3f}")
vote = (combine(tree(digits.test.x), "vote").argmax(1) == digits.test.y).float().mean()
print(f"vote of all: {float(vote):.3f}")
