"""Does my network see as many parts as my data have? Count them in its decision region, width by width."""

from torch import nn

from neurarium.data import discs
from neurarium.probes import decision_region_homology
from neurarium.search import smallest_width

shapes = discs(4)
data = shapes.sample(600)


def build(width):
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


def right(model):
    found = decision_region_homology(model, (-1, 1), target=1)
    print(f"  {found.summary()}")
    return found.betti.numbers == shapes.betti


found = smallest_width(build, data, widths=[4, 32], seeds=range(2), success=right, steps=300)
print(found.summary())
