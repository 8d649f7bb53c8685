"""Train a network by its name on few digits, as they are and distorted anew in every epoch."""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, Distort, load
from neurarium.layers import SkippingConv2d
from neurarium.learning import Backprop
from neurarium.models import FlexibleCNN
from neurarium.training import evaluate, fit

digits = load("mnist-small").map_inputs(lambda x: x.unsqueeze(1).float() / 127.5 - 1)
few = digits.train.subset(200)
distort = Distort(
    translate=0.05, rotate=15, scale=0.15, elastic=(6.0, 36.0), generator=torch.Generator().manual_seed(0)
)

for name, loader in (
    ("as they are", Batches(few, 8, shuffle=True, seed=0)),
    ("distorted", distort.batches(Batches(few, 8, shuffle=True, seed=0))),
):
    # 8 maps of 5 x 5, 16 that read 4 of these each, a hidden layer of 50 units
    model = FlexibleCNN(
        "8M-16M-50N", 1, 28, 10, kernels=5, pools=2, connections=(None, 4), generator=torch.Generator().manual_seed(0)
    )
    fit(Backprop(model, cross_entropy), loader, torch.optim.SGD(model.parameters(), 0.04), epochs=20)
    print(f"{name}: {1 - evaluate(model, Batches(digits.test[:500], 500)):.3f} of the test digits wrong")

table = model[3]
assert isinstance(table, SkippingConv2d)
print(table, sum(p.numel() for p in table.parameters()), "parameters")
