"""A training step of a concept-subspace network beside one of the same encoder with linear heads (target: 1.5 x)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.models import ConceptSubspaceNetwork, ConceptWeights, plain_mlp

BATCH, INPUTS, LATENT, REPEATS = 128, 784, 32, 200


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, digit = torch.rand(BATCH, INPUTS), torch.randint(10, (BATCH,))
    targets = {"digit": digit, "parity": digit % 2}
    weights = {name: ConceptWeights(10.0, kl=10.0) for name in targets}
    concepts = ConceptSubspaceNetwork(
        plain_mlp(INPUTS, 2 * LATENT, width=128, depth=3), LATENT, {"digit": 10, "parity": 2},
        {("digit", "parity"): -10.0}, weights=weights,
    )  # fmt: skip
    encoder = plain_mlp(INPUTS, 2 * LATENT, width=128, depth=3)
    heads = nn.ModuleList([nn.Linear(2 * LATENT, 10), nn.Linear(2 * LATENT, 2)])
    plain = nn.ModuleList([encoder, heads])

    def plain_loss() -> torch.Tensor:
        z = encoder(x)
        return cross_entropy(heads[0](z), digit) + cross_entropy(heads[1](z), digit % 2)

    losses: dict[str, tuple[nn.Module, Callable[[], torch.Tensor]]] = {
        "concept subspaces": (concepts, lambda: concepts.loss(x, targets)),
        "plain": (plain, plain_loss),
    }
    optimizers = {name: torch.optim.Adam(model.parameters(), 1e-3) for name, (model, _) in losses.items()}
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(REPEATS):
        for name, (_, loss) in losses.items():
            start = time.perf_counter()
            optimizers[name].zero_grad()
            loss().backward()
            optimizers[name].step()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    for name, value in medians.items():
        print(f"{name}: {value:.2f} ms a step, {value / medians['plain']:.2f} x plain")


if __name__ == "__main__":
    main()
