"""Which units of a network belong together: one run on an example, watched, ties every axis of every weight to a group.

A group is a set of units that can only be cut together: the output channels of a convolution, the same channels in the
batch norm behind it, the inputs of the next layer, and everything a residual add joins to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from neurarium.models.editing._axis_groups import Axis, AxisGroups
from neurarium.models.editing._axis_rules import propagate
from neurarium.training import evaluation


class Segment(NamedTuple):
    """A stretch of an axis.

    Args:
        group: whose units they are; None if they are always kept.
        units: how many.
        repeat: entries per unit (more than one behind a flatten).
    """

    group: int | None
    units: int
    repeat: int


@dataclass(frozen=True)
class Group:
    """Units that are cut together.

    Args:
        index: number of the group.
        size: how many units.
        multiple: they can only be cut in multiples of this (the size of an attention head).
        layers: names of the layers that produce them.
    """

    index: int
    size: int
    multiple: int
    layers: tuple[str, ...]

    def count(self, fraction: float) -> int:
        """How many units a fraction keeps: the nearest number, or whole heads.

        Raises:
            ValueError: none would be left.
        """
        kept = int(fraction * self.size / self.multiple + 0.5) * self.multiple
        if kept < 1:
            raise ValueError(
                f"width {fraction:g} leaves nothing of the {self.size} units of {', '.join(self.layers)}"
                + (f", which are cut in heads of {self.multiple}" if self.multiple > 1 else "")
            )
        return min(kept, self.size)


@dataclass(frozen=True)
class Architecture:
    """What `trace_architecture` found.

    Args:
        axes: of every parameter and buffer that some group runs through, by name: per dimension its segments, or None
            where nothing can be cut.
        groups: those that can be cut, by index.
        fixed: why others cannot: a layer's name -> the reason.
    """

    axes: Mapping[str, tuple[tuple[Segment, ...] | None, ...]]
    groups: Mapping[int, Group]
    fixed: Mapping[str, str]

    def counts(self, fraction: float) -> dict[int, int]:
        """Units kept of each group at a width.

        Raises:
            ValueError: a group would be left empty.
        """
        return {index: group.count(fraction) for index, group in self.groups.items()}

    def group_of(self, layer: str) -> Group | None:
        """The group that a layer's outputs belong to; None where they cannot be cut."""
        return next((group for group in self.groups.values() if layer in group.layers), None)


@torch.no_grad()
def trace_architecture(model: nn.Module, example: Any, keep: Sequence[str] = ()) -> Architecture:
    """Run the model once on an example and tie the axes of its weights.

    Any forward that calls torch functions can be traced, control flow included; what the trace does not know keeps all
    its units. Inputs and outputs of the model keep their size.

    Args:
        model: any module; its mode and buffers do not change.
        example: a tensor, or a tuple of positional arguments.
        keep: names of layers whose outputs are not to be cut.

    Raises:
        ValueError: two layers are added whose units do not correspond; nothing can be cut; an unknown name in ``keep``.
    """
    named = dict(model.named_modules())
    for name in keep:
        if name not in named:
            raise ValueError(f"keep names {name!r}, but the model has no such layer")
    watched = AxisGroups(model, frozenset(keep))
    with evaluation(model), _Watch(watched):
        output = model(*example) if isinstance(example, tuple) else model(example)
    watched.fix_all(output, "it is the model's output")
    found = _found(watched)
    if not found.groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(found.fixed.items())[:5])
        raise ValueError(f"the model has no layer whose width can be cut ({reasons or 'no weights were used'})")
    return found


class _Watch(TorchFunctionMode):
    """Shows every torch function of a run to the rules."""

    def __init__(self, groups: AxisGroups) -> None:
        super().__init__()
        self.groups = groups

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)  # the mode is off inside: composite functions are seen as one
        propagate(self.groups, (resolve_name(func) or func.__name__).rsplit(".", 1)[-1], args, kwargs, output)
        return output


def _found(watched: AxisGroups) -> Architecture:
    roots = sorted({watched.root(i) for i in range(len(watched.parent))})
    groups = {
        r: Group(r, watched.sizes[r], watched.multiples[r], tuple(watched.layers[r]))
        for r in roots
        if not watched.reasons[r]
    }
    fixed = {name: watched.reasons[r] for r in roots if watched.reasons[r] for name in watched.layers[r] if name}

    def segments(axis: Axis | None) -> tuple[Segment, ...] | None:
        of = [(watched.root(index), repeat) for index, repeat in axis or ()]
        if not any(root in groups for root, _ in of):
            return None
        return tuple(Segment(root if root in groups else None, watched.sizes[root], repeat) for root, repeat in of)

    weights: dict[str, tuple[tuple[Segment, ...] | None, ...]] = {}
    for key, name in watched.names.items():
        axes = tuple(segments(axis) for axis in watched.axes.get(key, ()))
        if any(axis is not None for axis in axes):
            weights[name] = axes
    return Architecture(weights, groups, fixed)
