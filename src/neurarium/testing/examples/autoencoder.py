"""How autoencoders and what reads them are used."""

from __future__ import annotations

from typing import Any

from neurarium import layers, models, objectives, probes
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "Autoencoder": lambda w: (models.Autoencoder.kan(8, 3, (6,)), (w.x(5, 8),)),
}

EXAMPLES: dict[str, Example] = {
    "grid_coverage": lambda w: layers.grid_coverage(coder(w), w.x(12, 8)),
    "reconstruction_loss": lambda w: objectives.reconstruction_loss(w.x(5, 8), w.x(5, 8, seed=1)),
    "ReconstructionBatches": lambda w: list(
        objectives.ReconstructionBatches(w.batches(), "gaussian", generator=seed())
    ),
    "latent_quality": lambda w: probes.latent_quality(coder(w), w.batches(), neighbours=3, generator=seed()).error,
    "decoder_curves": lambda w: probes.decoder_curves(coder(w), w.x(12, 8)),
}


def coder(w: World) -> Any:
    """An autoencoder of Kolmogorov-Arnold layers."""
    return w.new(lambda: models.Autoencoder.kan(8, 3, (6,)))
