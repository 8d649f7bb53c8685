"""What a trained network says of its training data, computed once: its last hidden representation and its logits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.compression.distillation._student_training import Answers
from neurarium.training import call, evaluation, join_rows, unpack


@dataclass(frozen=True)
class Recorded(Answers):
    """A network's answers with what led to them.

    Args:
        x, y, logits: see `Answers`.
        representation: what the head is given, [examples, features].
    """

    representation: Tensor


def find_head(model: nn.Module, name: str | None = None) -> nn.Linear:
    """The network's last linear layer, or the one named.

    Raises:
        ValueError: no linear layer, or no layer of that name.
        TypeError: the layer named is not linear.
    """
    modules = dict(model.named_modules())
    if name is None:
        linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError("the model has no linear layer to be its head; it must end in one")
        return linear[-1]
    if name not in modules:
        near = difflib.get_close_matches(name, modules, n=1, cutoff=0.0)
        raise ValueError(f"the model has no layer {name!r}; did you mean {near[0]!r}?")
    head = modules[name]
    if not isinstance(head, nn.Linear):
        raise TypeError(f"head must be a linear layer; {name} is {type(head).__name__}")
    return head


@torch.no_grad()
def record(model: nn.Module, loader: Iterable[Any], head: str | None = None) -> Recorded:
    """One pass over the loader with the model in evaluation mode, which is put back.

    Args:
        model: a classifier that ends in a linear layer.
        loader: batches ``(x, y)``.
        head: name of that layer; the last linear one by default.

    Raises:
        ValueError: no batches; no such head; a head that is used on more than vectors, or not last.
    """
    layer, seen = find_head(model, head), []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    answers: list[Any] = []
    with evaluation(model):
        try:
            for x, y in map(unpack, loader):
                seen.clear()
                output = call(model, x)
                if len(seen) != 1 or seen[0][0].dim() != 2 or not torch.equal(seen[0][1], output):
                    raise ValueError(
                        "the head must be the model's last step, on vectors [batch, features]; name it in head"
                    )
                xs.append(x)
                ys.append(y)
                answers.append(seen[0])
        finally:
            handle.remove()
    if not xs:
        raise ValueError("the loader gave no batches")
    return Recorded(
        join_rows(xs), torch.cat(ys), torch.cat([a[1] for a in answers]),
        representation=torch.cat([a[0] for a in answers]),
    )  # fmt: skip
