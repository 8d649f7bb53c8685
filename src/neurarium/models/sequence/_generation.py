"""Sampling one token after another, which all language models do alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def continue_tokens(
    next_logits: Callable[[Int[Tensor, "batch length"]], Float[Tensor, "batch num_tokens"]],
    tokens: Int[Tensor, "batch length"],
    count: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch longer"]:
    """The sequences with ``count`` sampled tokens more.

    Args:
        next_logits: logits of the token after a sequence.
        tokens: at least one token in each sequence.
        count: tokens to add.
        generator: source of the draws.

    Raises:
        ValueError: there is no token to go on from, or ``count`` is negative.
    """
    if tokens.shape[1] < 1 or count < 0:
        raise ValueError(f"give at least one token to go on from and count >= 0, not {tokens.shape[1]} and {count}")
    for _ in range(count):
        probabilities = next_logits(tokens).softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], 1)
    return tokens
