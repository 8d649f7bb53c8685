"""Which sequences a language model expects, by their complexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation, prediction


@dataclass(frozen=True)
class PreferenceCurve(ProbeResult):
    """Probabilities of sequences, averaged over models.

    Args:
        complexity: of each sequence.
        log2_probability: of each sequence, among all of the symbols that were allowed.
    """

    complexity: Int[Tensor, " sequences"]
    log2_probability: Float[Tensor, " sequences"]

    def mean(self, low: float = -math.inf, high: float = math.inf) -> float:
        """log2 of the mean probability of the sequences with a complexity between two numbers, both included.

        Raises:
            ValueError: there is none.
        """
        chosen = (self.complexity >= low) & (self.complexity <= high)
        if not bool(chosen.any()):
            raise ValueError(f"no sequence has a complexity between {low} and {high}")
        nats = self.log2_probability[chosen] * math.log(2)
        return (float(nats.logsumexp(0)) - math.log(int(chosen.sum()))) / math.log(2)

    @property
    def slope(self) -> float:
        """Of log2 probability against complexity, by least squares over sequences."""
        x = self.complexity.double() - self.complexity.double().mean()
        return float((x * self.log2_probability.double()).sum() / x.square().sum())

    def summary(self) -> str:
        """The simplest beside the most complex."""
        least, most = int(self.complexity.min()), int(self.complexity.max())
        return (
            f"{len(self.complexity)} sequences: mean probability 2^{self.mean(high=least):.2f} at complexity {least}, "
            f"2^{self.mean(low=most):.2f} at {most}; {self.slope:+.3f} bits for each step of complexity"
        )

    def plot(self, ax: Any) -> Any:
        """log2 of the mean probability against complexity."""
        kinds = self.complexity.unique().tolist()
        ax.scatter(self.complexity, self.log2_probability, s=4, alpha=0.2)
        ax.plot(kinds, [self.mean(k, k) for k in kinds], marker="o")
        ax.set(xlabel="complexity", ylabel="log2 probability")
        return ax


def sequence_preference(
    models: nn.Module | Iterable[nn.Module], sequences: Int[Tensor, "sequences length"], complexity: Sequence[int], *,
    start: int, symbols: Sequence[int] | None = None, batch_size: int = 256,
) -> PreferenceCurve:  # fmt: skip
    """The exact probability of each sequence under causal language models (Goldblum et al., 2024, section 4).

    Probabilities, not their logarithms, are averaged over models (of one architecture at random weights, say): that is
    the prior of the architecture.

    Args:
        models: token ids [batch, positions] to logits, or outputs with ``logits``.
        sequences: token ids.
        complexity: of each sequence, by any measure (`repeat_complexity`, operators, `lempel_ziv`).
        start: token that stands before each sequence.
        symbols: tokens that are allowed; each step's probabilities are those among them. All by default.
        batch_size: sequences at a time.

    Raises:
        ValueError: no model or sequence, another number of complexities, or a token that is not allowed.
    """
    allowed = None if symbols is None else torch.as_tensor(list(symbols))
    if not len(sequences) or len(complexity) != len(sequences):
        raise ValueError(f"there must be a complexity for each sequence, not {len(complexity)} for {len(sequences)}")
    if allowed is not None and not bool(torch.isin(sequences.cpu(), allowed).all()):
        raise ValueError("sequences hold a token that symbols does not allow")
    text = torch.cat([torch.full_like(sequences[:, :1], start), sequences], 1)
    found = []
    for model in [models] if isinstance(models, nn.Module) else models:
        with torch.no_grad(), evaluation(model):
            found.append(torch.cat([_nats(model, part, allowed) for part in text.split(batch_size)]))
    if not found:
        raise ValueError("models must hold a model or more")
    nats = torch.stack(found).logsumexp(0) - math.log(len(found))
    return PreferenceCurve(torch.as_tensor(list(complexity)), nats.cpu() / math.log(2))


def _nats(model: nn.Module, text: Tensor, allowed: Tensor | None) -> Tensor:
    logits = prediction(model(text[:, :-1])).double()
    if allowed is None:
        log_probs = logits.log_softmax(-1)
    else:
        log_probs = logits - logits[..., allowed.to(logits.device)].logsumexp(-1, keepdim=True)
    return log_probs.gather(2, text[:, 1:, None])[:, :, 0].sum(1)
