"""Figures as data: what to draw from recorded curves and metrics. The report draws them; a study only names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Common to all figures.

    Args:
        title: heading of the figure; says what to see in it.
        arms: arms to draw; empty for all that recorded the columns.
        note: a sentence below the figure.
    """

    title: str = ""
    arms: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Curve(Figure):
    """A line per arm with its 95 % band over seeds, from ``run.record(x=..., y=...)`` rows.

    Args:
        x: recorded column on the horizontal axis.
        y: recorded column on the vertical axis.
        series: a recorded column that splits each arm into several lines (a task, a layer); empty for one.
        log_x: logarithmic horizontal axis.
        log_y: logarithmic vertical axis.
    """

    x: str = ""
    y: str = ""
    series: str = ""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Bars(Figure):
    """A bar per arm with its 95 % interval over seeds, from the trials' final metrics.

    Args:
        metric: name of the metric.
    """

    metric: str = ""


@dataclass(frozen=True)
class Scatter(Figure):
    """A point per arm (mean over seeds) with two metrics as coordinates.

    Args:
        x: metric on the horizontal axis (``seconds`` and ``peak_memory`` are always there).
        y: metric on the vertical axis.
        log_x: logarithmic horizontal axis; arms at zero or below are not drawn then.
    """

    x: str = ""
    y: str = ""
    log_x: bool = False


@dataclass(frozen=True)
class Heatmap(Figure):
    """A small map per arm, from ``run.record(x=..., y=..., value=...)`` rows, averaged over seeds.

    Args:
        x: recorded column across.
        y: recorded column up.
        value: recorded column shown as colour.
    """

    x: str = ""
    y: str = ""
    value: str = ""
