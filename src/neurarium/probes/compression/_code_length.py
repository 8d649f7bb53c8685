"""The length of the code of sequences under a predictor, in bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation, prediction


@runtime_checkable
class Predictor(Protocol):
    """Anything that tells the log-probabilities of the symbols of sequences."""

    def log_probs(self, tokens: Tensor) -> Tensor:
        """[batch, length] whole numbers to [batch, length] nats."""


@dataclass(frozen=True)
class CodeLength(ProbeResult):
    """Bits that each symbol costs; an arithmetic coder needs no more than two bits beyond their sum.

    Args:
        bits: of each symbol, 0 where it does not count.
        mask: which symbols count.
        symbols: size of the alphabet.
    """

    bits: Float[Tensor, "sequences length"]
    mask: Bool[Tensor, "sequences length"]
    symbols: int

    @property
    def total(self) -> Float[Tensor, " sequences"]:
        """Bits of each sequence."""
        return self.bits.sum(1)

    @property
    def per_symbol(self) -> float:
        """Over all symbols that count."""
        return float(self.bits.sum() / self.mask.sum())

    @property
    def by_place(self) -> Float[Tensor, " length"]:
        """Mean bits at each place over the sequences that reach it; NaN where none does."""
        return self.bits.sum(0) / self.mask.sum(0)

    def regret(self, truth: CodeLength | Float[Tensor, "sequences length"]) -> Float[Tensor, " length"]:
        """How many bits more than the source itself would need, summed up to each place; the mean over sequences.

        Args:
            truth: the code length under the best predictor, or the source's own log-probabilities in nats
                (`Sequences.truth`).

        Raises:
            ValueError: the shapes differ.
        """
        best = truth.bits if isinstance(truth, CodeLength) else -truth.to(self.bits) / math.log(2)
        if best.shape != self.bits.shape:
            raise ValueError(f"truth must have the shape {tuple(self.bits.shape)}, not {tuple(best.shape)}")
        return ((self.bits - best) * self.mask).cumsum(1).mean(0)

    def summary(self) -> str:
        """Bits a symbol beside those of an even guess."""
        naive = math.log2(self.symbols)
        return (
            f"{self.per_symbol:.3f} bits a symbol in {len(self.bits)} sequences, {self.per_symbol / naive:.2f} of the "
            f"{naive:.3f} of an even guess among {self.symbols}"
        )

    def plot(self, ax: Any) -> Any:
        """Mean bits at each place."""
        ax.plot(self.by_place.cpu())
        ax.axhline(math.log2(self.symbols), color="grey", linestyle=":", linewidth=0.8)
        ax.set(xlabel="place", ylabel="bits a symbol", ylim=(0, None))
        return ax


def code_length(
    model: nn.Module | Predictor, tokens: Int[Tensor, "sequences length"],
    mask: Bool[Tensor, "sequences length"] | None = None, *, batch_size: int = 256,
) -> CodeLength:  # fmt: skip
    """Code sequences with a model that predicts each symbol from those before it.

    Args:
        model: one with ``log_probs(tokens)`` (`SequencePredictor`, `ContextTreeWeighting`); or a causal language model,
            token ids [batch, length] to logits or an output with ``logits``, whose first token is coded evenly.
        tokens: whole numbers.
        mask: which of them count; all by default.
        batch_size: sequences at a time.

    Raises:
        ValueError: no token to count, shapes that differ, or probabilities that are not finite.
    """
    if tokens.dim() != 2 or not tokens.numel() or tokens.is_floating_point():
        raise ValueError(f"tokens must be whole numbers [sequences, length], not {tuple(tokens.shape)}")
    counted = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.to(tokens.device)
    if counted.shape != tokens.shape or not bool(counted.any()):
        raise ValueError(f"mask must have the shape {tuple(tokens.shape)} and a place that counts")
    bits, symbols = [], 0
    with torch.no_grad():
        for part in tokens.split(batch_size):
            if isinstance(model, nn.Module):
                with evaluation(model):
                    nats, symbols = _nats(model, part)
            else:
                nats, symbols = model.log_probs(part), getattr(model, "alphabet", int(tokens.max()) + 1)
            bits.append(-nats / math.log(2))
    found = torch.cat(bits).masked_fill(~counted, 0)
    if not bool(found.isfinite().all()):
        raise ValueError("the model gives a symbol that occurs no probability, or one that is not finite")
    return CodeLength(found, counted, symbols)


def _nats(model: nn.Module, tokens: Tensor) -> tuple[Tensor, int]:
    """Log-probabilities of the symbols, and the size of the alphabet."""
    if hasattr(model, "log_probs"):
        return model.log_probs(tokens), int(getattr(model, "symbols", int(tokens.max()) + 1))  # type: ignore[operator]
    logits = prediction(model(tokens))
    first = logits.new_full((len(tokens), 1), -math.log(logits.shape[-1]))
    rest = logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])[:, :, 0]
    return torch.cat([first, rest], 1), logits.shape[-1]
