"""Which probes can be used on what a person brings, and one of them used on it.

A probe needs no entry anywhere: it is a public function of the probes' room that returns a `ProbeResult`, and what it
is given is read off its signature. The names of its arguments say what they are (`model`, `loader`, `x`, `y`, `loss`
...); one that is the result of another probe is computed by that probe; numbers, words and lists can be set.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import neurarium.probes
from neurarium.data import Arrays, Batches
from neurarium.lab import RequestError
from neurarium.lab.study import closest, convert
from neurarium.probes import CorrelationTable, ProbeResult, unit_correlations
from neurarium.training import evaluation

Probe = Callable[..., ProbeResult]


def probes() -> dict[str, Probe]:
    """All probes by their names on the command line, in alphabetical order."""
    found: dict[str, Probe] = {}
    for name in sorted(dir(neurarium.probes)):
        thing = getattr(neurarium.probes, name)
        if inspect.isfunction(thing):
            result = typing.get_type_hints(thing).get("return")
            if inspect.isclass(result) and issubclass(result, ProbeResult):
                found[name.replace("_", "-")] = thing
    return found


@dataclass(frozen=True)
class Subject:
    """What a person brings to a probe.

    Args:
        model: the network to look at.
        other: another one of the same kind, for probes that compare two.
        fresh: makes the network anew, for probes that look at where training began.
        arrays: examples with targets.
        batch_size: examples per batch.
        classes: whether the targets are classes.
        seed: of what a probe draws.
    """

    model: nn.Module
    arrays: Arrays
    other: nn.Module | None = None
    fresh: Callable[[], nn.Module] | None = None
    batch_size: int = 256
    classes: bool = True
    seed: int = 0

    def smaller(self, examples: int) -> Subject:
        """The same with few examples, for a try."""
        few = self.arrays[: min(examples, len(self.arrays))]
        return dataclasses.replace(self, arrays=few, batch_size=min(self.batch_size, max(len(few) // 2, 1)))

    def give(self, name: str, kind: Any) -> Any:
        """What stands for an argument.

        Raises:
            LookupError: nothing does; the message says what is wanting.
        """
        if name in ("model", "model_a", "base", "end", "module", "rnn", "layer") and _allows(kind, nn.Module):
            return self.model
        if name in ("model_b", "tuned", "reference"):
            return self._present(self.other, "a second network (--other)")
        if name in ("start", "origin"):
            return self._present(self.fresh, "a network to begin with")()
        if name in ("loader", "batches") and not _callable(kind):
            return Batches(self.arrays, self.batch_size)
        if name in ("x", "inputs", "features"):
            return self.arrays.x[: self.batch_size]
        if name in ("y", "labels"):
            return self.arrays.y[: self.batch_size]
        if name in ("outputs_a", "outputs_b"):
            model = self.model if name == "outputs_a" else self._present(self.other, "a second network (--other)")
            with torch.no_grad(), evaluation(model):
                return model(self.arrays.x[: self.batch_size])
        if name == "loss":
            return cross_entropy if self.classes else _squared_error
        if name == "computation":
            x = self.arrays.x[: self.batch_size]
            return lambda: self.model(x)
        if name == "generator":
            return torch.Generator().manual_seed(self.seed)
        if inspect.isclass(kind) and issubclass(kind, CorrelationTable):
            return self._table()
        if inspect.isclass(kind) and issubclass(kind, ProbeResult):
            makers = [f for f in probes().values() if typing.get_type_hints(f)["return"] is kind]
            if makers:
                return makers[0](**arguments(makers[0], self, {}))
        raise LookupError(f"{name} ({_spoken(kind)})")

    def _table(self) -> CorrelationTable:
        other = self.model if self.other is None else self.other
        return unit_correlations(self.model, other, Batches(self.arrays, self.batch_size))[-1]

    @staticmethod
    def _present(thing: Any, what: str) -> Any:
        if thing is None:
            raise LookupError(what)
        return thing


def arguments(probe: Probe, subject: Subject, settings: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a probe: what was set, what the subject gives, and the probe's own defaults.

    Args:
        probe: one of `probes`.
        subject: what the person brings.
        settings: text by argument, for numbers, words and lists.

    Raises:
        RequestError: a setting is unknown or does not fit.
        LookupError: something that the probe must be given is wanting; the message names it.
    """
    hints = typing.get_type_hints(probe)
    parameters = inspect.signature(probe).parameters
    for name in settings:
        closest(name, parameters, f"setting of {probe.__name__}")
    given: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in settings:
            given[name] = _converted(settings[name], hints[name], f"setting {name}")
        elif parameter.default is parameter.empty or name == "generator":
            given[name] = subject.give(name, hints[name])
        elif name == "loss":
            given[name] = parameter.default if subject.classes else "gaussian"
    return given


