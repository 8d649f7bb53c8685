"""Which units of one network are units of another, trained from another seed, and what the controls say to it.

python examples/convergent_learning.py --data fashion-mnist --images 12000 --hidden 128
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.probes import co_cluster, match_units, sparse_mapping, unit_correlations
from neurarium.training import fit

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", default="mnist-small")
parser.add_argument("--images", type=int, default=3000)
parser.add_argument("--hidden", type=int, default=32)
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()

data = load(options.data).scaled().flat()
train, test = data.train[: options.images], Batches(data.test[:1000], 250)
networks = []
for seed in (0, 1):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(train.x.shape[1], options.hidden), nn.ReLU(), nn.Linear(options.hidden, len(data.classes))
    )
    loader = Batches(train, 50, shuffle=True, seed=seed)
    fit(Backprop(model, cross_entropy), loader, torch.optim.Adam(model.parameters(), lr=1e-3), epochs=options.epochs)
    networks.append(model)

table = unit_correlations(*networks, test, layers_a=["1"])[0]
for result in (match_units(table), match_units(table, "greedy"), sparse_mapping(table), co_cluster(table)):
    print(result.summary())
for control in ("untrained", "rotation", "shuffle"):
    found = unit_correlations(*networks, test, layers_a=["1"], control=control)[0]
    print(f"{control}: {match_units(found).summary()}")
