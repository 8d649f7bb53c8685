"""Another module in the place of every feed-forward network of a transformer that exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from neurarium.layers._conversion import Conversion, swap

TORCH = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
NAMES = ("mlp", "ffn", "feed_forward")
"""What blocks call their feed-forward network (timm, GPT-2 and many others)."""
CAUSAL = ("GPT2Block", "GPTNeoBlock", "LlamaDecoderLayer", "TransformerDecoderLayer")
"""Blocks in which a token must not know of later ones."""


def replace_feed_forward(
    model: nn.Module,
    make: Callable[[int], nn.Module],
    *,
    include: Any = None,
    exclude: Any = (),
    inplace: bool = False,
) -> Conversion:
    """Exchange the feed-forward network of every transformer block, and leave residuals and norms as they are.

    Knows torch's `TransformerEncoderLayer` and `TransformerDecoderLayer`, blocks whose feed-forward network is an
    attribute ``mlp``, ``ffn`` or ``feed_forward`` (timm, GPT-2, DistilBERT ...), and Hugging Face's pair of
    ``intermediate`` and ``output`` (BERT, ViT and relatives).

    Args:
        model: any network.
        make: ``make(d_model)`` gives the new module [..., d_model] -> [..., d_model], such as ``MLPKAN``.
        include: names, patterns or kinds of modules to act on; all by default.
        exclude: which of those to leave alone.
        inplace: change the model itself instead of a copy.

    Raises:
        ValueError: nothing was found; or a "soft" router was to go where a token must not know of later ones.
    """
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}

    def made(width: int, owner: str) -> nn.Module:
        new = make(width)
        if getattr(new, "router", None) == "soft" and owner in CAUSAL:
            raise ValueError(f"a soft router mixes all tokens of a sequence, and {owner} is causal: use top_k")
        return new

    def replacement(name: str, module: nn.Module) -> nn.Module | str | None:
        place = name.rpartition(".")
        owner = kinds.get(place[0], "")
        if isinstance(module, TORCH):
            return _in_torch_layer(module, made(module.linear1.in_features, type(module).__name__))
        if hasattr(module, "intermediate") and hasattr(getattr(module, "output", None), "dense"):
            return _in_bert_layer(module, made)
        if place[2] in NAMES:
            width = _width(module)
            return (
                f"no linear layer whose width could be read in {type(module).__name__}"
                if not width
                else made(width, owner)
            )
        return None

    return swap(
        model, nn.Module, replacement, include=include, exclude=exclude, inplace=inplace,
        looked_for=f"torch's transformer layers, attributes {', '.join(NAMES)}, pairs of intermediate and output",
    )  # fmt: skip


def _in_torch_layer(layer: Any, new: nn.Module) -> nn.Module:
    """``linear2(dropout(activation(linear1(x))))`` with the new module first and nothing behind it."""
    layer.linear1, layer.linear2 = new, nn.Identity()
    layer.activation, layer.dropout = nn.Identity(), nn.Identity()
    layer.activation_relu_or_gelu = 0  # torch's fast path would go around them
    whole: nn.Module = layer
    return whole


def _in_bert_layer(block: Any, made: Callable[[int, str], nn.Module]) -> nn.Module:
    """``output(intermediate(x), x)``, where the output's linear layer comes before dropout, residual and norm."""
    block.intermediate = made(_width(block.intermediate), type(block).__name__)
    block.output.dense = nn.Identity()
    whole: nn.Module = block
    return whole


def _width(module: nn.Module) -> int:
    """What the first linear layer takes; 0 where there is none."""
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, nn.Linear):
            return part.in_features
        if type(part).__name__ == "Conv1D" and isinstance(weight, Tensor):  # transformers' transposed linear layer
            return weight.shape[0]
    return 0