def apply(probe: Probe, subject: Subject, settings: Mapping[str, str]) -> ProbeResult:
    """Use a probe.

    Raises:
        RequestError: something is wanting, or the probe refuses; in one sentence.
    """
    name = probe.__name__.replace("_", "-")
    try:
        given = arguments(probe, subject, settings)
    except LookupError as error:
        raise RequestError(f"{name} cannot be used here: it needs {error.args[0]}") from None
    try:
        return probe(**given)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise RequestError(f"{name} cannot be used on this model: {_first(error)}") from error


def fitting(subject: Subject, examples: int = 32) -> dict[str, str]:
    """For every probe, why it cannot be used on the subject; empty where it can. Each is tried on a few examples."""
    few = subject.smaller(examples)
    reasons = {}
    for name, probe in probes().items():
        try:
            apply(probe, few, {})
            reasons[name] = ""
        except RequestError as error:
            reasons[name] = str(error).partition(": ")[2]
        except Exception as error:  # a stranger's network may raise anything
            reasons[name] = _first(error)
    return reasons


def plain(value: Any, most: int = 20_000) -> Any:
    """A result as JSON knows it; a tensor of more than ``most`` numbers as its shape, mean, least and largest."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), most) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {"/".join(k) if isinstance(k, tuple) else str(k): plain(v, most) for k, v in value.items()}
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.numel() > most:
            wide = value.double()
            found = {"mean": wide.mean(), "min": wide.min(), "max": wide.max()}
            return {"shape": list(value.shape)} | {name: float(number) for name, number in found.items()}
        return plain(value.tolist(), most)
    if hasattr(value, "tolist"):
        return plain(torch.as_tensor(value), most)
    if isinstance(value, (list, tuple)):
        return [plain(item, most) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _squared_error(output: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(output.reshape(y.shape), y)


def _converted(text: str, kind: Any, what: str) -> Any:
    """Text as a value; lists of numbers or words are separated by commas."""
    for option in _options(kind):
        if typing.get_origin(option) in (Sequence, list, tuple):
            of = next((a for a in typing.get_args(option) if a is not Ellipsis), str)
            return [convert(part, of, what) for part in text.split(",") if part]
    plain_kinds = [o for o in _options(kind) if o in (int, float, str, bool) or typing.get_origin(o) is Literal]
    if not plain_kinds:
        raise RequestError(f"{what} cannot be set from the command line")
    return convert(text, plain_kinds[0], what)


def _options(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (Union, types.UnionType):
        return tuple(option for part in typing.get_args(kind) for option in _options(part))
    return (kind,)


def _allows(kind: Any, wanted: type) -> bool:
    return kind is Any or any(inspect.isclass(o) and issubclass(o, wanted) for o in _options(kind))


def _callable(kind: Any) -> bool:
    return any(typing.get_origin(option) is collections.abc.Callable for option in _options(kind))


def _spoken(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind).replace("typing.", "").replace("torch.", ""))


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
