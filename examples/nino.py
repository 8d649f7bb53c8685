"""A network that has watched other networks train jumps ahead in training, and saves optimizer steps.

Knyazev et al., 2024: Accelerating Training with Neuron Interaction and Nowcasting Networks (arXiv 2409.04434).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, Trajectory, TrajectoryDataset, load, record
from neurarium.learning import Backprop, Nowcaster, fit_forecaster
from neurarium.models import NiNo, neural_graph
from neurarium.training import fit

split = load("digits").scaled().flat()
batches = Batches(split.train, 64, shuffle=True)


def build():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


runs = []
for number in range(3):  # once: record runs of the family ...
    model = build()
    with record(model, f"run{number}.npy", spacing=10) as recorder:
        fit(
            Backprop(model, cross_entropy),
            batches,
            torch.optim.Adam(model.parameters(), 3e-3),
            epochs=8,
            callbacks=[recorder],
        )
    runs.append(Trajectory.load(f"run{number}.npy", model))

nino = NiNo(horizon=4, hidden=16, layers=2, final_edge_update=True)  # ... and learn to forecast them
fit_forecaster(nino, TrajectoryDataset(runs, horizon=4), steps=30)
nino.save("nino.safetensors")

model = build()  # every later run
optimizer = Nowcaster(torch.optim.Adam(model.parameters(), 3e-3), model, nino, period=50, max_steps=160)
fit(Backprop(model, cross_entropy), batches, optimizer, epochs=8)
print(optimizer, neural_graph(model).kinds())
