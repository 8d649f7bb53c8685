"""Two checks on a rule's first batch, of mistakes that would train silently in a wrong way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.training import graph_operations, graph_parameters


def check_cuts(model: nn.Module, outputs: Sequence[Tensor], names: Sequence[str]) -> None:
    """Refuse cuts that a tensor goes around: computed in one segment, used with its graph in another.

    A parameter may serve two segments (tied weights, a module called twice); a result may not.

    Args:
        model: names the parameters in the message.
        outputs: the ends of all segments.
        names: of the cuts, for the message.

    Raises:
        ValueError: names a parameter below the tensor in question.
    """
    seen: set[Any] = set()
    for output in outputs:
        segment = graph_operations(output)
        if shared := seen & segment:
            known: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
            below = sorted(known[p] for node in shared for p in graph_parameters(node) if p in known)
            raise ValueError(
                f"a tensor computed with {below[0] if below else 'the input'!r} is used on both sides of a cut: detach "
                f"the skip connection, or choose blocks that contain it (cuts are at {', '.join(names)})"
            )
        seen |= segment


def check_separable(loss: Tensor, output: Tensor, rows: Sequence[int]) -> None:
    """Refuse a loss in which one example's error depends on another's output.

    The first example's error is differentiated once more: it may depend on that example's output only. A loss without
    a second derivative is let pass.

    Args:
        loss: scalar, with its graph.
        output: what it was computed from.
        rows: dimensions of ``output`` that tell examples apart.

    Raises:
        ValueError: the loss is not a scalar, or ties examples together.
    """
    if loss.dim() > 0:
        raise ValueError(f"loss must return a scalar, not shape {tuple(loss.shape)}; use its mean or sum")
    try:
        (error,) = torch.autograd.grad(loss, output, create_graph=True)
        first = error.movedim(list(rows), list(range(len(rows))))[(0,) * len(rows)]
        if not first.requires_grad:  # linear in the output
            return
        weights = torch.linspace(0.5, 1, first.numel()).to(first).view_as(first)
        (mixed,) = torch.autograd.grad((first * weights).sum(), output, retain_graph=True)
    except RuntimeError:
        return
    others = mixed.movedim(list(rows), list(range(len(rows)))).clone()
    others[(0,) * len(rows)] = 0
    if float(others.abs().max()) > 1e-6 * float(mixed.abs().max()):
        raise ValueError(
            "the loss ties examples together (the error of one depends on the output of another), so there is no error "
            "per example to project: use a sum or mean over examples"
        )
