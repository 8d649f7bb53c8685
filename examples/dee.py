"""An ensemble of linear experts behind a differentiable gate learns classes one by one, in one pass, without replay.

Wójcik et al., 2022: Neural Architecture for Online Ensemble Continual Learning (arXiv 2211.14963).
"""

import torch

from neurarium.continual import DifferentiableEnsemble
from neurarium.data import load, split_stream

torch.manual_seed(0)
digits = load("digits").flat().scaled()  # features: here simply the 64 pixels
learner = DifferentiableEnsemble(num_experts=32, k=6, balance=0.03)
for task in split_stream(digits, 1, order_seed=0):  # one class after another
    for x, y in zip(task.train.x.split(10), task.train.y.split(10)):
        learner.observe(x, y)  # each example once; predict works from here on

right = learner.predict(digits.test.x).argmax(1) == digits.test.y
print(f"{right.double().mean():.3f} of ten classes, {learner.experts_used():.1f} experts do the work")
learner.forget_class(3)  # others do not change, bit for bit
