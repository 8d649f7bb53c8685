"""What functions does my architecture compute before any training, and what did training make of it?"""

import torch
from torch import nn

from neurarium.layers import Sine
from neurarium.models import VariantMlp
from neurarium.probes import function_complexity, random_weight_complexity

architectures = {
    "relu": VariantMlp(depth=3, width=32),
    "tanh": VariantMlp(depth=3, width=32, activation=nn.Tanh),
    "sine": VariantMlp(depth=3, width=32, activation=Sine),
    "tanh, residual": VariantMlp(depth=3, width=32, activation=nn.Tanh, residual=True),
}
draw = torch.Generator().manual_seed(0)
sweep = random_weight_complexity(
    architectures, (-1, 1), scales=[0.3, 1, 3, 10], samples=4, resolution=32, generator=draw
)
print(sweep.summary())

model = architectures["relu"]
before = function_complexity(model, (-1, 1), resolution=32)
x = 2 * torch.rand(400, 2, generator=draw) - 1
y = torch.sin(9 * x[:, :1] + 4 * x[:, 1:])
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(300):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
print("before:", before.summary())
print("after: ", function_complexity(model, (-1, 1), resolution=32).summary())
