"""What a language model's tokens cost by the length of the text before them, counted on a model without weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation


@dataclass(frozen=True)
class AttentionCost(ProbeResult):
    """Floating-point operations (two for a product and its sum) of one text, per length.

    Args:
        lengths: tokens known.
        miss: of the next token with nothing cached.
        miss_attention: the part of attention's scores and mixing in it.
        hit: of the next token with all before it cached, where only itself is new.
        hit_attention: the part of attention.
        amortised: of a token on average over the tokens from one miss to the next; ``hit`` where no miss recurs.
        cache_bytes: what is kept, in bytes of the model's type.
        training_lengths: tokens of a text that is trained on.
        training: of a forward pass over it.
        training_attention: the part of attention.
    """

    lengths: tuple[int, ...]
    miss: tuple[int, ...]
    miss_attention: tuple[int, ...]
    hit: tuple[int, ...]
    hit_attention: tuple[int, ...]
    amortised: tuple[float, ...]
    cache_bytes: tuple[int, ...]
    training_lengths: tuple[int, ...]
    training: tuple[int, ...]
    training_attention: tuple[int, ...]

    @property
    def exponents(self) -> dict[str, float]:
        """Of each cost in the length, by least squares of their logarithms."""
        step = ("miss", "miss_attention", "hit", "hit_attention", "amortised", "cache_bytes")
        found = {name: exponent(self.lengths, getattr(self, name)) for name in step}
        text = ("training", "training_attention")
        return found | {name: exponent(self.training_lengths, getattr(self, name)) for name in text}

    def summary(self) -> str:
        """A line per length, then the exponents."""
        rows = zip(self.lengths, self.miss, self.hit, self.amortised, self.cache_bytes, strict=True)
        lines = [
            f"{n:,} tokens: next one {miss:.3g} FLOPs uncached, {hit:.3g} cached, {mean:.3g} on average; "
            f"cache {size:,} bytes"
            for n, miss, hit, mean, size in rows
        ]
        texts = zip(self.training_lengths, self.training, strict=True)
        lines += [f"{n:,} tokens: forward pass {whole:.3g} FLOPs" for n, whole in texts]
        known = [f"{name.replace('_', ' ')} {x:.2f}" for name, x in self.exponents.items() if not math.isnan(x)]
        return "\n".join(lines + (["exponents in the length: " + ", ".join(known)] if known else []))

    def plot(self, ax: Any) -> Any:
        """The next token's cost by length, on logarithmic axes."""
        for name, label in (("miss", "uncached"), ("amortised", "cached, on average"), ("hit", "cached")):
            ax.plot(self.lengths, getattr(self, name), "o-", label=label)
        ax.set(xlabel="tokens known", ylabel="FLOPs of the next token", xscale="log", yscale="log")
        ax.legend()
        return ax


def attention_cost(model: nn.Module, lengths: Sequence[int], training_lengths: Sequence[int] = ()) -> AttentionCost:
    """Count what a language model's next token and forward pass cost; nothing is computed and the model is not touched.

    Args:
        model: `RotaryDecoder`, `TLinFormer`, or any with their ``forward``, ``next_logits(tokens, cache)`` and
            ``empty_cache()``. One with a ``generation_window`` is asked at full windows: a hit is the last token of a
            window, the miss the one with the longest history.
        lengths: tokens known, each a multiple of the model's ``generation_window`` if it has one, and larger.
        training_lengths: tokens of texts whose forward pass is counted.

    Raises:
        ValueError: no length, or one that is no such multiple.
        TypeError: the model cannot generate from a cache.
    """
    if not callable(getattr(model, "next_logits", None)) or not callable(getattr(model, "empty_cache", None)):
        raise TypeError(f"{type(model).__name__} needs next_logits(tokens, cache) and empty_cache()")
    window = int(getattr(model, "generation_window", 0))
    if not lengths or any(n < 2 or (window and (n % window or n == window)) for n in lengths):
        told = f"multiples of the generation window {window}, and larger" if window else "at least 2"
        raise ValueError(f"lengths must be {told}, not {list(lengths)}")
    ghost = _without_values(model)
    with evaluation(ghost), torch.no_grad():
        steps = [_next_token(ghost, n, window) for n in lengths]
        texts = [_forward(ghost, n) for n in training_lengths]
    misses, hits, means, kept = zip(*steps, strict=True)
    training, training_attention = tuple(zip(*texts, strict=True)) or ((), ())
    return AttentionCost(
        tuple(lengths), *zip(*misses, strict=True), *zip(*hits, strict=True), means, kept, tuple(training_lengths),
        training, training_attention,
    )  # type: ignore[call-arg]  # fmt: skip


def exponent(lengths: Sequence[int], costs: Sequence[float]) -> float:
    """The slope of log cost against log length; NaN for less than two lengths."""
    if not lengths:
        return math.nan
    x, y = ([math.log(v) for v in values] for values in (lengths, costs))
    centre = [v - sum(x) / len(x) for v in x]
    spread = sum(v * v for v in centre)
    return sum(a * b for a, b in zip(centre, y, strict=True)) / spread if spread else math.nan


def _without_values(model: nn.Module) -> Any:
    """A copy whose tensors have shapes and types only."""
    memo: dict[int, Any] = {}
    for p in (*model.parameters(), *model.buffers()):
        empty = torch.empty(p.shape, dtype=p.dtype, device="meta")
        memo[id(p)] = nn.Parameter(empty, p.requires_grad) if isinstance(p, nn.Parameter) else empty
    return copy.deepcopy(model, memo)


def _next_token(model: Any, length: int, window: int) -> tuple[tuple[int, int], tuple[int, int], float, int]:
    """Costs of a miss and of a hit, their mean over a window, and the bytes of the cache."""
    tokens = torch.zeros(1, length, dtype=torch.long, device="meta")
    miss = _count(lambda: model.next_logits(tokens))
    cache = model.empty_cache()
    model.next_logits(tokens[:, :-1], cache)
    hit = _count(lambda: model.next_logits(tokens, cache))
    if not window:
        return miss, hit, hit[0], cache.bytes
    grown, first = model.empty_cache(), length - window + 1
    start = _count(lambda: model.next_logits(tokens[:, :first], grown))[0]
    second = _count(lambda: model.next_logits(tokens[:, : first + 1], grown))[0] if window > 1 else 0
    return miss, hit, (start + (window - 1) * (second + hit[0]) / 2) / window, cache.bytes  # hits grow by equal steps


def _forward(model: Any, length: int) -> tuple[int, int]:
    tokens = torch.zeros(1, length, dtype=torch.long, device="meta")
    return _count(lambda: model(tokens))


def _count(computation: Callable[[], object]) -> tuple[int, int]:
    """All operations, and those of attention: on tensors without values it is made of batched products."""
    with _Products() as counter:
        computation()
    return counter.plain + counter.batched, counter.batched


class _Products(TorchDispatchMode):
    """Two operations for each product in a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = self.batched = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm"):
            flops = 2 * result.numel() * args[0].shape[-1]
            self.plain, self.batched = self.plain + flops * (name == "mm"), self.batched + flops * (name == "bmm")
        elif name in ("addmm", "baddbmm"):
            self.plain += 2 * result.numel() * args[1].shape[-1]
        return result
