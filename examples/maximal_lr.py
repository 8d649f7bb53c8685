"""The largest learning rate with which a ReLU network can start to train is a power of depth times width.

Iyer, Hanin and Rolnick, 2022: Maximal Initial Learning Rates in Deep ReLU Networks (arXiv 2212.07295).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.models import plain_mlp
from neurarium.probes import learning_rate_law, maximal_learning_rate, sharpness
from neurarium.training import evaluate

digits = load("digits").scaled().flat()


def network(depth, width, seed=0):
    return plain_mlp(64, 10, depth=depth, width=width, generator=torch.Generator().manual_seed(seed))


rates = {}
for depth, width in ((2, 16), (2, 32), (3, 32)):
    found = maximal_learning_rate(
        lambda restart: network(depth, width, restart),
        cross_entropy,
        lambda restart: Batches(digits.train, 64, shuffle=True, seed=restart),
        lambda model: evaluate(model, Batches(digits.validation, 500)),
        threshold=0.4,
        chance=0.1,
        steps=120,
        low=0.5,
        tolerance=0.3,
        restarts=1,
    )
    rates[depth, width] = found.value
    print(depth, width, found.summary())
law = learning_rate_law(rates)
print(law.summary(), "-> suggested for 3 x 64:", 0.5 * law.predict(3, 64))
print(sharpness(network(2, 32), cross_entropy, digits.train.x[:256], digits.train.y[:256]).summary())
