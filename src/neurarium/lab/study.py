"""What a study is: a paper, arms, scales, a trial, and claims fixed before anything is run."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from neurarium.data._errors import nearest
from neurarium.lab._run import Run
from neurarium.lab.claims import Claim
from neurarium.lab.errors import RequestError, StudyError
from neurarium.lab.figures import Figure

Metrics = Mapping[str, float]
Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = typing.get_args(Scale)


@dataclass(frozen=True)
class Paper:
    """Where the idea was published.

    Args:
        title: the paper's title.
        authors: "First et al." or the names.
        year: year of first publication.
        arxiv: arXiv identifier, empty where there is none.
    """

    title: str
    authors: str
    year: int
    arxiv: str = ""

    @property
    def url(self) -> str:
        """The paper's address, empty without an arXiv identifier."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""


Trial = Callable[[Any, Run], Metrics]
"""``trial(settings, run) -> metrics``."""


@dataclass(frozen=True)
class Arm:
    """An arm of an experiment of its own, in a study that has several.

    Args:
        trial: the experiment's trial.
        settings: a frozen dataclass of plain values, of the class that the trial takes.
    """

    trial: Trial
    settings: Any


@dataclass(frozen=True)
class Study:
    """A paper's claims and the trial that tests them.

    Args:
        paper: the source.
        trial: ``trial(settings, run) -> metrics``; a function of the settings and ``run.seed`` alone. None where every
            arm is an `Arm` with a trial of its own.
        arms: name -> settings (a frozen dataclass of plain values), or an `Arm`.
        claims: predicates on the metrics, margins included.
        scales: per scale what changes in every arm's settings: a mapping of fields, or a function settings -> settings
            where arms differ, or one of these per settings class (``{Images: {...}, Games: {...}}``). ``small`` is the
            arms as written unless it says otherwise.
        figures: what the report draws from the recorded curves.
        seeds: seeds run first, and the cap up to which more are run while a claim is undecided.
        deterministic: the trial does not use its seed: one run settles it, and the interval is a point.
        scope: ``measured``, ``mechanism`` (rests on a simulated part; say which in ``assumption``) or ``model:NAME``.
        assumption: printed beside a verdict of scope ``mechanism``.

    Raises:
        StudyError: the parts contradict each other.
    """

    paper: Paper
    trial: Trial | None
    arms: Mapping[str, Any]
    claims: Sequence[Claim] = ()
    scales: Mapping[str, Mapping[Any, Any] | Callable[[Any], Any]] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    seeds: tuple[int, int] = (3, 8)
    deterministic: bool = False
    scope: str = "measured"
    assumption: str = ""

    def __post_init__(self) -> None:
        if not self.arms:
            raise StudyError("a study needs at least one arm")
        bare = [settings for settings in self.arms.values() if not isinstance(settings, Arm)]
        if bare and self.trial is None:
            raise StudyError("a study without a trial needs Arm(trial, settings) for every arm")
        if len({type(settings) for settings in bare}) > 1:
            raise StudyError("arms of one trial must share one settings class; give others as Arm(trial, settings)")
        try:
            for claim in self.claims:
                for arm in claim.arms:
                    closest(arm, self.arms, f"arm of the claim {claim.text!r}")
            for scale in self.scales:
                closest(scale, SCALES, "scale")
        except RequestError as fault:
            raise StudyError(str(fault)) from None
        if self.scope == "mechanism" and not self.assumption:
            raise StudyError("a study of scope 'mechanism' must state its assumption")

    def settings(self, arm: str, scale: str, overrides: Mapping[str, str] | None = None) -> Any:
        """The settings of an arm at a scale, with command-line overrides (text, converted to each field's type)."""
        settings = self.arm(arm).settings
        change: Any = self.scales.get(closest(scale, SCALES, "scale"), {})
        if isinstance(change, Mapping) and any(isinstance(key, type) for key in change):
            change = change.get(type(settings), {})
        settings = change(settings) if callable(change) else dataclasses.replace(settings, **change)
        return override(settings, overrides or {})

    def arm(self, name: str) -> Arm:
        """An arm with its trial.

        Raises:
            RequestError: there is none of that name; offers the nearest.
        """
        arm = self.arms[closest(name, self.arms, "arm")]
        if isinstance(arm, Arm):
            return arm
        if self.trial is None:  # pragma: no cover - refused when the study is made
            raise RequestError(f"the arm {name!r} has no trial")
        return Arm(self.trial, arm)


def closest(name: str, known: typing.Iterable[str], what: str) -> str:
    """``name`` if it is known; otherwise a `RequestError` that offers the nearest match."""
    names = list(known)
    if name in names:
        return name
    raise RequestError(f"unknown {what} {name!r}: {nearest(name, names)}")


def override(settings: Any, values: Mapping[str, str]) -> Any:
    """A copy of a settings dataclass with fields replaced by converted text.

    Raises:
        RequestError: a field does not exist or the text does not fit its type.
    """
    hints = typing.get_type_hints(type(settings))
    changes = {
        name: convert(text, hints[closest(name, hints, "setting")], f"setting {name}") for name, text in values.items()
    }
    return dataclasses.replace(settings, **changes)


def convert(text: str, kind: Any, what: str) -> Any:
    """Text as a value of a type: int, float, bool, str, a Literal, optional, or a (comma-separated) tuple."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        for choice in arguments:
            if text == str(choice):
                return choice
        raise RequestError(f"{what} must be one of {', '.join(map(str, arguments))}, not {text!r}")
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("none", ""):
            return None
        return convert(text, next(a for a in arguments if a is not type(None)), what)
    if origin is tuple:
        parts = [part for part in text.split(",") if part]
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        if not repeated and len(parts) != len(arguments):
            raise RequestError(f"{what} takes {len(arguments)} comma-separated values, not {text!r}")
        return tuple(convert(p, arguments[0] if repeated else arguments[i], what) for i, p in enumerate(parts))
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "on"):
            return True
        if text.lower() in ("false", "no", "0", "off"):
            return False
        raise RequestError(f"{what} must be true or false, not {text!r}")
    if kind in (int, float, str):
        try:
            return kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise RequestError(f"{what} must be {wanted}, not {text!r}") from None
    raise RequestError(f"{what} cannot be set from the command line")
