"""A network of affine operations and of operations that are linear in pieces, found by tracing it.

What is affine is never looked into. An affine form of d inputs is kept as d + 1 rows, its value at 0 and its slopes;
an affine operation is run on these rows as a batch, with a row of zeros to take its constant off the slopes, whatever
its weights are. That it is affine is tried on random rows first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from neurarium.probes.regions._maxima import Maximum, maximum_of
from neurarium.probes.regions._pieces import SMOOTH, Pieces, breaks_of, interpolated, kind_of, measured
from neurarium.training import copy_module, prediction

TRIES = 16
"""Triples of random rows on which an operation must prove affine."""


class Form:
    """An affine form of the inputs, or several: rows [dimensions + 1, *shape], the value at 0 first."""

    __slots__ = ("rows",)

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def batch(self) -> Tensor:
        """The rows as a batch, zeros last."""
        return torch.cat([self.rows, torch.zeros_like(self.rows[:1])])

    @classmethod
    def of(cls, batch: Tensor) -> Form:
        """From what an affine operation makes of a batch."""
        return cls(torch.cat([batch[:1], batch[1:-1] - batch[-1:]]))


class Extreme(NamedTuple):
    """What ``max(dim)`` gives; the places are not to be had."""

    values: Any
    indices: Any


@dataclass(frozen=True)
class Bend:
    """An operation that is linear in pieces, with what enters it.

    Args:
        name: where it stands in the network.
        forms: what enters, [dimensions + 1, units] (candidates, for a maximum).
        shape: of what comes out, without the batch.
        pieces: of an activation.
        maximum: of a maximum.
    """

    name: str
    forms: Tensor
    shape: tuple[int, ...]
    pieces: Pieces | None = None
    maximum: Maximum | None = None

    @property
    def units(self) -> int:
        """How many units ask a question."""
        return self.forms.shape[1] if self.maximum is None else len(self.maximum.windows)

    @property
    def questions(self) -> int:
        """Comparisons in one run of it."""
        if self.maximum is not None:
            return int((self.maximum.windows >= 0).sum()) - len(self.maximum.windows)
        assert self.pieces is not None
        return self.units * len(self.pieces.breaks)

    def settled(self, choice: Tensor) -> Form | Extreme:
        """What comes out where unit j is on piece ``choice[j]`` (or its largest candidate is that one)."""
        if self.maximum is not None:
            rows = self.maximum.sign * self.forms[:, choice]
        else:
            assert self.pieces is not None
            units = torch.arange(self.units)
            rows = self.pieces.slopes[choice, units] * self.forms
            rows[0] += self.pieces.offsets[choice, units]
        form = Form(rows.reshape(-1, *self.shape))
        return Extreme(form, None) if self.maximum is not None and self.maximum.paired else form


class AffineNetwork:
    """A module, traced, in double precision on the CPU, in evaluation mode.

    Args:
        model: any module of one input; a copy is used.
        shape: of an input, without the batch.
        pieces: straight lines in place of each activation that has no pieces; None refuses these.
        limits: between which.

    Raises:
        ValueError: something in it is not linear in pieces, or cannot be traced; the message names it.
    """

    def __init__(
        self, model: nn.Module, shape: tuple[int, ...], pieces: int | None = None,
        limits: tuple[float, float] = (-6.0, 6.0),
    ) -> None:  # fmt: skip
        self.model = copy_module(model).cpu().double().eval()
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} holds numbers that are not finite")
        self.shape, self.pieces, self.limits = shape, pieces, limits
        self.error = 0.0
        self._proven: set[fx.Node] = set()
        try:
            fixed = {
                name: parameter.default
                for name, parameter in list(inspect.signature(self.model.forward).parameters.items())[1:]
                if parameter.default is not parameter.empty
            }
            self.traced = fx.GraphModule(self.model, fx.Tracer().trace(self.model, fixed))
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"the network cannot be traced, its path may depend on the data: {reason}") from error
        self.nodes = list(self.traced.graph.nodes)

    @property
    def dimensions(self) -> int:
        """Numbers in an input."""
        return int(torch.Size(self.shape).numel())

    @torch.no_grad()
    def output(self, x: Tensor) -> Tensor:
        """What the network itself gives for a batch, [batch, outputs]."""
        return prediction(self.model(x.detach().cpu().double().reshape(-1, *self.shape))).flatten(1)

    def start(self) -> dict[fx.Node, Any]:
        """The state before the first operation."""
        d = self.dimensions
        rows = torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)])
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        return {inputs[0]: Form(rows.reshape(-1, *self.shape))} | dict.fromkeys(inputs[1:])

    @torch.no_grad()
    def walk(self, state: dict[fx.Node, Any], at: int) -> tuple[int, Bend | Form]:
        """Go on from operation ``at`` to the next that bends, or to the output (flattened).

        Args:
            state: what every operation so far gave; what follows is added.
            at: the next operation.

        Returns:
            Where it stopped, and what it found there. A bend's `Bend.settled` is to be put into the state.
        """
        for i in range(at, len(self.nodes)):
            node = self.nodes[i]
            if node in state:
                continue
            args = fx.node.map_aggregate(node.args, lambda a: state[a] if isinstance(a, fx.Node) else a)
            kwargs = fx.node.map_aggregate(dict(node.kwargs), lambda a: state[a] if isinstance(a, fx.Node) else a)
            if node.op == "output":
                return i, self._output(args[0])
            found = self._run(node, args, kwargs)
            if isinstance(found, Bend):
                return i, found
            state[node] = found
        raise AssertionError("a graph ends in its output")

    def _output(self, value: Any) -> Form:
        def plain(part: Any) -> Any:
            return part.rows if isinstance(part, Form) else part

        whole = _map(value, plain)
        rows = prediction(whole)
        return Form(rows.flatten(1) if rows.dim() > 1 else rows[:, None])

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "get_attr":
            value: Any = self.traced
            for part in str(node.target).split("."):
                value = getattr(value, part)
            return value
        target = self.traced.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        if not _forms((args, kwargs)):
            return _call(node, target, args, kwargs)
        if (bend := self._bend(node, target, args, kwargs)) is not None:
            return bend
        if node not in self._proven:
            self._prove(node, target, args, kwargs)
            self._proven.add(node)
        result = _call(node, target, *_map((args, kwargs), lambda a: a.batch() if isinstance(a, Form) else a))
        return _map(result, lambda t: Form.of(t) if isinstance(t, Tensor) else t)

    def _bend(self, node: fx.Node, target: Any, args: Any, kwargs: Any) -> Bend | None:
        """The operation as a `Bend`, where it is one that the tables know."""
        rows = _map((args, kwargs), lambda a: a.rows if isinstance(a, Form) else a)
        if (maximum := maximum_of(target, *rows)) is not None:
            return Bend(_place(node, target), maximum.candidates, maximum.shape, maximum=maximum)
        if not args or not isinstance(args[0], Form):
            return None
        breaks = breaks_of(target, args, kwargs)
        smooth = breaks is None and kind_of(target) in SMOOTH
        if breaks is None and not smooth:
            return None
        if smooth and self.pieces is None:
            raise ValueError(f"{_place(node, target)}, which has no finite tree; pass pieces=")
        shape = args[0].rows.shape[1:]

        def activation(x: Tensor) -> Tensor:
            return _call(node, target, (x, *args[1:]), kwargs)

        pieces = interpolated(activation, self.pieces, self.limits, shape) if smooth and self.pieces else measured(
            activation, breaks or (), shape
        )  # fmt: skip
        self.error = max(self.error, pieces.error)
        return Bend(_place(node, target), args[0].rows.flatten(1), tuple(shape), pieces)

    def _prove(self, node: fx.Node, target: Any, args: Any, kwargs: Any) -> None:
        """Try on random rows whether an operation is affine, each row by itself.

        Raises:
            ValueError: it is not.
        """
        draw = torch.Generator().manual_seed(0)
        count = self.dimensions + 2
        triples = count // 3
        for _ in range(-(-TRIES // triples)):
            share = torch.rand(triples, generator=draw, dtype=torch.float64)
            size = 10 ** (3 * torch.rand(count, generator=draw, dtype=torch.float64) - 1)

            def drawn(form: Any, share: Tensor = share, size: Tensor = size) -> Any:
                if not isinstance(form, Form):
                    return form
                shape = form.rows.shape[1:]
                wide = [-1] + [1] * len(shape)
                rows = torch.randn(count, *shape, generator=draw, dtype=torch.float64) * size.reshape(wide)
                part = share.reshape(wide)
                third = part * rows[:triples] + (1 - part) * rows[triples : 2 * triples]
                rows[2 * triples : 3 * triples] = third
                return Form(rows)

            given = _map((args, kwargs), drawn)
            plain = _map(given, lambda t: t.rows.clone() if isinstance(t, Form) else t)
            turned = _map(given, lambda t: t.rows.roll(1, 0) if isinstance(t, Form) else t)
            try:
                found, again = (_tensors(_call(node, target, *g)) for g in (plain, turned))
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise ValueError(f"{_place(node, target)}, which cannot be run on a batch: {reason}") from error
            for y, z in zip(found, again):
                if y.dim() == 0 or len(y) != count or not torch.allclose(y, z.roll(-1, 0), 1e-9, 1e-9):
                    raise ValueError(f"{_place(node, target)}, which mixes the rows of a batch")
                part = share.reshape([-1] + [1] * (y.dim() - 1))
                mixed = part * y[:triples] + (1 - part) * y[triples : 2 * triples]
                if not torch.allclose(mixed, y[2 * triples : 3 * triples], 1e-8, 1e-8 * float(y.abs().max() + 1)):
                    raise ValueError(f"{_place(node, target)}, which is not piecewise linear")


def _place(node: fx.Node, target: Any) -> str:
    if node.op == "call_module":
        return f"layer {str(node.target)!r} is {type(target).__name__}"
    return f"operation {node.name!r} is {getattr(target, '__name__', target)}"


def _call(node: fx.Node, target: Any, args: Any, kwargs: Any) -> Any:
    if node.op == "call_method":
        return getattr(args[0], str(target))(*args[1:], **kwargs)
    return target(*args, **kwargs)


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """A nest of containers with every leaf changed."""
    if isinstance(value, Mapping):
        return type(value)({name: _map(part, change) for name, part in value.items()})  # type: ignore[call-arg]
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        parts = [_map(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return change(value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _forms(value: Any) -> bool:
    return any(isinstance(leaf, Form) for leaf in _leaves(value))


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in _leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
