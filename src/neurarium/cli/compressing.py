"""``neurarium compress``: one model in, a smaller one out."""

from __future__ import annotations

import dataclasses
import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import torch

import neurarium.compression
from neurarium.compression import Compressor
from neurarium.data import Batches, DataError
from neurarium.data._files import replacing
from neurarium.data._saved import read_saved
from neurarium.lab.errors import RequestError
from neurarium.lab.study import closest
from neurarium.recipes import Plan, Predictor, learn
from neurarium.recipes.gradient import Unwatched
from neurarium.studies.brought import Brought, load_scaled, make_problem
from neurarium.studies.idea import costs
from neurarium.training import evaluate


def compress_file(
    file: Path,
    data: str,
    method: str,
    target: str,
    model: str,
    weights: Path | None,
    epochs: int | None,
    batch_size: int,
) -> dict[str, Any]:
    """Compress a model and write it; returns what it was and what it is.

    Raises:
        RequestError: something in the request is wrong; nothing is written.
    """
    known = compressors()
    closest(method, known, "method")
    if file.suffix != ".pt2":
        raise RequestError(f"--out must end in .pt2, not {file.name!r}")
    if not file.absolute().parent.is_dir():
        raise RequestError(f"--out: there is no folder {file.absolute().parent}")
    for name, number in (("epochs", epochs), ("batch-size", batch_size)):
        if number is not None and number < 1:
            raise RequestError(f"--{name} must be at least 1, not {number}")
    settings = Brought(data, target, model, batch_size=batch_size)
    split, images = load_scaled(settings)
    if not split.classes:
        raise RequestError(f"compress needs data with classes; {split.name} has numbers as targets")
    problem = make_problem(settings, split, images)
    if epochs:
        problem = dataclasses.replace(problem, steps=epochs * len(problem.batches(0)))
    network, loader = problem.make_model(0), problem.batches(0)
    if weights is None:
        learn(problem, Plan(network), {}, Unwatched())
    else:
        read_weights(network, weights)
    try:
        small = known[method]().compress(network, loader).eval()
    except (ValueError, TypeError) as error:
        raise RequestError(f"{method} cannot compress this model: {str(error).splitlines()[0]}") from error
    test = Batches(split.test, 1024)
    found = {
        when: {"accuracy": evaluate(part, test), **costs(Predictor.of(part), split.test.x[:1])}
        for when, part in (("before", network), ("after", small))
    }
    write(small, split.test.x[:2], file)
    return {"file": str(file), "method": method, **found}


def compressors() -> dict[str, type[Compressor]]:
    """Every compressor of the room by slug, ``TeacherClass`` as "teacher-class", ``N2N`` as "n2n"."""
    room = neurarium.compression
    kinds = [getattr(room, name) for name in dir(room)]
    found = [k for k in kinds if inspect.isclass(k) and issubclass(k, Compressor) and not inspect.isabstract(k)]
    return {re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])", "-", k.__name__).lower(): k for k in found}


def read_weights(network: torch.nn.Module, path: Path) -> None:
    """Load a ``state_dict`` into the network.

    Raises:
        RequestError: no such file, not a state_dict, or not one of this network.
    """
    try:
        network.load_state_dict(read_saved(path, "torch.save(model.state_dict(), ...)"))
    except DataError as error:
        raise RequestError(f"weights: {error}") from None
    except (RuntimeError, TypeError, AttributeError, KeyError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(f"weights: {path.name} is no state_dict of this model: {first}") from error


def write(small: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    """Export with a free batch size; the file appears whole or not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # caches that a layer fills as it runs are not part of the program
        program = torch.export.export(small, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        with replacing(file) as partial:
            torch.export.save(program, partial)
