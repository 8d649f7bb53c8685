"""Self-speculative decoding: a language model's first blocks draft, the whole model checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.compression.nested._sorted_net import SortedNet


@dataclass(frozen=True)
class Generated:
    """What was written, and what it took.

    Args:
        tokens: prompt and continuation [1, length].
        drafted: tokens that the draft proposed.
        accepted: those of them that the whole model would have written.
        passes: forward passes of the whole model.
    """

    tokens: Int[Tensor, "1 length"]
    drafted: int
    accepted: int
    passes: int

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that were accepted."""
        return self.accepted / self.drafted if self.drafted else 0.0


@torch.no_grad()
def greedy_generate(net: SortedNet, prompt: Int[Tensor, "1 length"], count: int, depth: int | None = None) -> Tensor:
    """Append ``count`` times the most probable token, by the whole model or by its first ``depth`` blocks."""
    tokens = prompt
    with net.at(depth=depth):
        for _ in range(count):
            tokens = torch.cat([tokens, logits(net, tokens)[:, -1:].argmax(-1)], dim=1)
    return tokens


@torch.no_grad()
def self_speculative_generate(
    net: SortedNet, prompt: Int[Tensor, "1 length"], count: int, *, draft_depth: int, draft_tokens: int = 4
) -> Generated:
    """The whole model's greedy continuation, with fewer passes of the whole model.

    The first ``draft_depth`` blocks write up to ``draft_tokens`` tokens; one pass of the whole model says at every one
    of them what it would have written; the longest prefix on which both agree is kept, and the whole model's next token
    with it. No cache is kept between passes: every pass reads the whole sequence.

    Args:
        net: a causal language model with ``depths``, in evaluation mode; gives logits, or an object with ``logits``.
        prompt: tokens of one sequence, at least one.
        count: tokens to append.
        draft_depth: blocks of the draft.
        draft_tokens: most tokens per draft.

    Raises:
        ValueError: more than one sequence, an empty prompt, a depth outside the family, or no draft tokens.
    """
    if prompt.dim() != 2 or prompt.shape[0] != 1 or prompt.shape[1] < 1:
        raise ValueError(f"prompt must be one sequence [1, length] of at least one token, not {tuple(prompt.shape)}")
    if draft_tokens < 1:
        raise ValueError(f"draft_tokens must be at least 1, not {draft_tokens}")
    tokens, end = prompt, prompt.shape[1] + count
    drafted = accepted = passes = 0
    while tokens.shape[1] < end:
        length = tokens.shape[1]
        draft = greedy_generate(net, tokens, min(draft_tokens, end - length - 1), draft_depth)
        wanted = logits(net, draft)[:, length - 1 :].argmax(-1)
        proposed = draft[:, length:]
        agreed = int((proposed == wanted[:, :-1]).long().cumprod(1).sum())
        tokens = torch.cat([tokens, wanted[:, : agreed + 1]], dim=1)
        drafted, accepted, passes = drafted + proposed.shape[1], accepted + agreed, passes + 1
    return Generated(tokens, drafted, accepted, passes)


def logits(net: SortedNet, tokens: Tensor) -> Tensor:
    """Logits [batch, length, vocabulary] of a plain module or of a model that wraps them."""
    output: Any = net(tokens)
    return output if isinstance(output, Tensor) else output.logits
