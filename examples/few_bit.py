"""Three bits per element are enough for the backward pass of an activation function.

Novikov et al., 2022: Few-Bit Backward: Quantized Gradients of Activation Functions for Memory Footprint Reduction
(arXiv 2202.00441).
"""

import torch
from torch import nn

from neurarium.compression import calibrate, convert_activations
from neurarium.layers import FewBitGELU, optimal_derivative

layer = nn.Sequential(nn.Linear(64, 256), FewBitGELU(bits=3), nn.Linear(256, 64))
layer(torch.randn(8, 64)).square().mean().backward()

table = optimal_derivative(nn.functional.silu, bits=2)  # any elementwise function
print(table.thresholds, table.levels, table.error)

encoder = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True)
x = torch.randn(4, 16, 64)
done = convert_activations(encoder, bits=3, example=x)
print(done.summary())
assert torch.allclose(done.model(x), encoder(x), atol=1e-6)

# thresholds for the inputs that the network really has
weights = calibrate(encoder, [(x, x)])
fitted = convert_activations(encoder, bits=2, weights=weights).model
