"""The contract of compressors."""

from __future__ import annotations

import copy
import io

import torch
from torch.nn.functional import cross_entropy

from neurarium.compression import Compressor, account
from neurarium.learning import Backprop
from neurarium.testing.contract import blobs, require, same, seeded
from neurarium.testing.learning import mlp
from neurarium.training import accuracy, fit


def check_compressor(compressor_class: type[Compressor]) -> None:
    """Hold a compressor to the contract: built without arguments, it makes a trained network smaller yet useful.

    A class that works on some networks only says so with a static method ``example()``, which makes one with 8 inputs
    and 3 outputs.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    model = seeded(0, getattr(compressor_class, "example", mlp))
    x, y = blobs(examples=240)
    loader = [(x[i : i + 48], y[i : i + 48]) for i in range(0, len(x), 48)]
    fit(Backprop(model, cross_entropy), loader, torch.optim.Adam(model.parameters(), 1e-2), epochs=20)
    before = copy.deepcopy(model.state_dict())
    smaller = seeded(1, lambda: compressor_class().compress(model, loader))
    require(smaller is not model, compressor_class, "must return another module than the one it was given")
    require(same(before, model.state_dict()), compressor_class, "must leave the model it is given untouched")
    cost, full = account(smaller, x[:1]), account(model, x[:1])
    require(cost.nonzero < full.nonzero, compressor_class, "must leave fewer weights that are not zero")
    with torch.no_grad():
        reached = float(accuracy(smaller.eval()(x), y))
    require(reached > 0.8, compressor_class, f"must keep the network useful (accuracy {reached:.2f} of 0.80)")
    file = io.BytesIO()
    torch.save(smaller.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(smaller)
    twin.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        require(same(smaller(x), twin(x)), compressor_class, "must give a module that saves and loads in plain torch")
