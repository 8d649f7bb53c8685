"""Using somebody's network and leaving it as it was: modes, buffers, gradients, random states."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


@contextlib.contextmanager
def evaluation(*models: nn.Module) -> Iterator[None]:
    """Every module of the models in evaluation mode; afterwards each is again in the mode in which it was.

    A batch normalisation that the user froze with ``.eval()`` so stays frozen, which ``model.train()`` would undo.
    """
    with _modes_kept(models):
        for model in models:
            model.eval()
        yield


@contextlib.contextmanager
def training(*models: nn.Module) -> Iterator[None]:
    """The models in training mode, but for what the user froze; afterwards each module is in the mode in which it was.

    Where some layers of a model are in training mode and some are not, the user chose so, and all stay as they are.
    Where none is, the model was only being evaluated, and ``model.train()`` is called.
    """
    with _modes_kept(models):
        for model in models:
            layers = [module for module in model.modules() if next(module.children(), None) is None]
            if not any(layer.training for layer in layers):
                model.train()
        yield


@contextlib.contextmanager
def undisturbed(*models: nn.Module) -> Iterator[Callable[[], None]]:
    """Whatever is run within the context leaves no trace but in the parameters, which are not copied.

    Each module's mode, the buffers, the gradients (which are None at the beginning) and the random states of the CPU
    and of the models' devices are put back at the end. The mode is left as it is at the beginning; `evaluation`
    changes it.

    Args:
        models: any modules.

    Yields:
        A function that puts buffers and random states back already: what runs after it sees the same dropout masks
        and the same statistics as what ran before.
    """
    owners = list({id(module): module for model in models for module in model.modules()}.values())
    buffers = [_Buffers(module) for module in owners]
    gradients = {p: p.grad for model in models for p in model.parameters()}
    random_states = [_random_state(device) for device in _devices(models)]

    def rewind() -> None:
        for kept in buffers:
            kept.restore()
        for restore in random_states:
            restore()

    with _modes_kept(models):
        try:
            for parameter in gradients:
                parameter.grad = None
            yield rewind
        finally:
            rewind()
            for parameter, gradient in gradients.items():
                parameter.grad = gradient


@contextlib.contextmanager
def _modes_kept(models: tuple[nn.Module, ...]) -> Iterator[None]:
    modes: list[tuple[Any, bool]] = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Buffers:
    """A module's own buffers as they are now, those that are not sized yet left out."""

    def __init__(self, module: nn.Module) -> None:
        self.owner = module
        self.tensors = dict(module._buffers)
        known = {n: b for n, b in self.tensors.items() if b is not None and not is_lazy(b)}
        self.copies = {name: buffer.detach().clone() for name, buffer in known.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put them back; one that did not change is left alone, since a graph may have saved it."""
        self.owner._buffers.update(self.tensors)
        for name, copy in self.copies.items():
            buffer = self.tensors[name]
            if buffer is not None and not torch.equal(buffer, copy):
                buffer.copy_(copy)


def _devices(models: tuple[nn.Module, ...]) -> set[torch.device]:
    tensors = [t for model in models for t in (*model.parameters(), *model.buffers())]
    return {torch.device("cpu")} | {t.device for t in tensors if t.device.type not in ("cpu", "meta")}


def _random_state(device: torch.device) -> Callable[[], None]:
    """A function that puts a device's random state back to what it is now."""
    if device.type == "cpu":
        state = torch.get_rng_state()
        return lambda: torch.set_rng_state(state)
    backend = torch.get_device_module(device)
    if device.type == "mps":  # one device, so its functions take none
        state = backend.get_rng_state()
        return lambda: backend.set_rng_state(state)
    state = backend.get_rng_state(device)
    return lambda: backend.set_rng_state(state, device)
