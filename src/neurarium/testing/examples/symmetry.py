"""How averaged networks and the theory of statistical queries are used."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import mse_loss

from neurarium import models, theory
from neurarium.data import cyclic_shifts
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "FrameAveraged": lambda w: (models.FrameAveraged(nn.Linear(8, 3), models.cyclic_frame), (w.x(5, 8),)),
    "GraphSumNet": lambda w: (models.GraphSumNet(8), (ring(w, 5),)),
    "GroupAveraged": lambda w: (models.GroupAveraged(nn.Linear(8, 3), cyclic_shifts(8)), (w.x(5, 8),)),
}

EXAMPLES: dict[str, Example] = {
    "correlation_matrix": lambda w: theory.correlation_matrix([lambda x: x[:, 0], lambda x: x[:, 1]], w.x(20, 3)),
    "csq_lower_bound": lambda w: theory.csq_lower_bound(1000, 0.1),
    "cyclic_frame": lambda w: models.cyclic_frame(w.x(5, 8)),
    "gradient_signal": lambda w: theory.gradient_signal(
        w.mlp(8, 4, 1), mse_loss, [lambda x: x[:, 0], lambda x: x[:, 1]], w.x(20, 8)
    ),
    "largest_uncorrelated_subset": lambda w: theory.largest_uncorrelated_subset(w.x(6, 6), 0.5),
    "solve_parity": lambda w: theory.solve_parity(w.whole([1, 0], [0, 1]), w.whole(1, 0)),
    "sorting_frame": lambda w: models.sorting_frame(w.x(5, 8)),
}


def ring(w: World, nodes: int) -> torch.Tensor:
    """A graph of one cycle, twice."""
    eye = torch.eye(nodes, device=w.device, dtype=w.dtype)
    return (eye.roll(1, 0) + eye.roll(-1, 0)).expand(2, nodes, nodes)
