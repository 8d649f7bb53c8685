"""Few-shot curves: initial weights from which two gradient steps fit a new sine wave, by MAML and Reptile."""

import math

import torch
from torch import nn

from neurarium.objectives import psnr
from neurarium.search import LearnedInitialization

generator = torch.Generator().manual_seed(0)


def waves(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sine waves of random height and phase at ten points each: x and y [waves, 10, 1]."""
    x = 10 * torch.rand(count, 10, 1, generator=generator) - 5
    height = 0.1 + 4.9 * torch.rand(count, 1, 1, generator=generator)
    phase = math.pi * torch.rand(count, 1, 1, generator=generator)
    return x, height * torch.sin(x + phase)


for method, steps, rate in (("maml", 2, 0.01), ("reptile", 8, 0.02)):
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    start = LearnedInitialization(field, rate, steps, method)
    optimizer = torch.optim.Adam(start.parameters(), 1e-3)
    for step in range(301):
        x, y = waves(20)
        if step % 100 == 0:
            fitted = start.adapt(x, y, steps)
            seen = torch.stack([fitted.module(n)(x[n]).detach() for n in range(20)])
            print(f"{method}, {step} outer steps: {float(psnr(seen, y, peak=5).mean()):.2f} dB after {steps} steps")
        optimizer.zero_grad()
        start.assign_credit(x, y)
        optimizer.step()
