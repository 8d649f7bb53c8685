"""What does my small network do? Print it as the tree that it is, and see where it decides."""

import torch
from sklearn.datasets import make_moons
from torch import nn

from neurarium.probes import decision_tree, local_affine

points, labels = make_moons(400, noise=0.1, random_state=0)
x, y = torch.tensor(points).float(), torch.tensor(labels).float()[:, None]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(400):
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
    optimizer.step()

tree = decision_tree(model, (-3.0, 3.0), decisions="argmax")
print(tree.summary())
print(tree.to_text(digits=2))
print("share of the data that tree and network see differently:", tree.verify(x))
print(local_affine(model, x).summary())
