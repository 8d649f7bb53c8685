"""Two policies that edit a teacher's layers find students a tenth of its size that are nearly as accurate.

Ashok et al., 2017: N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning (arXiv
1709.06030).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import N2N, EarlyStoppingN2N, account, ask_teacher
from neurarium.learning import Backprop
from neurarium.search import (
    ActorCriticShrinkSearch,
    LayerShrinkSearch,
    UnidirectionalRemovalPolicy,
)
from neurarium.training import evaluate, fit

torch.manual_seed(0)
x = torch.randn(300, 1, 8, 8)
y = (x[:, 0, :4].mean((1, 2)) > x[:, 0, 4:].mean((1, 2))).long()
batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 300, 50)]
teacher = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 32),
    nn.ReLU(),
    nn.Linear(32, 2),
)
fit(Backprop(teacher, cross_entropy), batches, torch.optim.Adam(teacher.parameters(), 3e-3), epochs=10)

n2n = N2N(removal_iterations=2, shrink_iterations=3, epochs=2, final_epochs=10, max_parameters=4_000)
student = n2n.compress(teacher, batches)
print(evaluate(teacher, batches), account(teacher, x[:1]).parameters)
print(evaluate(student, batches), account(student, x[:1]).parameters)
again = N2N(
    0, 1, final_epochs=1, policies=(None, n2n.searches[-1].policy)
)  # what was learnt here starts another search

search = LayerShrinkSearch(teacher, x[:1], teacher_accuracy=0.95, students_per_update=2)
for _ in range(4):
    candidate = search.ask()
    search.tell(candidate, 0.9 if candidate.model is not None else None)  # your training goes here
print(search.best())

variant = EarlyStoppingN2N(
    2, 2, epochs=3, look=1, least=0.55, final_epochs=5, policies=(UnidirectionalRemovalPolicy(), None)
)
variant.compress(teacher, batches)
print(f"{variant.stopped} students were given up")
answers = ask_teacher(teacher, batches)
search = ActorCriticShrinkSearch(teacher, x[:1], teacher_accuracy=answers.accuracy, students_per_update=5)
for _ in range(2):
    variant.iterate(
        search, answers, answers
    )  # asks for five students, trains them, tells their accuracy (here on the training examples)
print(search.best(), search.errors)
