"""How alike two representations of the same examples are, differentiably: linear CKA and RSA."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(similarity: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with autocast off: products of Gram matrices in half precision are of no use."""

    @functools.wraps(similarity)
    def call(x: Tensor, y: Tensor, **options: Any) -> Tensor:
        known = torch.amp.is_autocast_available(x.device.type)  # not by every device that torch can have
        with torch.autocast(x.device.type, enabled=False) if known else contextlib.nullcontext():
            return similarity(x, y, **options)

    return call


@full_precision
def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> Float[Tensor, ""]:
    """Linear centred kernel alignment (Kornblith et al., 2019): 1 for representations equal up to rotation and scale.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the Gram matrices of the two sides. Not debiased, it is near 1 for any
    two wide representations of few examples: about sqrt(p q / ((n + p)(n + q))) for independent ones of widths p and q.

    Args:
        x: activations, [examples, ...]; everything after the first dimension is flattened.
        y: activations of the same examples, of any width.
        debiased: use the unbiased estimator of HSIC (Song et al., 2012), which is 0 on average for independent
            representations and may be negative; needs 4 examples.

    Raises:
        ValueError: another number of examples on the two sides, or too few.
    """
    x, y = (_centred(z) for z in _flat(x, y, 4 if debiased else 2))
    if debiased:
        gram_x, gram_y = zero_diagonal(x @ x.T), zero_diagonal(y @ y.T)
        return _ratio(unbiased_hsic(gram_x, gram_y), unbiased_hsic(gram_x, gram_x), unbiased_hsic(gram_y, gram_y))
    if max(x.shape[1], y.shape[1]) < len(x):  # the p x q products are smaller than the n x n ones
        return _ratio((x.T @ y).square().sum(), (x.T @ x).square().sum(), (y.T @ y).square().sum())
    gram_x, gram_y = x @ x.T, y @ y.T
    return _ratio((gram_x * gram_y).sum(), gram_x.square().sum(), gram_y.square().sum())


@full_precision
def rsa(x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """Representational similarity: Pearson correlation of the two matrices of cosines between examples.

    Args:
        x: activations, [examples, ...].
        y: activations of the same examples, of any width.

    Raises:
        ValueError: another number of examples on the two sides, or fewer than 2.
    """
    x, y = (_of_size_one(z) for z in _flat(x, y, 2))
    gram_x, gram_y = (torch.nn.functional.normalize(z, dim=1) for z in (x, y))
    gram_x, gram_y = (gram_x @ gram_x.T).flatten(), (gram_y @ gram_y.T).flatten()
    gram_x, gram_y = gram_x - gram_x.mean(), gram_y - gram_y.mean()
    return _ratio((gram_x * gram_y).sum(), gram_x.square().sum(), gram_y.square().sum())


def _flat(x: Tensor, y: Tensor, fewest: int) -> tuple[Tensor, Tensor]:
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples but y has {len(y)}; give activations of the same batch")
    if len(x) < fewest:
        raise ValueError(f"at least {fewest} examples are needed, not {len(x)}")
    x, y = x.flatten(1), y.flatten(1)
    return (x, y) if x.dtype == torch.float64 else (x.float(), y.float())


def _ratio(cross: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """cross / sqrt(first second); 0, without a gradient, where a side is constant."""
    scale = first.clamp_min(0).sqrt() * second.clamp_min(0).sqrt()
    return cross / scale if float(scale.detach()) > torch.finfo(scale.dtype).tiny else torch.zeros_like(cross)


def _centred(x: Tensor) -> Tensor:
    """Columns less their means, of size 1: similarities are free of scale, but products of float32 are not."""
    x = _of_size_one(x)
    x = x - x.mean(0)
    return _of_size_one(x - x.mean(0))  # once more, for columns that vary little beside their mean


def _of_size_one(x: Tensor) -> Tensor:
    """Divided by the power of two next to the largest magnitude, which rounds nothing and counts as a constant."""
    largest = float(x.detach().abs().max())
    exponent = math.frexp(largest)[1] if math.isfinite(largest) else 0
    return x * 2.0 ** -max(-120, min(exponent, 120))


def zero_diagonal(gram: Tensor) -> Tensor:
    """A Gram matrix [n, n] with zeros on its diagonal."""
    return gram - torch.diag(gram.diagonal())


def unbiased_hsic(gram_x: Tensor, gram_y: Tensor) -> Tensor:
    """Unbiased HSIC of two Gram matrices with zero diagonals."""
    n = len(gram_x)
    means = gram_x.sum() * gram_y.sum() / ((n - 1) * (n - 2))
    rows = 2 / (n - 2) * (gram_x.sum(0) * gram_y.sum(0)).sum()
    return ((gram_x * gram_y).sum() + means - rows) / (n * (n - 3))
