"""How games, their losses, their theory and the probes of samples are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium import learning, objectives, probes, theory
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "AdversarialGame": lambda w: (
        learning.AdversarialGame(nn.Linear(4, 8), nn.Linear(8, 1), features=4), (w.x(5, 4),),
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "AdversarialLoss": lambda w: objectives.AdversarialLoss().discriminator(w.x(6), w.x(5, seed=1)),
    "gradient_penalty": lambda w: objectives.gradient_penalty(w.mlp(8, 6, 1), w.x(5, 8), w.x(5, 8, seed=1), seed()),
    "GaussianDiscriminator": lambda w: gaussian(w)(w.x(5, 2)),
    "game_value": lambda w: theory.game_value(w.logp(6).exp(), w.logp(6).roll(1).exp(), w.positive(6) / 2),
    "jensen_shannon": lambda w: theory.jensen_shannon(w.logp(6).exp(), w.logp(6).roll(1).exp()),
    "optimal_discriminator": lambda w: theory.optimal_discriminator(w.positive(6), w.positive(6, seed=1)),
    "discriminator_report": lambda w: probes.discriminator_report(w.mlp(8, 6, 1), w.x(9, 8), w.x(7, 8, seed=1)),
    "mode_coverage": lambda w: probes.mode_coverage(w.x(9, 8, seed=1), w.x(12, 8), w.y()),
    "parzen_log_likelihood": lambda w: probes.parzen_log_likelihood(
        w.x(9, 3), w.x(8, 3, seed=1), validation=w.x(7, 3, seed=2), candidates=(0.5, 1.0)
    ),
}  # fmt: skip


def gaussian(w: World) -> Any:
    """Between two normal laws."""
    wide = torch.eye(2).to(w.x(1))
    return theory.GaussianDiscriminator(w.x(2), wide, w.x(2, seed=1), 2 * wide)
