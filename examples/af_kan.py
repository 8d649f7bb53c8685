"""Digits with AF-KAN and with a perceptron of the same size: accuracy, parameters, seconds."""

import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.layers import ActivationKANLinear
from neurarium.learning import Backprop
from neurarium.training import evaluate, fit

digits = load("digits").scaled().flat()
torch.manual_seed(0)
models = {
    "af-kan": nn.Sequential(ActivationKANLinear(64, 32), ActivationKANLinear(32, 10)),
    "perceptron": nn.Sequential(
        nn.LayerNorm(64), nn.SiLU(), nn.Linear(64, 32), nn.LayerNorm(32), nn.SiLU(), nn.Linear(32, 10)
    ),
}
for name, model in models.items():
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    began = time.perf_counter()
    fit(Backprop(model, cross_entropy), Batches(digits.train, 64, shuffle=True, seed=0), optimizer, epochs=8)
    accuracy = evaluate(model, Batches(digits.test, 256))
    count = sum(p.numel() for p in model.parameters())
    print(f"{name}: accuracy {accuracy:.3f}, {count} parameters, {time.perf_counter() - began:.1f} s")
