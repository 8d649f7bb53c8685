"""Three activations let a network with weights of one sign fit any monotonic function, at no cost in accuracy.

Runje, Shankaranarayana, 2022: Constrained Monotonic Neural Networks (arXiv 2205.11775).
"""

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn

from neurarium.models import MonotonicRegressor, constrain
from neurarium.probes import certify, monotonicity_violations

x, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)

# An estimator: the prediction cannot fall when the body mass index or the blood pressure rises.
model = MonotonicRegressor(monotone={"bmi": 1, "bp": 1}, random_state=0).fit(x_train, y_train)
print(f"R2 {model.score(x_test, y_test):.2f}")
directions = [int(name in ("bmi", "bp")) for name in x]
print(certify(model.net_, directions).summary())  # a proof, for all inputs

# A network of your own, held in the same way.
network = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
held = constrain(network, directions)
rows = torch.randn(1000, 10)
print("before:", monotonicity_violations(network, rows, directions).summary())
print("after:", monotonicity_violations(held, rows, directions).summary())
