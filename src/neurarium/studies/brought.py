"""What a person brings to a comparison (data, a target, a network) as settings, and what they stand for.

Everything that a number depends on is part of the settings, and so of a stored result's key: the contents of the data's
file or folder and of the target's file, and the code of the network, of what it imports and of the idea.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from neurarium.data import Split, identity, load
from neurarium.data.known._sets import table
from neurarium.lab import RequestError
from neurarium.lab.fingerprint import Root, fingerprint
from neurarium.recipes.problem import Problem


@dataclass(frozen=True)
class Brought:
    """Data and network; common to the settings of all comparisons.

    Args:
        data: a data set's name, or the path of the user's file or folder.
        target: target column of a table, or file of an array's targets.
        drop: columns of a table to leave out.
        keep: columns of a table to take although they would be left out.
        missing: "impute" or "refuse" gaps in a table.
        model: "mlp", or "package.module:name" of a function or class that gives a module.
        steps: optimizer steps at most; 0 for a number that suits the size of the data.
        seconds: of a training at most; 0 for no limit.
        batch_size: examples per step; 0 for a number that suits the size of the data.
        examples: train on so many only, and test on at most as many; 0 for all.
        digest: SHA-256 of the files named, so that changed data are a new trial.
        code: fingerprint of the code that was named (network, idea), so that changed code is a new trial.
    """

    data: str
    target: str = ""
    model: str = "mlp"
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    missing: Literal["impute", "refuse"] = "impute"
    steps: int = 0
    seconds: float = 0.0
    batch_size: int = 0
    examples: int = 0
    digest: str = ""
    code: str = ""


B = TypeVar("B", bound=Brought)


def identified(settings: B) -> B:
    """The settings with absolute paths, and with the digest of what is in the files."""
    path = Path(settings.data).expanduser().absolute()
    if (
        settings.data in table() or not path.exists()
    ):  # a known set is fixed by its version; `load` says what is missing
        return settings
    absolute: dict[str, Any] = {"data": str(path)}
    if settings.target.lower().endswith(".npy"):
        absolute["target"] = str(Path(settings.target).expanduser().absolute())
    return dataclasses.replace(settings, **absolute, digest=identity(settings.data, settings.target or None))


def code_of(model: str, *others: Root) -> str:
    """Fingerprint of the user's network, of what it imports of the user's, and of further files or definitions."""
    own: list[Root] = [] if model == "mlp" else [Path(inspect.getfile(sys.modules[model.partition(":")[0]]))]
    return fingerprint([*own, *others])


def load_scaled(settings: Brought, *, flat: bool = True) -> tuple[Split, bool]:
    """The data, standardised on the training examples, and whether they are images.

    The built-in network gets one vector per example, a user's gets images with a channel dimension.

    Raises:
        RequestError: more examples are asked for than there are.
    """
    split = load(
        settings.data, target=settings.target or None, drop=settings.drop, keep=settings.keep, missing=settings.missing
    )
    if settings.examples > len(split.train):
        raise RequestError(f"--examples must be at most {len(split.train)} for {split.name}, not {settings.examples}")
    if settings.examples:
        test = split.test.subset(min(settings.examples, len(split.test)))
        split = dataclasses.replace(split, train=split.train.subset(settings.examples), test=test)
    images = split.train.x.dtype == torch.uint8 and split.train.x.dim() >= 3
    split = split.scaled()
    if settings.model == "mlp":
        return (split.flat() if flat else split), images
    if images and split.train.x.dim() == 3:
        split = split.map_inputs(lambda x: x.unsqueeze(1))
    return split, images


def make_problem(settings: Brought, split: Split, images: bool, device: str = "cpu") -> Problem:
    """The problem that the settings and the scaled data pose."""
    return Problem.of(
        split, factory(settings.model, split), steps=settings.steps, seconds=settings.seconds or math.inf,
        batch_size=settings.batch_size, device=device, images=images,
    )  # fmt: skip


def factory(name: str, split: Split) -> Callable[[], nn.Module]:
    """What makes the built-in network, or the user's; tried once.

    Raises:
        RequestError: the name leads nowhere, or what it gives is not a module whose output fits the data.
    """
    outputs = max(len(split.classes), 1)
    inputs = split.train.x[0].numel()
    if name == "mlp":
        return lambda: nn.Sequential(
            nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
        )  # fmt: skip
    make = named_object(name)
    if not callable(make):
        raise RequestError(f"model {name} is {type(make).__name__}, not a function or class that gives a module")
    needed = [p for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    build: Callable[[], Any] = (lambda: make(inputs, outputs)) if len(needed) >= 2 else make
    with torch.random.fork_rng(devices=[]):
        model = build()
    if not isinstance(model, nn.Module):
        raise RequestError(f"model {name} gave {type(model).__name__}, not a torch.nn.Module")
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(split.train.x[:2]).shape)
    except Exception as error:  # whatever a stranger's network raises
        first = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"model {name} does not take inputs of shape {tuple(split.train.x[:2].shape)}: {first}"
        ) from error
    if shape != (2, outputs) and not (outputs == 1 and shape == (2,)):
        raise RequestError(f"model {name} maps 2 examples to shape {shape}; the data want (2, {outputs})")
    return build


def named_object(name: str) -> Any:
    """What "package.module:name" names.

    Raises:
        RequestError: the module cannot be imported, or has no such name.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise RequestError(f"model must be 'mlp' or package.module:name, not {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RequestError(
            f"model: cannot import {module_name} ({error}); run where the package can be found"
        ) from None
    if not hasattr(module, attribute):
        raise RequestError(f"model: {module_name} has no {attribute!r}")
    return getattr(module, attribute)


def chosen(names: Sequence[str], known: Sequence[str], what: str) -> tuple[list[str], bool]:
    """The names asked for, or all, and whether it was "all"; a name with a colon is the user's own.

    Raises:
        RequestError: none is named, or one does not exist.
    """
    from neurarium.lab.study import closest

    if not names:
        raise RequestError(f"name at least one {what}, or 'all': {', '.join(known)}")
    if list(names) == ["all"]:
        return list(known), True
    return [name if ":" in name else closest(name, known, what) for name in names], False
