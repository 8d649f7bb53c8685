"""Compressors side by side on one trained network: the study that ``neurarium compare --compressors`` builds.

Every arm compresses the same network, trained by backpropagation for the given epochs, with the compressor's own
defaults; ``none`` is that network. Accuracy is on test examples that nothing was chosen on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import neurarium.compression
from neurarium.compression import Compressor, account, milliseconds
from neurarium.data import Batches, Split
from neurarium.lab import Metrics, Paper, RequestError, Run, Scatter, Study
from neurarium.lab.registry import Entry
from neurarium.lab.study import closest
from neurarium.learning import Backprop
from neurarium.studies.compare_rules import (
    adam,
    build_model,
    default_epochs,
    identified,
    kebab_case,
    load_scaled,
    loss_for,
    members,
    sources_of,
)
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """One arm.

    Args:
        data: a data set's name, or the path of the user's file; must have classes.
        target: target column of a table.
        model: "mlp", or "package.module:name" of a function or class that gives a module.
        compressor: slug of the compressor, or "none".
        epochs: passes over the training examples for the network that is compressed; 0 for `default_epochs`.
        batch_size: examples per step.
        learning_rate: Adam's rate; 0 for that of backpropagation.
        examples: train on so many only, and test on at most as many; 0 for all.
        digest: SHA-256 of the data file, so that a changed file is a new trial.
    """

    data: str
    target: str = ""
    model: str = "mlp"
    compressor: str = "none"
    epochs: int = 0
    batch_size: int = 64
    learning_rate: float = 0.0
    examples: int = 0
    digest: str = ""


def trial(settings: Settings, run: Run) -> Metrics:
    """Train, compress, and measure what is left: accuracy, size, operations, milliseconds for one example."""
    split = load_scaled(settings).to(run.device)
    torch.manual_seed(run.seed)
    model = build_model(settings.model, split).to(run.device)
    loader = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    train(settings, model, split, loader)
    start = time.perf_counter()
    if settings.compressor != "none":
        torch.manual_seed(run.seed)
        model = compressors()[settings.compressor]().compress(model, loader)
    return {"accuracy": evaluate(model, Batches(split.test, 1024))} | measure(model, split.test.x[:1]) | {
        "compression_seconds": time.perf_counter() - start
    }  # fmt: skip


def train(settings: Settings, model: nn.Module, split: Split, loader: Batches) -> None:
    """The network that is compressed."""
    optimizer = adam(model, settings.learning_rate or Backprop.learning_rate)
    epochs = settings.epochs or default_epochs(split)
    fit(Backprop(model, loss_for(split)), loader, optimizer, epochs=epochs)


def measure(model: nn.Module, example: Tensor) -> dict[str, float]:
    """Weights that are not zero, bytes on disk, FLOPs, and the median milliseconds of one forward pass."""
    cost = account(model, example)
    model.eval()
    with torch.inference_mode():
        taken = milliseconds(lambda: model(example))
    return {
        "nonzero": float(cost.nonzero), "bytes": float(cost.bytes), "flops": float(cost.flops),
        "milliseconds": taken, "parameters": float(cost.parameters),
    }  # fmt: skip


def compressors() -> dict[str, type[Compressor]]:
    """Every compressor of the room by slug."""
    return {kebab_case(kind.__name__): kind for kind in members(neurarium.compression, Compressor)}


def varies(kind: type[Compressor], kinds: Iterable[type[Compressor]]) -> bool:
    """Whether it is another one in a variant, which is compared only when named."""
    return any(issubclass(kind, other) and kind is not other for other in kinds)


def study(base: Settings, names: Sequence[str]) -> tuple[Entry, Study, list[Path], dict[str, str]]:
    """The study that compares compressors, its entry, and the further files it depends on.

    Raises:
        RequestError: a compressor does not exist, or the data have no classes.
    """
    known = compressors()
    if not names:
        raise RequestError(f"name at least one compressor, or 'all': {', '.join(known)}")
    if list(names) == ["all"]:
        chosen = [slug for slug, kind in known.items() if not varies(kind, known.values())]
    else:
        chosen = [closest(name, known, "compressor") for name in names]
    split = load_scaled(base)
    base = dataclasses.replace(identified(base), epochs=base.epochs or default_epochs(split))
    if not split.classes:
        raise RequestError(f"--compressors needs data with classes; {split.name} has numbers as targets")
    build_model(base.model, split)
    definition = Study(
        paper=Paper(f"Compressors on {Path(base.data).name}", "", 2026),
        trial=trial,
        arms={slug: dataclasses.replace(base, compressor=slug) for slug in ("none", *chosen)},
        figures=[
            Scatter(title="Test accuracy against weights that are not zero", x="nonzero", y="accuracy"),
            Scatter(title="Test accuracy against milliseconds for one example", x="milliseconds", y="accuracy"),
        ],
    )
    sources = sources_of(base.model, [known[slug] for slug in chosen])
    entry = Entry("compare", "", "neurarium.studies.compare_compressors", Path(__file__).resolve())
    return entry, definition, sources, {}
