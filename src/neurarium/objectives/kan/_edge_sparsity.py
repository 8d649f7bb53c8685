"""Few and distinct active edges: the sparsity penalty of Kolmogorov-Arnold networks."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


def edge_sparsity(
    model: nn.Module, x: Any, entropy: float = 2.0, scale: Literal["std", "l1"] = "std"
) -> Float[Tensor, ""]:
    """``Σ_layers Σ s + entropy · (row entropy + column entropy)`` of the edges' sizes ``s`` on a batch.

    As released, ``s`` is the standard deviation of an edge over the batch by that of its input plus 0.1, and the
    entropies are of ``s / (Σ s + 1)`` over the inputs of each output (row) and the outputs of each input (column),
    averaged. With ``scale="l1"`` it is the paper's text (section 2.5.1): ``s`` the mean absolute value, one entropy
    over the whole layer. Exact, though no edge is evaluated by itself (for "std"). The model is run once on ``x``.

    Args:
        model: any network with `KANLinear` layers.
        x: a batch of its inputs, at least two rows.
        entropy: weight of the entropy.
        scale: what an edge's size is.

    Raises:
        ValueError: the model has no such layer, or an unknown scale.
    """
    if scale not in ("std", "l1"):
        raise ValueError(f"scale must be 'std' or 'l1', not {scale!r}")
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "edge_std") and hasattr(m, "coefficients")]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no Kolmogorov-Arnold layer whose edges could be made sparse")
    inputs: list[tuple[Any, Tensor]] = []
    hooks = [layer.register_forward_pre_hook(lambda m, args: inputs.append((m, args[0]))) for layer in layers]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    total = inputs[0][1].new_zeros(())
    for layer, given in inputs:
        rows = given.reshape(-1, given.shape[-1])
        if scale == "std":
            total = total + _released(layer.edge_std(rows) / (rows.std(0) + 0.1), entropy)
        else:
            total = total + _printed(layer.edge_size(rows), entropy)
    return total


def _released(sizes: Tensor, entropy: float) -> Tensor:
    spread = sizes.new_zeros(())
    for dim in (1, 0):
        share = sizes / (sizes.sum(dim, keepdim=True) + 1)
        spread = spread - (share * torch.log2(share + 1e-4)).sum(dim).mean()
    return sizes.sum() + entropy * spread


def _printed(sizes: Tensor, entropy: float) -> Tensor:
    share = sizes / sizes.sum().clamp_min(torch.finfo(sizes.dtype).tiny)
    return sizes.sum() - entropy * torch.special.xlogy(share, share).sum()
