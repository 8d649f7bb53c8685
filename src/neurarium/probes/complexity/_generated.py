"""How compressible the sequences are that a language model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.data import lempel_ziv
from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation, prediction


@dataclass(frozen=True)
class GeneratedComplexity(ProbeResult):
    """Lempel-Ziv phrases of what was written.

    Args:
        per_token: phrases over length, of each text.
        tokens: the texts, without their prompts.
    """

    per_token: Float[Tensor, " texts"]
    tokens: Int[Tensor, "texts length"]

    @property
    def mean(self) -> float:
        """Over texts."""
        return float(self.per_token.mean())

    def summary(self) -> str:
        """Phrases for each token, beside tokens that are drawn evenly from those that occur."""
        kinds = int(self.tokens.unique().numel())
        draw = torch.Generator().manual_seed(0)
        noise = torch.randint(kinds, self.tokens.shape, generator=draw)
        chance = sum(lempel_ziv(row) for row in noise) / noise.numel()
        return (
            f"{self.mean:.3f} phrases a token in {len(self.tokens)} texts of {self.tokens.shape[1]} tokens "
            f"(even draws from the {kinds} tokens that occur: {chance:.3f})"
        )

    def plot(self, ax: Any) -> Any:
        """A histogram over texts."""
        ax.hist(self.per_token.cpu(), bins=30)
        ax.set(xlabel="Lempel-Ziv phrases a token", ylabel="texts")
        return ax


def generated_complexity(
    model: nn.Module, prompts: Int[Tensor, "texts prompt"], new_tokens: int = 50, *, top: int = 1,
    generator: torch.Generator | None = None,
) -> GeneratedComplexity:  # fmt: skip
    """Let a causal language model continue prompts, and count Lempel-Ziv phrases (Teney et al., 2024, section 5).

    Args:
        model: token ids [texts, positions] to logits [texts, positions, vocabulary], or an output with ``logits``.
        prompts: token ids.
        new_tokens: how many are written.
        top: each token is drawn from so many of the likeliest; 1 takes the likeliest.
        generator: of these draws, on the CPU.

    Raises:
        ValueError: no prompts, nothing to write, or logits that are not finite.
    """
    if prompts.numel() == 0 or new_tokens < 1 or top < 1:
        raise ValueError("prompts must hold tokens, and new_tokens and top be at least 1")
    text = prompts
    with torch.no_grad(), evaluation(model):
        for _ in range(new_tokens):
            logits = prediction(model(text))[:, -1].double()
            if not bool(logits.isfinite().all()):
                raise ValueError("the model's logits are not finite")
            best = logits.topk(min(top, logits.shape[1]))
            chosen = torch.multinomial(best.values.softmax(1).cpu(), 1, generator=generator).to(text.device)
            text = torch.cat([text, best.indices.gather(1, chosen)], 1)
    written = text[:, prompts.shape[1] :].cpu()
    return GeneratedComplexity(torch.tensor([lempel_ziv(row) / new_tokens for row in written]).double(), written)
