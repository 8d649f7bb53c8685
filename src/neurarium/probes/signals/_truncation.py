"""How much of a residual stack is in its first orders: the input, single branches, products of two ..."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.layers.residual._residual_runs import LOOKED_FOR, find_runs
from neurarium.layers.residual._truncated_residual import TruncatedResidual, push_forward
from neurarium.probes._result import ProbeResult
from neurarium.training import call, copy_module, evaluation, undisturbed
from neurarium.training._naming import Choice

SCALES = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class TruncationError(ProbeResult):
    """A stack of residual blocks against its expansion cut off after each order.

    Args:
        names: the blocks, first to last.
        relative: ‖stack - expansion‖ / ‖stack - input‖, for order 1, 2, ...
        by_order: norms of the input, of what each order adds and of what is left, over that of the stack's output.
        interaction: ``interaction[i][j]`` = ‖J_i F_j(x)‖ / ‖stack - input‖: what block i makes, to first order, of what
            an earlier block j added.
        slope: of the error's logarithm over that of a factor on all branches, for order 1, 2, ...; order + 1 is the
            mathematics. NaN where the error is zero.
    """

    names: tuple[str, ...]
    relative: tuple[float, ...]
    by_order: tuple[float, ...]
    interaction: tuple[tuple[float, ...], ...]
    slope: tuple[float, ...]

    def summary(self) -> str:
        """A line per order."""
        lines = [f"{len(self.names)} blocks, {self.names[0]} to {self.names[-1]}"]
        for order, (error, share) in enumerate(zip(self.relative, self.by_order[1:], strict=False), start=1):
            lines.append(f"order {order}: {share:.3g} of the output's norm; misses {error:.1%} of what the stack adds")
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """What each block makes of what each earlier one added."""
        shown = ax.imshow(self.interaction, cmap="magma")
        ax.figure.colorbar(shown, ax=ax, label="norm, relative to what the stack adds")
        ax.set(xlabel="changed by block", ylabel="read by block", title="products of two branches")
        return ax


def truncation_error(model: nn.Module, x: Any, blocks: Choice | None = None, order: int = 2) -> TruncationError:
    """Compare the longest run of residual blocks in a network with its expansion (Bermeitinger et al., 2023).

    Tells how much of the depth is used: where order 1 misses little, `neurarium.layers.parallelise` changes little. All
    is computed in evaluation mode and double precision, on a copy of the blocks.

    Args:
        model: any module with two or more residual blocks one behind the other.
        x: a batch of inputs, as `training.call` takes them.
        blocks: names, patterns or kinds of the blocks, as in `neurarium.layers.parallelise`.
        order: the highest; beyond 2 the branches must be linear.

    Raises:
        ValueError: there is no such run, or it adds nothing.
    """
    runs, skipped = find_runs(model, blocks)
    if not runs:
        reasons = "".join(f"; {name}: {why}" for name, why in skipped.items())
        raise ValueError(f"{type(model).__name__} has no run of two or more of {LOOKED_FOR}{reasons}")
    run = max(runs, key=lambda run: len(run.blocks))
    found: list[tuple[Any, dict[str, Any]]] = []
    handle = run.blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: found.append((args, kwargs)), with_kwargs=True
    )
    with undisturbed(model), evaluation(model), torch.no_grad():
        try:
            call(model, x)
        finally:
            handle.remove()
        (entered, *rest), named = found[0]
        wide = torch.float32 if entered.device.type == "mps" else torch.float64
        stack = TruncatedResidual(*(copy_module(branch) for branch in run.branches), order=order).to(wide).eval()
        return _measured(run.names, stack, entered.to(wide), [_to(r, wide) for r in rest], _to(named, wide))


def _measured(
    names: tuple[str, ...], stack: TruncatedResidual, x: Tensor, args: list[Any], kwargs: dict[str, Any]
) -> TruncationError:
    branches = list(stack.branches)
    terms, h = stack.terms(x, *args, **kwargs), sequential(branches, x, 1.0, args, kwargs)
    added = (h - x).norm()
    if not added > 0:
        raise ValueError("the blocks add nothing to their input, so there is nothing to expand")
    errors: list[list[float]] = []
    for scale in SCALES:
        left = sequential(branches, x, scale, args, kwargs) - x
        errors.append([])
        for order, term in enumerate(terms, start=1):
            left = left - scale**order * term
            errors[-1].append(float(left.norm()))
    changes = [branch(x, *args, **kwargs) for branch in branches]
    products = [
        [float(moved.norm() / added) for moved in push_forward(branch, x, changes[:i], args, kwargs)[1]]
        for i, branch in enumerate(branches)
    ]
    sizes = [float(part.norm() / h.norm()) for part in (x, *terms, h - x - torch.stack(terms).sum(0))]
    return TruncationError(
        names=names,
        relative=tuple(error / float(added) for error in errors[0]),
        by_order=tuple(sizes),
        interaction=tuple(tuple(row + [0.0] * (len(branches) - len(row))) for row in products),
        slope=tuple(_slope(column) for column in zip(*errors, strict=True)),
    )


def sequential(branches: list[nn.Module], x: Tensor, scale: float, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """The stack with all branches times a number."""
    for branch in branches:
        x = x + scale * branch(x, *args, **kwargs)
    return x


def _slope(errors: tuple[float, ...]) -> float:
    """Least squares through the logarithms."""
    if min(errors) <= 0:
        return math.nan
    points = torch.tensor([[math.log(s), math.log(e)] for s, e in zip(SCALES, errors, strict=True)])
    across, up = (points - points.mean(0)).T
    return float((across * up).sum() / across.square().sum())


def _to(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in another precision, in dictionaries too."""
    if isinstance(value, dict):
        return {key: _to(part, dtype) for key, part in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
