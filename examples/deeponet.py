"""Learn the antiderivative from 300 functions, ask it for one that was never seen, and for its derivative."""

import math

import torch
from torch.nn.functional import mse_loss

from neurarium.data import OperatorBatches, antiderivative, gaussian_field, operator_data
from neurarium.learning import Backprop
from neurarium.models import DeepONet, place_gradient
from neurarium.objectives import relative_l2
from neurarium.training import evaluate, fit

draw = torch.Generator().manual_seed(0)
u = gaussian_field(400, length=0.2, points=200, generator=draw)  # 400 random functions on [0, 1]
data = operator_data(u, antiderivative(u), sensors=50)  # read at 50 sensors; answers at 200 places
train, test = data[:300], data[300:]

torch.manual_seed(0)
model = DeepONet.mlp(sensors=50, width=40)
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
batches = OperatorBatches(train, functions=100, shuffle=True)
fit(Backprop(model, mse_loss), batches, optimizer, epochs=200)
print(f"relative error on new functions: {evaluate(model, OperatorBatches(test, 100), relative_l2):.1%}")

x = torch.linspace(0, 1, 50)
places = torch.tensor([[0.25], [0.5], [1.0]], requires_grad=True)
answers = model(torch.sin(2 * math.pi * x)[None], places, aligned=True)
slopes = place_gradient(answers, places)  # of the antiderivative: the function itself
for y, s, slope in zip(places.flatten().tolist(), answers.flatten().tolist(), slopes.flatten().tolist(), strict=True):
    truth, function = (1 - math.cos(2 * math.pi * y)) / (2 * math.pi), math.sin(2 * math.pi * y)
    print(f"at {y:.2f}: {s:.3f} (truth {truth:.3f}), slope {slope:.2f} (truth {function:.2f})")
