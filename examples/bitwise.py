"""Networks of integer weights learn by training the bits, few of the bits are enough, and the rest can hold anything.

Ivan, 2022: Bit-wise Training of Neural Network Weights (arXiv 2202.09571).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import capacity, read, store
from neurarium.data import Batches, load
from neurarium.layers import bitwise, to_dense, to_integers
from neurarium.learning import Backprop
from neurarium.probes import bit_report
from neurarium.training import evaluate, fit

torch.manual_seed(0)
digits = load("digits").scaled().flat()
model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
bitwise(model, bits=32, trainable=3)  # in place; sign and the two highest magnitude bits learn
message = b"twenty-nine bits of each weight are free" * 100
store(model, message)  # before training, which goes around it
print(f"{capacity(model):,} bytes fit")

optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
fit(Backprop(model, cross_entropy), Batches(digits.train, 64, shuffle=True), optimizer, epochs=10)
print(evaluate(model, Batches(digits.test, 500)))
assert read(model) == message
print(bit_report(model).summary())
dense = to_dense(model)  # an ordinary module, the same outputs
integers, alpha = to_integers(model)["0"]  # int32; the weight is alpha times it
