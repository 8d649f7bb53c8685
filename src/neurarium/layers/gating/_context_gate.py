"""Gates and normalisation that depend on nothing but the context: which task is on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def retanh(x: Tensor) -> Tensor:
    """tanh(max(x, 0))²: exactly 0, and without gradient, for all x <= 0."""
    return x.relu().tanh().square()


class ContextGate(nn.Module):
    """Every unit times a learned gate of the current context, g = retanh(p_c) (GateON: Barry et al., 2023).

    A new context has about half of its gates at exactly 0 for good: a random sub-network of its own, which overlaps
    with those of other contexts. Each context has a parameter of its own, so an optimizer leaves the others alone.

    Args:
        num_features: number of units (channels).
        num_contexts: capacity; p starts uniform in ±1/sqrt(num_contexts), as a linear map of a one-hot context would.
        dim: dimension of the units: 1 for images, -1 for sequences.
        device, dtype: of the parameters.

    Shape:
        [batch, ...] with ``num_features`` along ``dim`` -> the same.

    Raises:
        ValueError: an argument out of range.
    """

    task_specific = True  # read by continual strategies: nothing here is shared between contexts

    def __init__(
        self,
        num_features: int,
        num_contexts: int = 128,
        dim: int = -1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_features < 1 or num_contexts < 1:
            raise ValueError(f"num_features and num_contexts must be at least 1, not {num_features} and {num_contexts}")
        self.num_features, self.dim = num_features, dim
        self.bound = 1 / math.sqrt(num_contexts)
        self.logit = nn.ParameterList()
        self.task = 0
        self._device, self._dtype = device, dtype
        self.grow(num_contexts)

    @property
    def num_contexts(self) -> int:
        """How many contexts there is room for."""
        return len(self.logit)

    def grow(self, contexts: int) -> list[nn.Parameter]:
        """Make room for more contexts; returns their parameters, for the optimizer."""
        like = self.logit[0] if len(self.logit) else torch.empty(0, device=self._device, dtype=self._dtype)
        new = [
            nn.Parameter(
                torch.empty(self.num_features, device=like.device, dtype=like.dtype).uniform_(-1, 1) * self.bound
            )
            for _ in range(contexts)
        ]
        self.logit.extend(new)
        return new

    def set_task(self, task: int) -> None:
        """Choose the context.

        Raises:
            ValueError: a number outside 0 .. num_contexts - 1.
        """
        if not 0 <= int(task) < len(self.logit):
            raise ValueError(f"context must be between 0 and {len(self.logit) - 1}, not {task}; grow() makes room")
        self.task = int(task)

    def gate(self, context: int | None = None) -> Tensor:
        """The gates of a context, by default the current one: [num_features] in [0, 1)."""
        return retanh(self.logit[self.task if context is None else context])

    def forward(self, x: Tensor) -> Tensor:
        """Scale every unit by its gate."""
        shape = [1] * x.dim()
        shape[self.dim] = self.num_features
        return x * self.gate().view(shape)

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, num_contexts={len(self.logit)}, dim={self.dim}"


class ContextNorm(nn.Module):
    """Batch normalisation without parameters whose running statistics belong to the current context.

    Training takes the statistics of the batch, evaluation the running ones of the context, so that a prediction does
    not depend on the rest of its batch.

    Args:
        num_features: size of the last dimension.
        num_contexts: capacity.
        momentum: share of the new batch in the running statistics; a context's first batch counts whole.
        eps: added to the variance.
        device, dtype: of the buffers.

    Shape:
        [..., num_features] -> the same.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor

    def __init__(
        self,
        num_features: int,
        num_contexts: int = 128,
        momentum: float = 0.1,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_features < 1 or num_contexts < 1 or not 0 < momentum <= 1:
            raise ValueError(
                "num_features and num_contexts must be at least 1 and momentum in (0, 1], "
                f"not {num_features}, {num_contexts} and {momentum}"
            )
        self.num_features, self.momentum, self.eps = num_features, momentum, eps
        self.register_buffer("mean", torch.zeros(num_contexts, num_features, device=device, dtype=dtype))
        self.register_buffer("var", torch.ones(num_contexts, num_features, device=device, dtype=dtype))
        self.register_buffer("batches", torch.zeros(num_contexts, dtype=torch.int64, device=device))
        self.task = 0

    def grow(self, contexts: int) -> None:
        """Make room for more contexts."""
        self.mean = torch.cat([self.mean, self.mean.new_zeros(contexts, self.num_features)])
        self.var = torch.cat([self.var, self.var.new_ones(contexts, self.num_features)])
        self.batches = torch.cat([self.batches, self.batches.new_zeros(contexts)])

    def set_task(self, task: int) -> None:
        """Choose the context.

        Raises:
            ValueError: a number outside the capacity.
        """
        if not 0 <= int(task) < len(self.mean):
            raise ValueError(f"context must be between 0 and {len(self.mean) - 1}, not {task}; grow() makes room")
        self.task = int(task)

    def forward(self, x: Tensor) -> Tensor:
        """Mean 0 and variance 1 per unit; a batch of one has no variance and takes the running statistics."""
        if not self.training or x.shape[:-1].numel() == 1:
            return (x - self.mean[self.task]) * (self.var[self.task] + self.eps).rsqrt()
        var, mean = torch.var_mean(x.flatten(0, -2), 0, correction=0)
        with torch.no_grad():
            weight = 1.0 if self.batches[self.task] == 0 else self.momentum
            self.mean[self.task].lerp_(mean, weight)
            self.var[self.task].lerp_(var, weight)
            self.batches[self.task] += 1
        return (x - mean) * (var + self.eps).rsqrt()

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, num_contexts={len(self.mean)}"
