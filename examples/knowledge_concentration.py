"""One network taught by a specialist per group of classes knows more than the same network taught by labels.

Gao et al., 2017: Knowledge Concentration: Learning 100K Object Classifiers in a Single CNN (arXiv 1711.07607).
"""

import torch
from torch import nn

from neurarium.compression import KnowledgeConcentration, vertical_precision
from neurarium.data import LabelTree
from neurarium.layers import SelfPacedLogits, StructuredHead

torch.manual_seed(0)
tree = LabelTree({"birds": ["wren", "finch", "bird"], "cars": ["van", "cab"]}, {"wren": ["bird"], "finch": ["bird"]})
y = torch.randint(5, (500,))
x = 3 * torch.randn(5, 8)[y] + torch.randn(500, 8)
teachers = {}
for name, part in zip(tree.names, tree.slices()):  # a specialist per vertical, on its own examples
    teachers[name] = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, part.stop - part.start))
    own = tree.vertical(y) == tree.names.index(name)
    optimizer = torch.optim.Adam(teachers[name].parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(teachers[name](x[own]), tree.expand(y[own])[:, part]).backward()
        optimizer.step()

student = nn.Sequential(
    nn.Linear(8, 32), nn.ReLU(), StructuredHead(32, tree.sizes, (16, 8)), SelfPacedLogits(tree.sizes)
)
loader = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 500, 50)]
KnowledgeConcentration(teachers, tree).compress(student, loader, epochs=20, learning_rate=1e-2)
print(vertical_precision(student(x), y, tree))
