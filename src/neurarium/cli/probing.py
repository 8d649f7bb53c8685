"""``neurarium probe``: look inside a network of one's own."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from neurarium.cli.compressing import read_weights
from neurarium.lab.errors import RequestError
from neurarium.lab.study import closest
from neurarium.probes import ProbeResult
from neurarium.studies.brought import Brought, factory, load_scaled
from neurarium.studies.probing import Subject, apply, fitting, plain, probes

FIGURES = (".png", ".svg", ".pdf")


def bring(
    data: str, target: str, model: str, weights: Path | None, other: Path | None, examples: int | None, device: str
) -> Subject:
    """What was named on the command line.

    Raises:
        RequestError: something in it is wrong.
    """
    split, _ = load_scaled(Brought(data, target, model))
    arrays = split.test if len(split.test) else split.train
    if examples is not None:
        if not 1 <= examples <= len(arrays):
            raise RequestError(f"--examples must be between 1 and {len(arrays)}, not {examples}")
        arrays = arrays[:examples]
    build = factory(model, split)

    def made(path: Path | None, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build()
        if path is not None:
            read_weights(network, path)
        return network.to(device).eval()

    second = None if other is None else made(other, 1)
    return Subject(made(weights, 0), arrays.to(device), second, lambda: made(None, 0), classes=bool(split.classes))


def listing(subject: Subject | None) -> list[dict[str, str]]:
    """All probes with what they measure and, where there is a subject, why one cannot be used on it."""
    reasons = {}
    if subject is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reasons = fitting(subject)
    rows = []
    for name, probe in probes().items():
        row = {"probe": name, "measures": (probe.__doc__ or "").strip().partition("\n")[0]}
        if subject is not None:
            row["fits"] = reasons[name] or "yes"
        rows.append(row)
    return sorted(rows, key=lambda row: row.get("fits") != "yes")


def settings_of(texts: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dictionary.

    Raises:
        RequestError: one has no ``=``.
    """
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise RequestError(f"--set takes NAME=VALUE, not {text!r}")
        found[name.strip().replace("-", "_")] = value
    return found


def probe_model(name: str, subject: Subject, settings: dict[str, str], figure: Path | None) -> dict[str, Any]:
    """Use a probe, and draw its figure into a file.

    Raises:
        RequestError: no such probe, it cannot be used here, or the figure cannot be written.
    """
    known = probes()
    probe = known[closest(name, known, "probe")]
    if figure is not None:
        if figure.suffix.lower() not in FIGURES:
            raise RequestError(f"--figure must end in {', '.join(FIGURES)}, not {figure.name!r}")
        if not figure.absolute().parent.is_dir():
            raise RequestError(f"--figure: there is no folder {figure.absolute().parent}")
    result = apply(probe, subject, settings)
    if figure is not None:
        draw(result, name, figure)
    return {"probe": name, "summary": result.summary(), "result": plain(result)} | (
        {} if figure is None else {"figure": str(figure)}
    )


def draw(result: ProbeResult, title: str, file: Path) -> None:
    """Write the result's figure; the file appears whole or not at all.

    Raises:
        RequestError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RequestError("--figure needs Matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    result.plot(axes)
    if not axes.get_title():
        axes.set_title(title)
    partial = file.with_name(f".{file.stem}.part{file.suffix}")
    figure.savefig(partial, dpi=150)
    os.replace(partial, file)
