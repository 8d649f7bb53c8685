"""Concepts with orthogonal subspaces of one latent space are independent (fair), with parallel ones nested.

Tucker and Shah, 2022: Prototype Based Classification from Hierarchy to Fairness (arXiv 2205.13997).
"""

import torch
from torch import nn

from neurarium.models import ConceptSubspaceNetwork, ConceptWeights
from neurarium.probes import (
    attribute_leakage,
    concept_slope,
    group_rates,
    prototype_tree,
)

torch.manual_seed(0)
x = torch.randn(400, 10)
targets = {
    "kind": (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long(),
    "side": (x[:, 0] > 0).long(),
    "group": (x[:, 2] > 0).long(),
}
encoder = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2 * 8))  # mean and log variance of 8 latents
model = ConceptSubspaceNetwork(
    encoder,
    latent_dim=8,
    concepts={"kind": 4, "side": 2, "group": 2},
    relations={("kind", "side"): -10.0, ("kind", "group"): 100.0},  # refine one, be blind to the other
    weights={name: ConceptWeights(classification=10.0, kl=1.0) for name in ("kind", "side", "group")},
)
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for step in range(200):
    optimizer.zero_grad()
    model.loss(x, targets).backward()
    optimizer.step()
print({pair: round(float(value.detach()), 3) for pair, value in model.alignment().items()})

model.eval()
with torch.no_grad():
    latents, _ = model.encode(x)
    outputs = model.classify(latents)
print(prototype_tree({name: model.prototypes(name) for name in ("kind", "side")}).summary())
for other in ("side", "group"):  # push the kind by its own gradient: what else moves?
    print(
        other,
        concept_slope(
            latents, targets["kind"], lambda z: model.classify(z)["kind"], lambda z: model.classify(z)[other]
        ).summary(),
    )
print(attribute_leakage(model.project("kind", latents), targets["group"]).summary())
print(group_rates(outputs["side"].argmax(1), targets["group"]).summary())
