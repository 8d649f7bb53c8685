"""Many copies of a network trained at once, each from its own initial weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from neurarium.training._batches import unpack
from neurarium.training._naming import buffer_key

Optimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


class Ensemble(nn.Module):
    """Networks of one architecture, their weights stacked along a first dimension; predicts the mean of their outputs.

    Args:
        models: of the same class and sizes.

    Raises:
        ValueError: no models.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        if not models:
            raise ValueError("models must hold at least one network")
        parameters, buffers = stack_module_state(list(models))
        self._names = {buffer_key(name): name for name in (*parameters, *buffers)}
        for name, value in parameters.items():
            trains = models[0].get_parameter(name).requires_grad
            self.register_parameter(buffer_key(name), nn.Parameter(value.detach(), requires_grad=trains))
        for name, value in buffers.items():
            self.register_buffer(buffer_key(name), value)
        self._architecture = [copy.deepcopy(models[0]).to("meta")]  # in a list: no part of the state
        self.train(models[0].training)

    def __len__(self) -> int:
        return len(next(iter((*self.parameters(), *self.buffers()))))

    def train(self, mode: bool = True) -> Ensemble:
        """Set the mode of every member."""
        super().train(mode)
        if architecture := self.__dict__.get("_architecture"):
            architecture[0].train(mode)
        return self

    def predict_all(self, *inputs: Any) -> Any:
        """Every member's output, along a new first dimension."""
        return self._map(lambda output: output, inputs)

    def losses(self, loss: Callable[[Any, Tensor], Tensor], x: Any, y: Tensor) -> Tensor:
        """Every member's loss on a batch [members]."""
        return self._map(lambda output: loss(output, y), (x,))

    def forward(self, *inputs: Any) -> Any:
        """The mean of the members' outputs."""
        return self.predict_all(*inputs).mean(0)

    @torch.no_grad()
    def round(self, *inputs: Any, threshold: float = 0.0) -> Tensor:
        """1 where the mean output is above the threshold, 0 elsewhere."""
        return (self(*inputs) > threshold).long()

    def member(self, index: int) -> nn.Module:
        """One network by itself, a copy."""
        reference = next(iter((*self.parameters(), *self.buffers())))
        model = copy.deepcopy(self._architecture[0]).to_empty(device=reference.device)
        with torch.no_grad():
            for key, name in self._names.items():
                dict(itertools.chain(model.named_parameters(), model.named_buffers()))[name].copy_(
                    getattr(self, key)[index]
                )
        return model

    def _map(self, then: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        state = {name: getattr(self, key) for key, name in self._names.items()}

        def one(state: dict[str, Tensor]) -> Any:
            return then(functional_call(self._architecture[0], state, inputs))

        return vmap(one, randomness="different")(state)


def train_ensemble(
    build: Callable[[], nn.Module],
    loader: Iterable[Any],
    loss: Callable[[Any, Tensor], Tensor],
    optimizer: Optimizer,
    *,
    members: int,
    steps: int,
    chunk: int = 64,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Iterator[Ensemble]:
    """Train networks that differ in their initial weights, ``chunk`` of them in one pass; a chunk at a time comes out.

    The members of a chunk see the same batches. Any optimizer whose rule acts on each weight by itself (SGD, Adam and
    their kin) trains each member as if it were alone. Stop taking chunks when enough are trained::

        mean = RunningMean()
        for part in train_ensemble(build, loader, mse_loss, lambda p: torch.optim.SGD(p, 0.1), members=1000, steps=100):
            if accuracy(mean.update(part.predict_all(x)), y) > 0.99:
                break

    Args:
        build: makes a network; called with torch seeded for each member by (seed, member), so that a member does not
            depend on the chunk it is trained in.
        loader: batches, iterated again and again.
        loss: of a member's output and the targets.
        optimizer: makes the optimizer of stacked parameters.
        members: networks in all.
        steps: of each of them.
        chunk: networks trained at once.
        seed: of the initial weights.
        device: where they are trained.

    Yields:
        `Ensemble`, in evaluation mode.

    Raises:
        ValueError: members, steps or chunk is below 1, or the loader gives no batch.
        FloatingPointError: a loss is not finite in the end.
    """
    if min(members, steps, chunk) < 1:
        raise ValueError(f"members, steps and chunk must be at least 1, not {members}, {steps} and {chunk}")
    for first in range(0, members, chunk):
        models = [_built(build, seed, i).to(device) for i in range(first, min(first + chunk, members))]
        ensemble = Ensemble(models).train()
        step = optimizer([p for p in ensemble.parameters() if p.requires_grad])
        for batch in itertools.islice(_endless(loader), steps):
            step.zero_grad()
            losses = ensemble.losses(loss, *unpack(batch))
            losses.sum().backward()
            step.step()
        if not bool(torch.isfinite(losses).all()):
            raise FloatingPointError("the loss of a member is not finite; lower the learning rate")
        step.zero_grad()
        yield ensemble.eval()


class RunningMean:
    """Mean of outputs that come in chunks, without keeping them.

    Attributes:
        count: members so far.
        mean: of their outputs; None before the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None

    @torch.no_grad()
    def update(self, outputs: Tensor) -> Tensor:
        """Take in outputs [members, ...]; returns the mean so far."""
        self.count += len(outputs)
        if self.mean is None:
            self.mean = outputs.mean(0)
        else:
            self.mean = self.mean + (outputs - self.mean).sum(0) / self.count
        return self.mean


def _built(build: Callable[[], nn.Module], seed: int, member: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence((seed, member)).generate_state(1)[0]))
        return build()


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("loader gave no batches")
