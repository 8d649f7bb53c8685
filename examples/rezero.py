"""Residual branches scaled by one scalar that starts at zero train at depths where other networks stand still.

Bachlechner et al., 2020: ReZero is All You Need: Fast Convergence at Large Depth (arXiv 2003.04887).
"""

import torch
from torch import nn

from neurarium.layers import (
    ReZero,
    ReZeroTransformerEncoderLayer,
    alphas,
    parameter_groups,
    rezero_,
)
from neurarium.models import DeepMlp
from neurarium.probes import jacobian_spectrum

blocks = [ReZero(nn.Sequential(nn.Linear(32, 32), nn.ReLU())) for _ in range(100)]
model = nn.Sequential(nn.Linear(10, 32), *blocks, nn.Linear(32, 1))
# weight decay would hold the scalars at zero, so they get a group of their own
optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-3), weight_decay=0.01)
x = torch.randn(64, 10)
y = x[:, :1] * x[:, 1:2]
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
print(float(loss.detach()), max(float(a.abs().detach()) for a in alphas(model).values()))

layer = ReZeroTransformerEncoderLayer(d_model=32, nhead=4, dim_feedforward=64, batch_first=True)
encoder = nn.TransformerEncoder(layer, num_layers=12, enable_nested_tensor=False)

torch_layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
network = nn.TransformerEncoder(torch_layer, num_layers=12, enable_nested_tensor=False)
print(rezero_(network, remove_norms=True))
tokens = torch.randn(2, 7, 32)
assert torch.equal(network(tokens), tokens)

inputs = torch.randn(4, 64)
for block in ("plain", "residual", "pre-norm", "rezero"):
    blocks = DeepMlp(in_features=64, out_features=10, width=64, depth=64, block=block).blocks
    print(block, jacobian_spectrum(blocks, inputs).summary())
