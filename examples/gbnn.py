"""A network boosted a few units at a time generalises like the same network trained jointly, and can be cut short.

Emami and Martínez-Muñoz, 2019: Sequential Training of Neural Networks with Gradient Boosting (arXiv 1909.12098).
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from torch import nn

from neurarium.learning import (
    GradientBoostedHead,
    GradientBoostedNetworkClassifier,
    boost_head,
)

x, y = load_breast_cancer(return_X_y=True)
x, y = torch.tensor(scale(x)).float(), torch.tensor(y)
head = GradientBoostedHead(
    30, 1, units=40, units_per_step=2, shrinkage=0.1, loss="binary", generator=torch.Generator().manual_seed(0)
)
head.fit(x[:400], y[:400])
right = (head.staged(x[400:])[:, :, 0] > 0) == y[400:]
print(right.float().mean(1)[[0, 4, 9, 19]])  # accuracy after 1, 5, 10 and 20 steps
head.set_active(10)  # half of the units from here on
print(head(x[400:405]).flatten(), head.macs())
print(head.weld())  # Linear, Sigmoid, Linear: plain torch

network = GradientBoostedNetworkClassifier(units=20, units_per_step=2, shrinkage=0.2, random_state=0)
data = load_breast_cancer()
print(cross_val_score(make_pipeline(StandardScaler(), network), data.data, data.target, cv=3).mean())

body = nn.Sequential(nn.Linear(30, 16), nn.Tanh(), nn.Linear(16, 2))
boosted = boost_head(body, [(x[:400], y[:400])], units=20, shrinkage=0.2, max_iter=50)
print((boosted(x[400:]).argmax(1) == y[400:]).float().mean())
