"""A convolutional network meets two targets with its own symmetry: an easy one, and one that gradients hardly see.

python examples/hardness_symmetries.py --steps 3000
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import mse_loss

from neurarium.data import cyclic_shifts, subset_parity
from neurarium.models import GroupAveraged
from neurarium.theory import correlation_matrix, csq_lower_bound, gradient_signal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=150)
options = parser.parse_args()

shifts = cyclic_shifts(8)
families = {2: [(0, 1), (0, 2), (0, 3)], 4: [(0, 1, 2, 3), (0, 1, 3, 4), (0, 2, 4, 6)]}
for k, subsets in families.items():
    targets = [subset_parity(8, subset, shifts) for subset in subsets]
    torch.manual_seed(0)
    model = GroupAveraged(nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 1)), shifts)
    inputs = targets[0].sample(4000, torch.Generator().manual_seed(1))
    print(f"k = {k}: {correlation_matrix(targets, inputs).summary()}")
    print(f"  gradient before training: {gradient_signal(model, mse_loss, targets, inputs).summary()}")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(options.steps):
        x = torch.randn(128, 8)
        optimizer.zero_grad()
        mse_loss(model(x)[:, 0], targets[0](x)).backward()
        optimizer.step()
    with torch.no_grad():
        print(f"  after {options.steps} steps: R² {1 - float(mse_loss(model(inputs)[:, 0], targets[0](inputs))):.3f}")
print(f"1,000,000 uncorrelated targets, tolerance 0.01: {csq_lower_bound(1e6, 0.01):.0f} queries at least")
