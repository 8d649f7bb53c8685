"""Networks of one shape that differ in their first weights, trained side by side in one batched pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays
from neurarium.training import copy_module

Loss = Callable[[Tensor, Tensor], Tensor]


def train_together(
    build: Callable[[], nn.Module], data: Arrays, seeds: Iterable[int], *, steps: int = 1500,
    learning_rate: float = 1e-2, loss: Loss = cross_entropy,
) -> list[nn.Module]:  # fmt: skip
    """Train one network per seed on all data at every step, by Adam; the rate falls to a tenth for the last 30 %.

    Each comes out as it would alone: no step mixes them. Torch's random state is left as it was.

    Args:
        build: makes a network, from torch's random state.
        data: all of it goes into every step; networks are put on its device.
        seeds: one network for each.
        steps: of the optimizer.
        learning_rate: of the first 70 %.
        loss: ``loss(model(x), y) -> scalar``.

    Raises:
        ValueError: no seeds, or networks of different shapes.
    """
    models = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.default_generator.manual_seed(seed)
            models.append(copy_module(build()).to(data.x.device).train())
    if not models:
        raise ValueError("seeds must name at least one network")
    try:
        parameters, buffers = stack_module_state(models)
    except RuntimeError as error:
        raise ValueError(f"build must make networks of one shape: {error}") from error
    base = copy_module(models[0])

    def one(weights: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
        return loss(functional_call(base, (weights, state), (data.x,)), data.y)

    losses = torch.vmap(one, randomness="different")
    optimizer = torch.optim.Adam(parameters.values(), lr=learning_rate)
    for step in range(steps):
        if step == int(0.7 * steps):
            optimizer.param_groups[0]["lr"] = 0.1 * learning_rate
        optimizer.zero_grad()
        losses(parameters, buffers).sum().backward()
        optimizer.step()
    with torch.no_grad():
        for place, model in enumerate(models):
            for name, weight in model.named_parameters():
                weight.copy_(parameters[name][place])
            model.eval()
    return models
