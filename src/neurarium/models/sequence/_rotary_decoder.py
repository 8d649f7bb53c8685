"""A decoder-only language model with rotary positions, and generation with a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.layers import DecoderLayer
from neurarium.models.sequence._generation import continue_tokens
from neurarium.models.sequence._key_values import KeyValues, WindowCache


class RotaryDecoder(nn.Module):
    """Token embedding, pre-norm layers with rotary positions, a norm and a read-out; sequences of any length.

    Args:
        num_tokens: size of the vocabulary.
        d_model: width of the tokens.
        nhead: attention heads; divides ``d_model`` into even widths.
        num_layers: number of layers.
        dim_feedforward: width of the feed-forward networks (SwiGLU); 8/3 of ``d_model`` by default.
        tied: the read-out uses the weights of the embedding.
        dropout: rate of attention weights and of both branches of a layer.

    Raises:
        ValueError: a size is below 1, ``nhead`` does not divide ``d_model``, or the heads have odd width.
    """

    def __init__(
        self,
        num_tokens: int,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 4,
        dim_feedforward: int | None = None,
        tied: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(num_tokens, d_model, num_layers) < 1:
            raise ValueError("num_tokens, d_model and num_layers must be at least 1")
        self.tokens = nn.Embedding(num_tokens, d_model)
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            DecoderLayer(d_model, nhead, dim_feedforward, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, num_tokens, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Normal, of deviation 1 / 2 sqrt(inputs) (0.02 at a width of 600); what joins the skip path has less.

        All that joins it has together the deviation of one.
        """
        for name, p in self.named_parameters():
            if p.dim() > 1:
                terms = 2 * len(self.layers) if name.endswith(("out_proj.weight", "linear2.weight")) else 1
                nn.init.normal_(p, std=0.5 / (p.shape[1] * terms) ** 0.5)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length num_tokens"]:
        """Logits of the next token at each position."""
        x = self.tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    def empty_cache(self) -> WindowCache:
        """A cache for `next_logits`."""
        return WindowCache()

    @torch.no_grad()
    def next_logits(
        self, tokens: Int[Tensor, "batch length"], cache: WindowCache | None = None
    ) -> Float[Tensor, "batch num_tokens"]:
        """Logits of the token after the last one.

        Args:
            tokens: all tokens so far.
            cache: what earlier calls left; only tokens that it does not hold are computed, and then it holds them.

        Raises:
            ValueError: the cache holds other tokens.
        """
        cache = cache if cache is not None else self.empty_cache()
        cache.check(tokens)
        cache.window = cache.window or [KeyValues() for _ in self.layers]
        start = cache.length
        cache.hits, cache.misses = cache.hits + (start > 0), cache.misses + (start == 0)
        x = self.tokens(tokens[:, start:])
        for layer, seen in zip(self.layers, cache.window, strict=True):
            parts = layer.parts()
            q, k, v = parts.project(x, start)
            x = parts.finish(x, parts.attend(q, *seen.append(k, v), causal=True))
        cache.tokens = tokens
        return self.head(self.norm(x[:, -1]))

    def generate(
        self,
        tokens: Int[Tensor, "batch length"],
        count: int,
        *,
        cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch longer"]:
        """Continue sequences by sampling ``count`` tokens; without ``cache`` all is computed anew for each."""
        known = self.empty_cache() if cache else None
        return continue_tokens(lambda t: self.next_logits(t, known), tokens, count, generator)
