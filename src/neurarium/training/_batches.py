"""Batches and outputs in the forms that loaders and models give them: pairs, triples, dictionaries, `ModelOutput`s.

``x, y = unpack(batch)`` and ``call(model, x)`` are all that a method needs to work on plain tensors and on Hugging Face
models and loaders alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

TARGETS = ("labels", "label", "targets", "target", "y")
"""What the entry of a dictionary that holds the targets may be called, in the order in which they are looked for."""


def unpack(batch: Any) -> tuple[Any, Any]:
    """The inputs and the targets of a batch.

    Args:
        batch: one of

            - a pair ``(x, y)``;
            - a longer tuple or list, of which the first is the input, the second the target, and the rest (an index,
              a task, a weight) is passed over. Several inputs go into one entry: ``((x1, x2), y)``;
            - a dictionary, or a `BatchEncoding`, whose targets are called ``labels``, ``label``, ``targets``,
              ``target`` or ``y``. The other entries are the inputs, as a dictionary; a single one called ``x``,
              ``input`` or ``inputs`` stands for itself.

    Returns:
        ``(x, y)``; `call` gives such an ``x`` to a model. Targets that are whole numbers of another kind (int32, uint8)
        become int64, which torch's losses ask for.

    Raises:
        ValueError: the batch is none of these, or names no target.
    """
    if isinstance(batch, Mapping):
        name = next((name for name in TARGETS if name in batch), None)
        inputs = {key: value for key, value in batch.items() if key != name}
        if name is None or not inputs:
            raise ValueError(
                f"a batch with the entries {', '.join(map(repr, batch))} must have inputs and a target, "
                f"called {', '.join(map(repr, TARGETS[:-1]))} or {TARGETS[-1]!r}"
            )
        alone = len(inputs) == 1 and next(iter(inputs)) in ("x", "input", "inputs")
        return (next(iter(inputs.values())) if alone else inputs), _as_index(batch[name])
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return batch[0], _as_index(batch[1])
    what = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
    raise ValueError(f"a loader must give batches (x, y) or dictionaries with 'labels', not {what}")


def _as_index(y: Any) -> Any:
    whole = isinstance(y, Tensor) and not y.is_floating_point() and not y.is_complex() and y.dtype != torch.bool
    return y.long() if whole else y


def rows_of(x: Any, rows: slice | Tensor) -> Any:
    """The inputs of some examples: of a tensor or sequence, or of each entry of a dictionary."""
    return {name: value[rows] for name, value in x.items()} if isinstance(x, Mapping) else x[rows]


def count_rows(x: Any) -> int:
    """How many examples there are: the length of a tensor or sequence, or of the first entry of a dictionary."""
    return len(next(iter(x.values()))) if isinstance(x, Mapping) else len(x)


def call(model: nn.Module, x: Any) -> Tensor:
    """The model's prediction as one tensor.

    A dictionary is given as keyword arguments where ``model.forward`` takes them by these names, a tuple or list as
    positional ones where it takes so many; else ``x`` is given as it is, so that a learning rule or a model that takes
    a dictionary gets it whole.

    Raises:
        ValueError: the model's output holds no prediction (see `prediction`).
    """
    arguments, named = arguments_of(model, x)
    return prediction(model(*arguments, **named))


def arguments_of(model: nn.Module, x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments that `call` gives to a model."""
    if isinstance(x, Mapping) and _takes(model, **x):
        return (), dict(x)
    if isinstance(x, tuple | list) and _takes(model, *x):
        return tuple(x), {}
    return (x,), {}


def join_rows(parts: Sequence[Any]) -> Tensor:
    """The inputs of several batches as one tensor.

    Raises:
        TypeError: they are no tensors, so that no student can be made for them.
    """
    if not isinstance(parts[0], Tensor):
        kind = type(parts[0]).__name__
        raise TypeError(f"inputs must be tensors, for which a network can be made, not {kind}")
    return torch.cat(list(parts))


def prediction(output: Any) -> Tensor:
    """The tensor of predictions in a model's output.

    Args:
        output: a tensor; an object or dictionary with ``logits`` (a `ModelOutput`); or a tuple whose first is the
            prediction.

    Raises:
        ValueError: it is none of these; the message names what the output holds.
    """
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if found is None and isinstance(output, tuple | list) and output:
        found = output[0]
    if isinstance(found, Tensor):
        return found
    holds = f" with {', '.join(map(repr, output))}" if isinstance(output, Mapping) else ""
    raise ValueError(f"the model must return a tensor or an output with logits, not a {type(output).__name__}{holds}")


def _takes(model: nn.Module, *args: Any, **kwargs: Any) -> bool:
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError:
        return False
    return True
