"""Which k of many, softly: the top-k of entropic optimal transport, solved exactly."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def soft_topk(
    scores: Float[Tensor, "*batch n"], k: float | int, *, eps: float = 5e-4, largest: bool = False
) -> Float[Tensor, "*batch n"]:
    """Membership of every entry in the k smallest of its row: values in [0, 1] that sum to k (Xie et al., 2020).

    Optimal transport of n equal masses to two places, "chosen" (cost c²) and "not chosen" (cost (c - 1)²), costs
    divided by M, the row's largest, with entropy ``eps``. With two places its solution has a closed form: sigmoid((t -
    d) / eps) with d = (2 c - 1) / M and the one t for which the row sums to k. Newton's method within a bracket finds
    it where hundreds of Sinkhorn iterations may not. Gradients are those of the implicit function; M is a constant.

    Args:
        scores: c; distances as a rule.
        k: how many are chosen, any number between 0 and n.
        eps: of the entropy: towards 0 the membership is 0 or 1, towards infinity k / n for all.
        largest: the k largest instead; ``scores`` are then similarities and c = 1 - scores.

    Raises:
        ValueError: k is not between 0 and n, or ``eps`` is not positive.
    """
    n = scores.shape[-1]
    if not 0 < k < n:
        raise ValueError(f"k must be above 0 and below the number of entries ({n}), not {k}")
    if not eps > 0:
        raise ValueError(f"eps must be positive, not {eps}")
    return _Membership.apply(1 - scores if largest else scores, float(k), float(eps))


class _Membership(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, k: float, eps: float) -> Tensor:
        exact = c.detach().double()  # at eps = 5e-4 single precision would lose the sum
        largest = torch.maximum(exact.square(), (exact - 1).square()).amax(-1, keepdim=True)
        d = (2 * exact - 1) / largest
        a = torch.sigmoid((threshold(d, k, eps) - d) / eps)
        ctx.eps = eps
        ctx.save_for_backward(a, largest)
        return a.to(c.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        a, largest = ctx.saved_tensors
        w, g = a * (1 - a), gradients[0].double()
        total = w.sum(-1, keepdim=True)
        mean = torch.where(total > 0, (w * g).sum(-1, keepdim=True) / total.clamp_min(1e-300), 0.0)
        return (-(w * (g - mean)) / ctx.eps * 2 / largest).to(gradients[0].dtype), None, None


def threshold(d: Tensor, k: float, eps: float) -> Tensor:
    """The t of each row with sum sigmoid((t - d) / eps) = k: Newton steps, halving the bracket where one leaves it.

    At the lower end the m = ceil(k) - 1 smallest entries count at most 1 each and the n - m others at most (k - m) / (n
    - m) each; at the upper end the m + 2 smallest alone count k.
    """
    n, m = d.shape[-1], math.ceil(k) - 1
    nearest = d.topk(min(m + 2, n), largest=False).values
    low = nearest[..., m : m + 1] + eps * logit((k - m) / (n - m))
    high = nearest[..., -1:] + eps * logit(k / min(m + 2, n))
    t = (low + high) / 2
    for _ in range(100):
        a = torch.sigmoid((t - d) / eps)
        excess = a.sum(-1, keepdim=True) - k
        found = excess.abs() <= 1e-10 * k
        if bool(found.all()):
            break
        low, high = torch.where(excess < 0, t, low), torch.where(excess > 0, t, high)
        slope = (a * (1 - a)).sum(-1, keepdim=True) / eps
        newton = t - excess / slope.clamp_min(1e-300)
        better = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
        t = torch.where(found, t, better)  # at the root itself the step is outside the bracket
    return t


def logit(p: float) -> float:
    """log(p / (1 - p)), within what a double holds."""
    return math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(40.0, p - 0.5)
