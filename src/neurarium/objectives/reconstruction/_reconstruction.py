"""The loss of an autoencoder, and a loader whose targets are its own inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import mse_loss

from neurarium.training import unpack

CORRUPTIONS = ("gaussian", "masking")
Corruption = Callable[[Tensor], Tensor]


def reconstruction_loss(
    output: Float[Tensor, ...],
    target: Float[Tensor, ...],
    mask: Bool[Tensor, ...] | None = None,
    loss: Callable[..., Tensor] = mse_loss,
) -> Float[Tensor, ""]:
    """Mean loss over the entries that are there.

    Args:
        output: what the autoencoder gives.
        target: what it was to give; NaN where an entry is missing.
        mask: True for entries that count; all that are not NaN by default.
        loss: ``loss(output, target, reduction="none")`` for each entry: `torch.nn.functional.mse_loss` by default,
            `binary_cross_entropy` for outputs in (0, 1).

    Raises:
        ValueError: the shapes differ.
    """
    if output.shape != target.shape:
        raise ValueError(f"the reconstruction is {list(output.shape)}, but the input is {list(target.shape)}")
    if mask is not None and mask.shape != target.shape:
        raise ValueError(f"mask must have the input's shape {list(target.shape)}, not {list(mask.shape)}")
    present = ~target.isnan() if mask is None else mask & ~target.isnan()
    clean = target.masked_fill(~present, 0.0).to(output.dtype)
    # an output where nothing is known may be anything, NaN included: it is replaced before the loss, not after
    each = loss(torch.where(present, output, clean), clean, reduction="none")
    return (each * present).sum() / present.sum().clamp_min(1)


class ReconstructionBatches:
    """A loader for autoencoders: pairs of an input and the same input as its target, for `neurarium.training.fit`.

    Missing entries (NaN) are 0 in the input and stay NaN in the target, where `reconstruction_loss` leaves them out.

    Args:
        loader: batches in any form that `unpack` knows, whose targets are passed over, or tensors alone; iterated anew
            each time.
        corrupt: what is done to the input (not to the target), which makes a denoising autoencoder: "gaussian" adds
            normal noise, "masking" sets entries to 0, or your own function of a batch; None for nothing.
        level: deviation of the noise, or share of the entries set to 0; 0.2 by default.
        generator: of the corruption, on the CPU; torch's own by default.

    Raises:
        ValueError: an unknown corruption, or a level below 0.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        corrupt: str | Corruption | None = None,
        level: float = 0.2,
        generator: Generator | None = None,
    ) -> None:
        if isinstance(corrupt, str) and corrupt not in CORRUPTIONS:
            raise ValueError(f"corrupt must be one of {', '.join(CORRUPTIONS)} or a function, not {corrupt!r}")
        if level < 0:
            raise ValueError(f"level must not be negative, not {level}")
        self.loader, self.corrupt, self.level, self.generator = loader, corrupt, level, generator

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            target = batch if isinstance(batch, Tensor) else unpack(batch)[0]
            yield self._corrupted(target.nan_to_num(nan=0.0)), target

    def _corrupted(self, x: Tensor) -> Tensor:
        if self.corrupt is None:
            return x
        if callable(self.corrupt):
            return self.corrupt(x)
        if self.corrupt == "gaussian":
            return x + self.level * torch.randn(x.shape, generator=self.generator).to(x)
        return x * (torch.rand(x.shape, generator=self.generator) >= self.level).to(x)
