"""Data parallelism for every learning rule: all end in ``.grad``, so one all-reduce distributes all of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 25 * 2**20


def broadcast_state(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0; call it once, after the rule is built.

    Buffers count: a feedback matrix must be the same everywhere. Does nothing without a process group.
    """
    if not _several_ranks():
        return
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor, src=0)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average ``.grad`` over all ranks, in buckets of 25 MB per dtype and device.

    Call it between ``rule.assign_credit`` (and penalties) and ``optimizer.step()``. With equal batch sizes on all
    ranks and a loss that is a mean over the batch, the result is the gradient on the joined batch. A parameter that
    has a gradient on some ranks only counts as zero on the others. Does nothing without a process group.
    """
    if not _several_ranks():
        return
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        return
    has_gradient = torch.tensor([p.grad is not None for p in trainable], dtype=torch.int32, device=trainable[0].device)
    dist.all_reduce(has_gradient, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, somewhere in zip(trainable, has_gradient.tolist(), strict=True):
        if somewhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if somewhere and parameter.grad is not None:
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _buckets(gradients: list[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = []
    open_bucket: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], int]] = {}
    for gradient in gradients:
        kind = (gradient.dtype, gradient.device)
        bucket, size = open_bucket.get(kind, ([], _BUCKET_BYTES))
        if size + gradient.nbytes > _BUCKET_BYTES:
            bucket, size = [], 0
            buckets.append(bucket)
        bucket.append(gradient)
        open_bucket[kind] = (bucket, size + gradient.nbytes)
    return buckets
