"""Recipes whose learner observes each example once and has no gradient: memories and means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neurarium.continual import Strategy
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor


def observed(
    learner: Strategy, problem: Problem, seed: int, scores: Callable[[Tensor], Tensor] | None = None
) -> Predictor:
    """Show a learner the training examples once, in the order that everyone gets.

    Args:
        learner: learns by `Strategy.observe` alone.
        problem: with classes.
        seed: of the order.
        scores: what it predicts, as logits; its own ``predict`` by default. A class that it did not see gets -30.
    """
    torch.manual_seed(seed)
    learner.to(problem.device)
    for x, y in problem.batches(seed):
        learner.observe(x, y)

    def predict(x: Tensor) -> Tensor:
        found = (scores or learner.predict)(x).float()
        missing = problem.outputs - found.shape[1]
        return torch.nn.functional.pad(found, (0, missing), value=-30.0).nan_to_num(neginf=-30.0)

    return Predictor(predict, kept_bytes(learner))


def kept_bytes(learner: Strategy) -> int:
    """Bytes of everything that a learner keeps; of a memory, its items too."""
    store = getattr(learner, "store", None)
    kept = sum(tensor.nbytes for tensor in learner.state_dict().values() if isinstance(tensor, Tensor))
    return kept + (0 if store is None else store.vectors.nbytes + store.labels.nbytes)
