"""Small students that share out a teacher's representation beat one distilled student of their total size.

Malik et al., 2021: Teacher-Class Network: A Neural Network Compression Mechanism (arXiv 2004.03281).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import TeacherClass, record
from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.training import evaluate, fit

torch.manual_seed(0)
digits = load("digits").scaled().flat()
loader = Batches(digits.train, 64, shuffle=True)
teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
fit(Backprop(teacher, cross_entropy), loader, torch.optim.Adam(teacher.parameters(), 1e-3), epochs=15)

small = TeacherClass(students=4, budget=1 / 3).compress(teacher, loader)  # the teacher is left as it is
print(evaluate(teacher, Batches(digits.test, 500)), evaluate(small, Batches(digits.test, 500)))
print(small.account(teacher, digits.test.x[:1]).summary())  # in all, and what one device has to do
print(small.latency(digits.test.x[:1]).parallel)  # milliseconds, each student on a device
answers = record(teacher, Batches(digits.test, 500))
print(small.chunk_fit(digits.test.x, answers.representation))  # r² of each student's part
print(evaluate(small.drop(2), Batches(digits.test, 500)))  # one student is gone
other = small.new_head(2)  # the same students for another task
