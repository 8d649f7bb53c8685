"""Contrast: a view's own partner against the partners of all other examples."""

from __future__ import annotations

import copy
import math

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize


def info_nce(
    queries: Float[Tensor, "batch features"],
    keys: Float[Tensor, "batch features"],
    temperature: float = 0.2,
    scale: bool = True,
) -> Float[Tensor, ""]:
    """Cross-entropy of finding each query's own key among all keys by cosine (InfoNCE; van den Oord et al., 2018).

    Under ``torch.distributed`` the keys of all processes are gathered, without a gradient through the gathering.

    Args:
        queries: one per example.
        keys: the partners, in the same order; give them without a graph where they come from a momentum encoder.
        temperature: tau.
        scale: multiply by 2 tau, as MoCo v3 does, so that the size of the gradient does not depend on tau.

    Raises:
        ValueError: shapes that differ, or a temperature that is not positive.
    """
    if queries.shape != keys.shape:
        raise ValueError(f"queries and keys must have one shape, not {list(queries.shape)} and {list(keys.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    q, k = normalize(queries, dim=1), normalize(keys, dim=1)
    own = torch.arange(len(q), device=q.device)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        everyone = [torch.empty_like(k) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, k.detach().contiguous())
        everyone[dist.get_rank()] = k
        k, own = torch.cat(everyone), own + len(q) * dist.get_rank()
    loss = cross_entropy(q @ k.mT / temperature, own)
    return 2 * temperature * loss if scale else loss


class MomentumEncoder(nn.Module):
    """A copy of a network that follows it slowly: theta' <- m theta' + (1 - m) theta, and never has a gradient.

    Buffers are its own: batch normalisation keeps the statistics of the copy's passes.

    Args:
        module: the network; the copy starts equal.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: nn.Module, momentum: float) -> None:
        """Follow the network by one step.

        Args:
            source: the network that was copied.
            momentum: m, 1 to stay.

        Raises:
            ValueError: a momentum outside 0 to 1, or another network's parameters.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be from 0 to 1, not {momentum}")
        own = [p.detach() for p in self.module.parameters()]
        followed = [p.detach() for p in source.parameters()]
        if [p.shape for p in own] != [p.shape for p in followed]:
            raise ValueError("source must be the network that was copied: its parameters have other shapes")
        if momentum < 1:
            torch._foreach_lerp_(own, [p.to(q) for p, q in zip(followed, own, strict=True)], 1 - momentum)

    @torch.no_grad()
    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """What the copy gives, without a graph."""
        output: Tensor = self.module(*args, **kwargs)
        return output


def cosine_momentum(step: int, total: int, start: float = 0.99) -> float:
    """m that rises from ``start`` to 1 along half a cosine (BYOL, MoCo v3).

    Args:
        step: from 0.
        total: steps of the training.
        start: m at step 0.

    Raises:
        ValueError: no steps, or a step beyond them.
    """
    if total < 1 or not 0 <= step <= total:
        raise ValueError(f"step must be from 0 to total, not {step} of {total}")
    return 1 - 0.5 * (1 + math.cos(math.pi * step / total)) * (1 - start)
