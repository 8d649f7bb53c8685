"""What networks are made of besides matrix products: softmax, norms, GELU, attention, dropout, cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurarium.layers.pam._bits import constant, format_of, logarithm, power_of_two, product, quotient
from neurarium.layers.pam._elementary import LOG2_E, div, exp, log2, mul, scaled, shifted_exp, sqrt
from neurarium.layers.pam._sums import matmul


def mean(
    x: Tensor, dim: int | tuple[int, ...] = -1, *, keepdim: bool = False, approximate_backward: bool = True
) -> Tensor:
    """Mean over one dimension or several: the sum, divided by the count piecewise affinely."""
    count = math.prod(x.shape[d] for d in ((dim,) if isinstance(dim, int) else dim))
    return div(x.sum(dim, keepdim=keepdim), float(count), approximate_backward=approximate_backward)


def softmax(x: Tensor, dim: int = -1, *, approximate_backward: bool = True) -> Tensor:
    """Softmax of piecewise affine operations: ``p = exp2(mul(x, log2 e) - floor(max)) / sum``.

    The shift by a whole number is exact and needs no gradient. Logits of -inf have probability 0.
    """
    format_of(x)
    shift = _whole_maximum(x, dim)
    weights = shifted_exp(x, shift, approximate_backward)
    return div(weights, weights.sum(dim, keepdim=True), approximate_backward=approximate_backward)


def log_softmax(x: Tensor, dim: int = -1, *, approximate_backward: bool = True) -> Tensor:
    """Logarithm of `softmax`, by ``log2`` of the sum; finite logits only."""
    z = mul(x, LOG2_E, approximate_backward=approximate_backward) - _whole_maximum(x, dim)
    total = shifted_exp(x, _whole_maximum(x, dim), approximate_backward).sum(dim, keepdim=True)
    whole = z - log2(total, approximate_backward=approximate_backward)
    return div(whole, LOG2_E, approximate_backward=approximate_backward)


def _whole_maximum(x: Tensor, dim: int) -> Tensor:
    return scaled(x.detach()).amax(dim, keepdim=True).floor()


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *,
    approximate_backward: bool = True,
) -> Tensor:  # fmt: skip
    """Layer norm over the last dimension: centred, divided by the square root of ``mean(mul(c, c)) + eps``, all
    piecewise affine."""
    mode = approximate_backward
    centred = x - mean(x, keepdim=True, approximate_backward=mode)
    variance = mean(mul(centred, centred, approximate_backward=mode), keepdim=True, approximate_backward=mode)
    y = div(centred, sqrt(variance + eps, approximate_backward=mode), approximate_backward=mode)
    y = y if weight is None else mul(y, weight, approximate_backward=mode)
    return y if bias is None else y + bias


def batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5, *,
    approximate_backward: bool = True,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.batch_norm` of piecewise affine operations, its running statistics too.

    Centred and divided by the square root of ``mean(mul(c, c)) + eps`` per channel. In training the statistics are the
    batch's, and the running ones (if any) become ``running + mul(momentum, batch's - running)``, the variance with
    n - 1 for n; else the running ones are used. Not ``mul(1 - momentum, running) + mul(momentum, batch's)``: two
    products fall short by different shares, and their average settles too low, at a momentum of 0.1 as low as at 0.6
    of what it averages.

    Args:
        x: [batch, channels, ...].
        running_mean: [channels], changed in place in training.
        running_var: [channels], changed in place in training.
        weight: gain [channels].
        bias: [channels].
        training: use the batch's statistics.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        approximate_backward: see `mul`.

    Raises:
        ValueError: training on one value per channel, or no running statistics outside training.
    """
    mode = approximate_backward
    others = (0, *range(2, x.ndim))
    shape = (-1, *[1] * (x.ndim - 2))
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("running_mean and running_var are needed where training is False")
        centred, variance = x - running_mean.view(shape), running_var.view(shape)
    else:
        count = x.numel() // x.shape[1]
        if count < 2:
            raise ValueError(f"batch norm needs more than one value per channel in training, not {tuple(x.shape)}")
        average = mean(x, others, keepdim=True, approximate_backward=mode)
        centred = x - average
        squares = mul(centred, centred, approximate_backward=mode).sum(others, keepdim=True)
        variance = div(squares, float(count), approximate_backward=mode)
        with torch.no_grad():
            for running, now in ((running_mean, average), (running_var, div(squares, float(count - 1)))):
                if running is not None:
                    running.add_(mul(now.reshape(-1).to(running.dtype) - running, momentum))
    y = div(centred, sqrt(variance + eps, approximate_backward=mode), approximate_backward=mode)
    y = y if weight is None else mul(y, weight.view(shape), approximate_backward=mode)
    return y if bias is None else y + bias.view(shape)


