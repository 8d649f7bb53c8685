"""What every family gives: inputs, targets, and a network that computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Sampler = Callable[[int, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class SymmetricTarget:
    """A function with a symmetry, of mean 0 and variance 1 under its inputs' distribution (or with values ±1).

    Args:
        sample: ``sample(count, generator)`` draws inputs; ``None`` is torch's global generator.
        network: computes the target [batch] from inputs; a plain network of torch's layers where the family allows it.
        name: for tables and messages.
        group: the permutations of coordinates that leave it as it is; none where the symmetry is that of graphs.
    """

    sample: Sampler
    network: nn.Module
    name: str
    group: Int[Tensor, "order inputs"] | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Float[Tensor, " batch"]:
        """Targets of inputs."""
        return self.network(x).reshape(len(x))


def cyclic_shifts(n: int) -> Int[Tensor, "n n"]:
    """All n cyclic permutations of n coordinates, the identity first; ``x[:, shifts[g]]`` is x moved.

    Args:
        n: number of coordinates.
    """
    steps = torch.arange(n)
    return (steps[:, None] + steps) % n


def checked_group(group: Int[Tensor, "order n"] | None, n: int) -> Int[Tensor, "order n"]:
    """The permutations, or the identity alone.

    Raises:
        ValueError: they do not act on n coordinates, or are not closed under composition.
    """
    if group is None:
        return torch.arange(n)[None]
    if group.dim() != 2 or group.shape[1] != n or not torch.equal(group.sort(1)[0], torch.arange(n).expand_as(group)):
        raise ValueError(f"group must hold permutations of {n} coordinates, one in each row")
    rows = set(map(tuple, group.tolist()))
    if any(tuple(p[i] for i in q) not in rows for p in rows for q in rows) or len(rows) < len(group):
        raise ValueError("group must hold each permutation once and be closed under composition")
    return group


def gaussian(n: int) -> Sampler:
    """Standard normal inputs of n coordinates."""

    def sample(count: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(count, n, generator=generator, device=generator.device if generator else None)

    return sample
