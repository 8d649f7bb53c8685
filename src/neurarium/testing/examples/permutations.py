"""How ensembles of wide networks and the theory of them are used."""

from __future__ import annotations

from neurarium import models, theory
from neurarium.testing.examples.kernels import sphere
from neurarium.testing.world import Example, ModuleExample

MODULES: dict[str, ModuleExample] = {
    "NTKMLP": lambda w: (models.NTKMLP(8, 16, 3, 2, bias_std=0.1), (w.examples(),)),
}

EXAMPLES: dict[str, Example] = {
    "trained_network_law": lambda w: theory.trained_network_law(sphere(w), w.examples(), sphere(w, 4, 1)),
}
