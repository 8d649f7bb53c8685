"""How the components of `neurarium.theory` are used."""

from __future__ import annotations

from neurarium import theory
from neurarium.testing.world import Example

EXAMPLES: dict[str, Example] = {
    "crosstalk": lambda w: theory.crosstalk(4, w.positive(3), 0.8, 10, "supervised", "all"),
    "dataset_entropy": lambda w: theory.dataset_entropy(w.positive(3), 10),
    "energy_from_losses": lambda w: theory.energy_from_losses(w.spins(3, 20), w.spins(2, 20, seed=1)),
    "loss_from_overlap": lambda w: theory.loss_from_overlap(w.positive(3)),
    "multitasking_step": lambda w: theory.multitasking_step(w.positive(3), 0.2, 0.1),
    "one_step_overlap": lambda w: theory.one_step_overlap(4, w.positive(3)),
    "overlap_from_loss": lambda w: theory.overlap_from_loss(w.positive(3)),
    "phase_of": lambda w: theory.phase_of(w.positive(3)),
    "phase_diagram": lambda w: theory.phase_diagram(2, 0.1 * w.positive(2), 0.1 * w.positive(2, seed=1)),
    "replica_symmetric": lambda w: theory.replica_symmetric(2, 0.1 * w.positive(2), 0.1),
    "retrieval_losses": lambda w: theory.retrieval_losses(w.spins(20), w.spins(20, seed=1)),
}  # fmt: skip
