"""Units that three image networks share, drawn beside each other, and what is left of them with the images shuffled.

python examples/rosetta_neurons.py --data fashion-mnist --images 12000 --figure shared.png
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import Backprop
from neurarium.probes import mine_rosetta
from neurarium.training import fit

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", default="mnist-small")
parser.add_argument("--images", type=int, default=1000)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--figure", default="", help="draw the best shared unit into this file")
options = parser.parse_args()

data = load(options.data).scaled().map_inputs(lambda x: x.unsqueeze(1))
networks = []
for seed, channels in enumerate((8, 8, 16)):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, channels, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, len(data.classes)),
    )  # fmt: skip
    train = Batches(data.train[: options.images], 50, shuffle=True, seed=seed)
    fit(Backprop(model, cross_entropy), train, torch.optim.Adam(model.parameters(), lr=3e-3), epochs=options.epochs)
    networks.append(model)

images = Batches(data.test[:300], 100)
models = {"other seed": networks[1], "wider": networks[2]}
found = mine_rosetta(networks[0], models, images)
print(found.summary())
for entry in found.entries()[:5]:
    print(entry["places"], {name: round(score, 2) for name, score in entry["scores"].items()})
print("images shuffled:", mine_rosetta(networks[0], models, images, shuffle=True).summary())

if options.figure:
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 6))
    found.plot(ax)
    figure.savefig(options.figure, dpi=150)
