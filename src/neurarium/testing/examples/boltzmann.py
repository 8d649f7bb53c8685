"""How the Boltzmann machines of `neurarium.models` are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurarium import models, speech
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "ContrastiveDivergence": lambda w: (
        models.ContrastiveDivergence(models.RBM(8, 4), persistent=3, generator=seed()), (w.positive(5, 8),),
    ),
    "DeepBeliefNetwork": lambda w: (models.DeepBeliefNetwork((8, 6, 4)), (w.positive(5, 8),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "annealed_importance": lambda w: annealed(w).log_weights,
    "ImportanceEstimate": lambda w: annealed(w).log_mean,
    "fit_rbm": lambda w: fitted(w),
    "free_energy_gap": lambda w: models.free_energy_gap(machine(w), w.positive(5, 8), w.positive(6, 8, seed=1)),
    "log_likelihood": lambda w: models.log_likelihood(machine(w), w.positive(5, 8)).each,
    "LogLikelihood": lambda w: models.log_likelihood(machine(w), w.positive(5, 8)).mean,
    "log_partition": lambda w: models.log_partition(machine(w)).value,
    "LogPartition": lambda w: models.log_partition(
        machine(w), "ais", chains=4, temperatures=5, generator=seed()
    ).interval,
    "mfcc": lambda w: speech.mfcc(w.x(4_000), 8_000),
    "pretrain_layers": lambda w: pretrained(w),
    "pseudo_likelihood": lambda w: models.pseudo_likelihood(machine(w), w.positive(5, 8), seed()),
}  # fmt: skip


def machine(w: World) -> Any:
    """A small machine."""
    return w.new(lambda: models.RBM(8, 4, generator=seed()))


def annealed(w: World) -> models.ImportanceEstimate:
    """From a density to itself made steeper, without transitions."""
    return models.annealed_importance(
        w.x(6), lambda x, a, b: -(b - a) * x.square(), lambda x, beta: x, torch.linspace(0, 1, 3)
    )


def fitted(w: World) -> list[Tensor]:
    """Weights after two passes over batches."""
    loader = [w.positive(6, 8), w.positive(6, 8, seed=1)]
    return [p.detach() for p in models.fit_rbm(machine(w), loader, epochs=2, generator=seed()).parameters()]


def pretrained(w: World) -> Any:
    """The outputs of a network after its sigmoid layers were trained without labels."""
    model = w.new(lambda: nn.Sequential(nn.Linear(8, 6), nn.Sigmoid(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3)))
    models.pretrain_layers(model, w.batches(), epochs=1, generator=seed())
    return model(w.x(5, 8))
