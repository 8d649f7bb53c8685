"""Pre-train on bent slices of a made-up head without labels, and find its landmarks and its parts again."""

import torch
from torch import nn

from neurarium.data import ellipsoid_template, synthetic_subjects
from neurarium.objectives import PartWholeObjective, PartWholeViews, coarse_to_fine
from neurarium.probes import composability, localizability

generator = torch.Generator().manual_seed(0)
subjects = synthetic_subjects(ellipsoid_template(32), 200, deform=0.06, generator=generator)
x = (subjects.images[:, None] - 0.3) / 0.2

torch.manual_seed(0)
stages = [
    nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU())
    for a, b in ((1, 16), (16, 32), (32, 32))
]
backbone = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(32, affine=False))
steps = 80
objective = PartWholeObjective(
    backbone, 32, prototypes=128, hidden_dim=128, bottleneck_dim=64, momentum=0.99, warm_up_steps=20, total_steps=steps
)
views = PartWholeViews(24, 16, local_views=4, margin=0, generator=generator)
optimizer = torch.optim.AdamW(objective.parameters(), 3e-3, weight_decay=0.04)

places = torch.tensor([[9, 16], [16, 9], [16, 23], [23, 16]]).expand(40, 4, 2)  # nearly the same in all subjects


def report() -> None:
    """What the encoder is worth on subjects that it never saw."""
    print(composability(objective.encoder, x[160:], size=24).summary())
    print(localizability(objective.encoder, x[160:], places, patch=12, size=24).summary())


report()
for step in range(steps):
    rows = torch.randint(160, (32,), generator=generator)
    loss = objective(views(x[rows], coarse_to_fine(step, (10, 70))))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print({name: round(float(part), 3) for name, part in objective.last.items()})
report()
