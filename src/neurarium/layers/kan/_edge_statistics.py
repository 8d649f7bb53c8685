"""Statistics of every edge of a Kolmogorov-Arnold layer over a batch, from moments of the basis functions.

An edge is ``vᵀ a(x)``, ``a`` the base function and the basis functions at its input and ``v`` its coefficients. So its
mean is ``vᵀ E[a]`` and its variance ``vᵀ Cov(a) v``, with one mean and one covariance for each input, whatever the
outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from neurarium.layers.kan._basis_product import basis_columns, blocks

if TYPE_CHECKING:
    from neurarium.layers.kan._kan_linear import KANLinear


def edge_std(layer: KANLinear, x: Tensor) -> Tensor:
    """Standard deviation of every edge, with ``rows - 1`` as in `torch.std`; its gradient is 0 where it is 0."""
    if len(x) < 2:
        raise ValueError("x must have at least two rows")

    def some(terms: Tensor, weights: Tensor) -> Tensor:
        centred = terms - terms.mean(2, keepdim=True)
        covariance = centred @ centred.mT / (terms.shape[2] - 1)
        variance = ((weights @ covariance) * weights).sum(2)
        alive = variance > torch.finfo(variance.dtype).tiny
        return torch.where(alive, torch.where(alive, variance, 1.0).sqrt(), 0.0)

    return _over_inputs(layer, x, some)


def edge_mean(layer: KANLinear, x: Tensor) -> Tensor:
    """Mean of every edge."""
    return _over_inputs(layer, x, lambda terms, weights: weights @ terms.mean(2)[..., None])


def edge_size(layer: KANLinear, x: Tensor) -> Tensor:
    """Mean absolute value of every edge; this one does make the edges, of some inputs at a time."""
    return _over_inputs(layer, x, lambda terms, weights: (weights @ terms).abs().mean(2))


def _over_inputs(layer: KANLinear, x: Tensor, statistic: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``statistic(terms [inputs, functions, rows], weights [inputs, outputs, functions])``, some inputs at a time."""
    if x.dim() != 2 or x.shape[1] != layer.in_features:
        raise ValueError(f"x must be [rows, {layer.in_features}], not {list(x.shape)}")

    def part(x: Tensor, weights: Tensor, inputs: slice) -> Tensor:
        terms = basis_columns(x, layer.basis, inputs)
        if layer.base_weight is not None:
            terms = torch.cat([layer.base(x)[:, None], terms], 1)
        return statistic(terms, weights).reshape(len(x), -1)

    weights = layer.curves()
    if layer.base_weight is not None:
        weights = torch.cat([(layer.base_weight * layer.mask)[..., None], weights], 2)
    weights = weights.transpose(0, 1)
    pieces = [inputs for inputs, _ in blocks(layer.in_features, len(x), layer.basis.size)]
    if len(pieces) == 1:
        return part(x.t(), weights, pieces[0]).t()
    parts = [checkpoint(part, x[:, i].t(), weights[i], i, use_reentrant=False) for i in pieces]
    return torch.cat(parts).t()
