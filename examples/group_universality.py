"""Two networks learn to multiply in a group: which representations did each form, and what are they worth?

python examples/group_universality.py --group dihedral --size 7 --steps 3000
"""

import argparse

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import FiniteGroup, word_task
from neurarium.learning import Backprop
from neurarium.models import HadamardNet
from neurarium.probes import ablate_representations, representation_evidence, universality
from neurarium.training import fit

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--group", default="symmetric", choices=("cyclic", "dihedral", "symmetric", "alternating"))
parser.add_argument("--size", type=int, default=4)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--steps", type=int, default=500)
options = parser.parse_args()

group = getattr(FiniteGroup, options.group)(options.size)
task = word_task(group, "ab", 0.8, generator=torch.Generator().manual_seed(0))
networks = []
for seed in (0, 1):
    net = HadamardNet(group.order, options.width, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, betas=(0.9, 0.98), weight_decay=1.0)
    fit(Backprop(net, cross_entropy), [(task.train.x, task.train.y)], optimizer, epochs=options.steps)
    found = representation_evidence(net, group, hidden="unembed:input")
    print(f"seed {seed}: {found.summary()}")
    for name in found.key:
        print("  ", ablate_representations(net, group, remove=[name], at={"unembed:input": "ab"}).summary())
    networks.append(net)
print(universality(networks, group).summary())