def gelu(x: Tensor, *, approximate_backward: bool = True) -> Tensor:
    """GELU as ``x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))``, the form that torch calls "tanh", piecewise affine.

    The sigmoid is ``1 / (1 + e)`` or ``e / (1 + e)``, with ``e = exp(-|.|)``, which cannot overflow. Beyond +-8, where
    it is 0 or 1 to every float type's precision, its argument stays as it is there.
    """
    mode = approximate_backward
    held = x.clamp(-8, 8)
    cube = mul(mul(held, held, approximate_backward=mode), held, approximate_backward=mode)
    inner = held + mul(cube, 0.044715, approximate_backward=mode)
    z = mul(inner, 2 * math.sqrt(2 / math.pi), approximate_backward=mode)
    # Not |z|: its derivative would be a product with its sign.
    e = exp(torch.where(z < 0, z, -z), approximate_backward=mode)
    share = div(torch.where(z < 0, e, constant(1.0, e)), e + 1, approximate_backward=mode)
    return mul(x, share, approximate_backward=mode)


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, offset: float | None = None,
    approximate_backward: bool = True, true_softmax: bool = False, drop: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scaled dot-product attention with piecewise affine matrix products.

    Args:
        query: [..., length, d].
        key: [..., source, d].
        value: [..., source, d].
        mask: added to the logits, broadcasts to [..., length, source]; -inf hides.
        offset: see `mul`.
        approximate_backward: see `mul`.
        true_softmax: the ordinary softmax and scaling, so that the matrix products alone are piecewise affine.
        drop: what is done to the weights before they are used, such as dropout.

    Returns:
        Output [..., length, d] and attention weights [..., length, source].
    """
    scale = query.shape[-1] ** -0.5
    mode = approximate_backward
    scaled_query = query * scale if true_softmax else mul(query, scale, approximate_backward=mode)
    logits = matmul(scaled_query, key.mT, offset=offset, approximate_backward=mode)
    logits = logits if mask is None else logits + mask
    weights = logits.softmax(-1) if true_softmax else softmax(logits, approximate_backward=mode)
    weights = weights if drop is None else drop(weights)
    return matmul(weights, value, offset=offset, approximate_backward=mode), weights


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, *, generator: torch.Generator | None = None,
    approximate_backward: bool = True,
) -> Tensor:  # fmt: skip
    """Dropout, its scale 1 / (1 - p) by a piecewise affine product.

    Raises:
        ValueError: ``p`` is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), not {p}")
    if not training or p == 0:
        return x
    dropped = torch.rand(x.shape, device=x.device, generator=generator) < p
    return mul(x.masked_fill(dropped, 0), 1 / (1 - p), approximate_backward=approximate_backward)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, average: bool) -> Tensor:
        z = scaled(logits)
        z = z - z.amax(1, keepdim=True).floor()
        powers = power_of_two(z)
        total = powers.sum(1, keepdim=True)
        ctx.save_for_backward(quotient(powers, total), target)
        ctx.average = average
        # The value is for the reader only: the gradient does not depend on it.
        logs = quotient(z - logarithm(total), constant(LOG2_E, z))
        loss = -product(logs, target).sum()
        return quotient(loss, constant(float(len(logits)), loss)) if average else loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        probabilities, target = ctx.saved_tensors
        each = quotient(constant(1.0, grad), constant(float(len(target)), grad)) if ctx.average else constant(1.0, grad)
        return product(product(probabilities - target, each), grad), None, None


def cross_entropy(
    logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:  # fmt: skip
    """Cross-entropy whose gradient is ``(softmax(logits) - target) / batch``, all piecewise affine.

    The value is made of piecewise affine operations too; only the gradient matters for training.

    Args:
        logits: [batch, classes], finite.
        target: class indices [batch].
        label_smoothing: share of the target that is spread evenly over all classes.
        reduction: "mean" or "sum".

    Raises:
        ValueError: shapes that do not fit, or an unknown ``reduction``.
    """
    format_of(logits)
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must be [batch, classes] and target [batch], not {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
    rest = label_smoothing / logits.shape[1]
    wanted = torch.full_like(logits, rest).scatter_(1, target.unsqueeze(1), 1 - label_smoothing + rest)
    return _CrossEntropy.apply(logits, wanted, reduction == "mean")
