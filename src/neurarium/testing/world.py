"""A user's surroundings in one check: where tensors lie, of which type they are, how labels and batches come."""

from __future__ import annotations

import itertools
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

BatchKind = Literal["pair", "triple", "dict", "encoding"]


class Output(dict[str, Tensor]):
    """What Hugging Face models return: a mapping whose entries are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Classifier(nn.Module):
    """Three classes from 8 inputs, with batch norm and dropout, which betray a disturbed mode or random state."""

    def __init__(self, wrapped: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 12), nn.Tanh(),
            nn.Linear(12, 3),
        )  # fmt: skip
        self.wrapped = wrapped

    def forward(self, x: Tensor) -> Any:
        """[batch, 8] -> logits [batch, 3], as they are or in an `Output`."""
        logits = self.layers(x)
        return Output(logits=logits) if self.wrapped else logits


@dataclass
class World:
    """Makes the tensors, networks and loaders of an example, all alike.

    Args:
        device: where they lie.
        dtype: of floating-point tensors and networks.
        label_dtype: of labels.
        labels: the classes that occur.
        batch: how a loader gives its batches; "dict" and "encoding" go with networks that return an `Output`.
        training: the mode that networks are in.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    label_dtype: torch.dtype = torch.int64
    labels: tuple[int, ...] = (0, 1, 2)
    batch: BatchKind = "pair"
    training: bool = False
    made: list[nn.Module] = field(default_factory=list)

    def x(self, *shape: int, seed: int = 0) -> Tensor:
        """Normal numbers, the same in every world."""
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return numbers.to(self.device, self.dtype)

    def positive(self, *shape: int, seed: int = 0) -> Tensor:
        """Numbers between 0.1 and 1."""
        return self.x(*shape, seed=seed).sigmoid() * 0.9 + 0.1

    def logp(self, *shape: int, seed: int = 0) -> Tensor:
        """Log-probabilities along the last dimension."""
        return self.x(*shape, seed=seed).log_softmax(-1)

    def whole(self, *values: Any) -> Tensor:
        """These numbers as whole ones."""
        return torch.tensor(values, device=self.device)

    def spins(self, *shape: int, seed: int = 0) -> Tensor:
        """Entries of +1 and -1."""
        return self.x(*shape, seed=seed).sign()

    def y(self, examples: int = 12) -> Tensor:
        """Labels, the classes in turn."""
        turns = torch.tensor(self.labels)[torch.arange(examples) % len(self.labels)]
        return turns.to(self.device, self.label_dtype)

    def put(self, module: nn.Module) -> Any:
        """The module on the device, of the dtype, in the mode; remembered for the check."""
        module = module.to(self.device, self.dtype).train(self.training)
        self.made.append(module)
        return module

    def mlp(self, *sizes: int, seed: int = 0) -> nn.Sequential:
        """Linear layers with ReLUs between them, drawn from a seed of their own."""
        pairs = itertools.pairwise(sizes)
        return self.new(lambda: nn.Sequential(*[m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())][:-1]), seed)

    def new(self, make: Callable[[], nn.Module], seed: int = 0) -> Any:
        """`put` of what ``make()`` gives, with random numbers of its own: torch's state is as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.put(make())

    def classifier(self, seed: int = 0) -> nn.Module:
        """A network with batch norm and dropout for batches of this world."""
        return self.new(lambda: Classifier(self.batch in ("dict", "encoding")), seed)

    def batches(self, count: int = 2, seed: int = 0) -> list[Any]:
        """A loader of batches of 12 examples that a class tells apart."""
        return [self._batch(self.examples(12, seed + i), self.y()) for i in range(count)]

    def examples(self, number: int = 12, seed: int = 0) -> Tensor:
        """Inputs [number, 8] that differ by class."""
        return self.x(number, 8, seed=seed) + self.y(number).to(self.dtype).unsqueeze(1)

    def _batch(self, x: Tensor, y: Tensor) -> Any:
        if self.batch == "triple":
            return x, y, torch.arange(len(y))
        if self.batch == "dict":
            return {"x": x, "labels": y}
        if self.batch == "encoding":
            return UserDict({"x": x, "labels": y})
        return x, y


def leaves(result: Any, place: str = "") -> dict[str, Any]:
    """Tensors and numbers in a result (a nest of containers, dataclasses, modules), by where they are."""
    if isinstance(result, (Tensor, int, float)):
        return {place: result}
    if isinstance(result, nn.Module):
        parts: Mapping[Any, Any] = result.state_dict()
    elif isinstance(result, Mapping):
        parts = result
    elif isinstance(result, (list, tuple)):
        parts = dict(enumerate(result))
    elif hasattr(result, "__dataclass_fields__"):
        parts = {name: getattr(result, name) for name in result.__dataclass_fields__}
    else:
        return {}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        found |= leaves(part, f"{place}.{name}" if place else str(name))
    return found


def close(first: Any, second: Any, rtol: float = 1e-3, atol: float = 1e-5) -> bool:
    """Whether two results hold the same numbers, whatever their device and floating-point type."""
    a, b = leaves(first), leaves(second)
    if a.keys() != b.keys():
        return False
    for place, x in a.items():
        x, y = (torch.as_tensor(v).detach().cpu().double() for v in (x, b[place]))
        if x.shape != y.shape or not torch.allclose(x, y, rtol, atol, equal_nan=True):
            return False
    return True


ModuleExample = Callable[[World], tuple[nn.Module, tuple[Any, ...]]]
"""Makes a module and its inputs."""

Example = Callable[[World], Any]
"""One use of a component."""
