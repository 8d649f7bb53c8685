"""Data in memory: examples with targets, their split, and mini-batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from neurarium.data.tables._encode import TableEncoder


@dataclass(frozen=True)
class Arrays:
    """Examples and their targets.

    Args:
        x: inputs, one example per row of the first dimension; images stay uint8 until `Split.scaled`.
        y: targets, one per example: int64 class indices or floating-point values.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} examples but y has {len(self.y)}")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> Arrays:
        """The examples at a slice, index tensor or mask."""
        return Arrays(self.x[index], self.y[index])

    def to(self, device: str | torch.device) -> Arrays:
        """The same examples on a device."""
        return Arrays(self.x.to(device), self.y.to(device))

    def subset(self, size: int, seed: int = 0) -> Arrays:
        """``size`` examples drawn without replacement by a generator of their own.

        Raises:
            ValueError: ``size`` is not between 1 and the number of examples.
        """
        if not 1 <= size <= len(self):
            raise ValueError(f"subset size must be between 1 and {len(self)}, not {size}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[:size].to(self.x.device)]


@dataclass(frozen=True)
class Split:
    """Training, validation and test examples of one data set.

    Args:
        train: what methods learn from.
        validation: what choices (hyper-parameters, early stopping) are made on; may be empty.
        test: what is reported.
        classes: class names in label order; empty for regression.
        name: name of the set, shown in messages.
        notes: what was done to each column of a table, a sentence each.
        encoder: what turned the table's rows into numbers, fitted on its training rows.
        steps: what was done to the inputs since (`scaled`, `flat`), in order.
    """

    train: Arrays
    validation: Arrays
    test: Arrays
    classes: tuple[str, ...] = ()
    name: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    encoder: TableEncoder | None = None
    steps: tuple[Callable[[Tensor], Tensor], ...] = ()

    def scaled(self) -> Split:
        """Float32 inputs with mean 0 and deviation 1 over the training examples.

        Images (uint8) are standardised as a whole, per channel where they have three; other inputs per column.
        The statistics come from the training examples alone.
        """
        x = self.train.x
        if x.dtype == torch.uint8:
            dims = (0, 2, 3) if x.dim() == 4 else tuple(range(x.dim()))
        else:
            dims = (0,)
        precise = x.double()
        mean = precise.mean(dims, keepdim=True)
        deviation = precise.std(dims, keepdim=True, correction=int(len(x) > 1))
        deviation = deviation.where(deviation > 1e-9 * mean.abs(), 1.0)  # a constant column stays what it is
        return self.map_inputs(Standardise(mean.float(), deviation.float()))

    def flat(self) -> Split:
        """Inputs as one vector per example."""
        return self.map_inputs(_flatten)

    def map_inputs(self, function: Callable[[Tensor], Tensor]) -> Split:
        """The split with ``function`` applied to each part's inputs."""

        def apply(part: Arrays) -> Arrays:
            return Arrays(function(part.x), part.y)

        steps = (*self.steps, function)
        return dataclasses.replace(
            self, train=apply(self.train), validation=apply(self.validation), test=apply(self.test), steps=steps
        )

    def inputs(self, rows: Any) -> Tensor:
        """New rows of the table as inputs like those of this split, standardised if it is.

        Args:
            rows: a pandas data frame, or the path of a file, with the columns of the table (the target may be absent).

        Raises:
            ValueError: the split does not come from a table; or what `TableEncoder.transform` says.
        """
        if self.encoder is None:
            raise ValueError(f"{self.name or 'the split'} does not come from a table; give its inputs as tensors")
        x: Tensor = self.encoder.transform(rows)
        for step in self.steps:
            x = step(x)
        return x

    def to(self, device: str | torch.device) -> Split:
        """The same split on a device."""
        return dataclasses.replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


@dataclass(frozen=True)
class Standardise:
    """``(x - mean) / deviation`` in float32, on the device of ``x``."""

    mean: Tensor
    deviation: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean.to(x.device)) / self.deviation.to(x.device)


def _flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


class Batches:
    """Mini-batches of in-memory examples, ten times faster than a `DataLoader` that collates single rows.

    Each pass over it draws a new order from its own generator, so two loaders with equal seeds give equal batches.

    Args:
        arrays: the examples.
        batch_size: examples per batch; the last one may be smaller.
        shuffle: draw a new order for each pass.
        drop_last: leave out a last batch that is smaller.
        seed: seed of the order.
    """

    def __init__(
        self, arrays: Arrays, batch_size: int, *, shuffle: bool = False, drop_last: bool = False, seed: int = 0
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if len(arrays) == 0:
            raise ValueError("there are no examples to make batches of")
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.arrays), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.arrays.x, self.arrays.y
        order = torch.randperm(len(x), generator=self.generator).to(x.device) if self.shuffle else None
        for i in range(len(self)):
            rows = slice(i * self.batch_size, (i + 1) * self.batch_size)
            index = rows if order is None else order[rows]
            yield x[index], y[index]
