"""A learned operator in the place of softmax in every attention layer."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from neurarium.layers import replace_attention
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits
from neurarium.training import evaluation


@final
class Karat(GradientRecipe):
    """KArAt: attention weights are sums of learned functions of all scores in a row, in the place of softmax."""

    slug = "karat"
    paper = "karat"
    traits = Traits("layers")
    knobs = {
        "learning_rate": rate(2e-3), "rank": Whole(2, 32, 12, log=True),
        "basis": Choice(("fourier", "linear"), "fourier"),
    }  # fmt: skip

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Every attention converted, for the number of tokens that the first examples have."""
        model = problem.make_model(progress.seed)
        tokens = token_number(model, problem.train.x[:2])
        rank = min(knobs["rank"], tokens)
        return Plan(replace_attention(model, tokens, basis=knobs["basis"], rank=rank, inplace=True).model)


@torch.no_grad()
def token_number(model: nn.Module, x: Tensor) -> int:
    """How many keys the attention layers of a network see.

    Raises:
        ValueError: there are no such layers, or they see different numbers.
    """
    seen: set[int] = set()

    def look(module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        key = args[1] if len(args) > 1 else named["key"]
        seen.add(key.shape[1 if module.batch_first and key.dim() == 3 else 0])

    layers = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        with evaluation(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ValueError("has no torch.nn.MultiheadAttention")
    if len(seen) > 1:
        raise ValueError(
            f"its attention layers see {' and '.join(map(str, sorted(seen)))} tokens; one number is needed"
        )
    return seen.pop()
