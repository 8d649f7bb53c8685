"""Training and evaluation mode, switched for a while and put back module by module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


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
def _modes_kept(models: tuple[nn.Module, ...]) -> Iterator[None]:
    modes: list[tuple[Any, bool]] = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
