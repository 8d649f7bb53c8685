"""Supervised fine-tuning's loss: next-token cross-entropy on the response, the prompt masked out."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED = -100


def response_labels(
    tokens: Int[Tensor, "batch length"],
    starts: Int[Tensor, " batch"] | int,
    ends: Int[Tensor, " batch"] | None = None,
) -> Int[Tensor, "batch length"]:
    """Tokens with everything outside the response set to -100, which torch's and transformers' losses leave out.

    Args:
        tokens: prompt, response and padding.
        starts: where each response begins.
        ends: where each ends (its first padding); the length by default.

    Raises:
        ValueError: a response without a token.
    """
    place = torch.arange(tokens.shape[1], device=tokens.device)
    first = torch.as_tensor(starts, device=tokens.device).reshape(-1, 1)
    last = torch.full_like(first, tokens.shape[1]) if ends is None else ends.to(tokens.device)[:, None]
    if bool((first >= last).any()):
        raise ValueError("every response needs at least one token: starts must lie before ends")
    return tokens.masked_fill((place < first) | (place >= last), IGNORED)


def response_loss(
    logits: Float[Tensor, "batch length classes"], labels: Int[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each labelled token given those before it; labels of -100 do not count.

    Args:
        logits: of the next token at each position.
        labels: as `response_labels` gives, not shifted.

    Raises:
        ValueError: no label counts.
    """
    after = labels[:, 1:]
    if not bool((after != IGNORED).any()):
        raise ValueError("labels hold no token that counts (all are -100, or only the first position is labelled)")
    return cross_entropy(logits[:, :-1].flatten(0, 1), after.flatten(), ignore_index=IGNORED)
