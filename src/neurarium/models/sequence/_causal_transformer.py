"""A small causal transformer over tokens, with the layer's wiring as an argument."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.layers import ReZeroTransformerEncoderLayer, initialise_attention

BLOCKS = ("post-norm", "pre-norm", "gpt2", "rezero")


class CausalTransformer(nn.Module):
    """Token and position embeddings, a list of transformer layers under a causal mask, a linear read-out.

    All wirings draw the same weights from the same generator state, so that models built at one seed differ in the
    wiring only. ``layers`` is an `nn.ModuleList`.

    Args:
        num_tokens: size of the vocabulary.
        d_model: width of the tokens.
        nhead: attention heads; divides ``d_model``.
        num_layers: number of layers.
        dim_feedforward: width of the feed-forward networks.
        context: longest sequence.
        block: "post-norm" Norm(x + F(x)) as in the first transformer, "pre-norm" x + F(Norm(x)) with one more norm at
            the end, "gpt2" the same with the projections into the skip path scaled by 1 / sqrt(2 num_layers) at the
            start, or "rezero" x + alpha F(x) without norms.
        dropout: dropout rate in the layers.

    Raises:
        ValueError: a size is below 1, ``nhead`` does not divide ``d_model``, or ``block`` is unknown.
    """

    def __init__(
        self,
        num_tokens: int,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 4,
        dim_feedforward: int = 256,
        context: int = 64,
        block: str = "pre-norm",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(num_tokens, d_model, nhead, num_layers, dim_feedforward, context) < 1:
            raise ValueError("num_tokens, d_model, nhead, num_layers, dim_feedforward and context must be at least 1")
        if d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        if block not in BLOCKS:
            raise ValueError(f"block must be one of {', '.join(BLOCKS)}, not {block!r}")
        self.context = context
        self.tokens = nn.Embedding(num_tokens, d_model)
        self.positions = nn.Parameter(torch.zeros(context, d_model))
        nn.init.normal_(self.tokens.weight, std=1 / math.sqrt(2))  # the two embeddings together have variance 1
        nn.init.normal_(self.positions, std=1 / math.sqrt(2))
        self.layers = nn.ModuleList(
            _layer(block, d_model, nhead, dim_feedforward, dropout, num_layers) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model) if block in ("pre-norm", "gpt2") else nn.Identity()
        self.head = nn.Linear(d_model, num_tokens)
        mask = torch.full((context, context), -math.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)
        self.mask: Tensor

    def embed(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length d_model"]:
        """Token plus position embeddings: what the first layer sees.

        Raises:
            ValueError: the sequence is longer than ``context``.
        """
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(f"tokens have length {length}, but the context is {self.context}")
        return self.tokens(tokens) + self.positions[:length]

    def transform(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """The stack of layers on embedded tokens, without the last norm and the read-out."""
        mask = self.mask[: x.shape[1], : x.shape[1]]
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return x

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length num_tokens"]:
        """Logits of the next token at each position."""
        return self.head(self.norm(self.transform(self.embed(tokens))))

    @torch.no_grad()
    def generate(
        self, tokens: Int[Tensor, "batch length"], count: int, *, generator: torch.Generator | None = None
    ) -> Int[Tensor, "batch longer"]:
        """Continue sequences by sampling ``count`` tokens, seeing the last ``context`` of them."""
        for _ in range(count):
            probabilities = self(tokens[:, -self.context :])[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
        return tokens


def _layer(block: str, d_model: int, nhead: int, dim_feedforward: int, dropout: float, num_layers: int) -> nn.Module:
    if block == "rezero":
        return ReZeroTransformerEncoderLayer(d_model, nhead, dim_feedforward, dropout, batch_first=True)
    layer = nn.TransformerEncoderLayer(
        d_model, nhead, dim_feedforward, dropout, batch_first=True, norm_first=block != "post-norm"
    )
    initialise_attention(layer.self_attn)
    if block == "gpt2":
        with torch.no_grad():
            layer.self_attn.out_proj.weight.mul_((2 * num_layers) ** -0.5)
            layer.linear2.weight.mul_((2 * num_layers) ** -0.5)
    return layer
