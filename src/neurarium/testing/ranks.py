"""Modules under `DistributedDataParallel`: what each rank of a group that is already there must find."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neurarium.testing import _module_seams
from neurarium.testing.contract import require
from neurarium.testing.seams import module_example
from neurarium.testing.world import World


def check_data_parallel(component: Any) -> None:
    """Wrapped in `DistributedDataParallel`, a module ends with the mean of the ranks' gradients.

    To be called on every rank. Modules without parameters to train have nothing to average and pass.

    Args:
        component: a module's class for which the seam checks know an example.

    Raises:
        ContractError: it does not; the sentence says what is wanted.
    """
    made = module_example(component)
    require(made is not None, component, "must show how it is used")
    module, inputs = _module_seams.build(made, World())  # type: ignore[arg-type]
    _module_seams.run(module, inputs)  # what is sized at the first pass exists from here on
    if not any(p.requires_grad for p in module.parameters()):
        return
    expected = [_gradients(copy.deepcopy(module), inputs, rank) for rank in range(dist.get_world_size())]
    used = set(expected[0])
    unused = any(p.requires_grad and name not in used for name, p in module.named_parameters())
    wrapped = nn.parallel.DistributedDataParallel(module, find_unused_parameters=unused)
    found = _gradients(wrapped, inputs, dist.get_rank())
    for name, values in found.items():
        alone = [one.get(name.removeprefix("module."), torch.zeros_like(values)) for one in expected]
        mean = torch.stack(alone).mean(0)
        near = torch.allclose(values, mean, 1e-3, 1e-5 * max(1.0, float(mean.abs().max())))
        require(near, component, f"must end with the mean of the ranks' gradients under DDP ({name})")


def _gradients(module: nn.Module, inputs: tuple[Any, ...], rank: int) -> dict[str, Tensor]:
    """Gradients of the sum of the output on inputs that differ from rank to rank."""
    given = tuple(
        x * (1 + rank) if isinstance(x, Tensor) and x.is_floating_point() and float(x.detach().min()) < 0 else x
        for x in inputs
    )
    _module_seams.differentiate(module, _module_seams.run(module, given))
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
