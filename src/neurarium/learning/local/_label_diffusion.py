"""What NoProp starts from: the number of classes, label embeddings, a readout, and blocks around a user's network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurarium.layers.denoising._denoising_head import LabelDenoiser
from neurarium.learning.cutting._local_blocks import output_features
from neurarium.training import copy_module

MakeBlock = Callable[[int, int], nn.Module]
"""``make_block(step, embed_dim) -> module`` of ``(z, x)``, in continuous time of ``(z, x, t)``."""


def count_classes(model: nn.Module | MakeBlock, num_classes: int | None) -> int:
    """``num_classes``, or the outputs of the model's last layer."""
    if isinstance(model, nn.Module):
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("model has no parameter to train: give a module with at least one that needs a gradient")
        num_classes = output_features(model)[0] if num_classes is None else num_classes
    if num_classes is None or num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, not {num_classes}: NoProp learns from class labels")
    return num_classes


def embedding_table(embedding: str | int | Tensor, classes: int) -> tuple[Tensor, bool]:
    """The table of class embeddings at the start, and whether it is learned."""
    if isinstance(embedding, Tensor):
        if embedding.dim() != 2 or len(embedding) != classes or not embedding.is_floating_point():
            raise ValueError(
                f"embedding must be floating-point of shape [{classes}, d], not {embedding.dtype} of "
                f"{tuple(embedding.shape)}"
            )
        return embedding.detach().clone(), True
    if embedding == "one-hot":
        return torch.eye(classes), False
    if isinstance(embedding, str) or embedding < 1:
        raise ValueError(f"embedding must be 'one-hot', a positive dimension or a tensor, not {embedding!r}")
    return nn.init.orthogonal_(torch.empty(classes, embedding)), True


def nearest_readout(table: Tensor) -> nn.Linear:
    """A linear readout that picks the nearest embedding, so that it need not be learned from nothing."""
    layer = nn.Linear(table.shape[1], len(table))
    with torch.no_grad():
        layer.weight.copy_(table)
        layer.bias.copy_(-0.5 * table.square().sum(1))
    return layer


def blocks_around(model: nn.Module, out_features: int, timed: bool) -> MakeBlock:
    """Blocks that hold a copy of the user's model; layer normalisation, so that a batch may hold one example."""
    features, maps = output_features(model)
    if maps:
        raise ValueError("model must end in a vector per example: add pooling, flattening and a linear layer")

    def make(step: int, embed_dim: int) -> nn.Module:
        norm = None if timed else nn.LayerNorm
        block = LabelDenoiser(copy_module(model), features, embed_dim, out_features, width=128, norm=norm, timed=timed)
        return block.to(next(model.parameters()))

    return make
