"""How often a model falls where it should not: by steps along each input, by gradients, and between ordered pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation, undisturbed


@dataclass(frozen=True)
class MonotonicityViolations(ProbeResult):
    """Shares of the cases looked at in which an output moved the wrong way.

    Args:
        inputs: the inputs that are held.
        by_step: per held input, share of rows whose output falls when the input moves one step in its direction.
        by_gradient: per held input, share of rows with a gradient of the wrong sign.
        by_pair: share of pairs x, x' with x' further along all held inputs at once and a smaller output.
        worst: the largest fall seen, in the output's units; 0 if there is none.
        tolerance: falls smaller than this are taken for rounding.
    """

    inputs: tuple[int, ...]
    by_step: tuple[float, ...]
    by_gradient: tuple[float, ...]
    by_pair: float
    worst: float
    tolerance: float

    @property
    def rate(self) -> float:
        """Share of violations over rows and held inputs, by steps."""
        return sum(self.by_step) / len(self.by_step)

    def summary(self) -> str:
        """The shares, the worst input first."""
        order = sorted(range(len(self.inputs)), key=lambda k: -self.by_step[k])
        lines = [f"input {self.inputs[k]}: {self.by_step[k]:.2%} of steps, {self.by_gradient[k]:.2%} of gradients"
                 for k in order]  # fmt: skip
        return "\n".join(
            [f"{self.rate:.2%} of steps, {self.by_pair:.2%} of pairs; worst fall {self.worst:.3g}", *lines]
        )

    def plot(self, ax: Any) -> Any:
        """Bars of both shares for each held input."""
        place = range(len(self.inputs))
        ax.bar([p - 0.2 for p in place], self.by_step, 0.4, label="steps")
        ax.bar([p + 0.2 for p in place], self.by_gradient, 0.4, label="gradients")
        ax.set_xticks(list(place), [str(i) for i in self.inputs])
        ax.set(xlabel="held input", ylabel="share that moves the wrong way")
        ax.legend()
        return ax


def monotonicity_violations(
    model: nn.Module,
    x: Float[Tensor, "rows inputs"],
    monotonicity: Sequence[int],
    *,
    step: float = 1.0,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> MonotonicityViolations:
    """Look for inputs at which a model is not monotonic; finding none proves nothing, see `certify`.

    Args:
        model: maps [rows, inputs] to [rows] or [rows, outputs]; left as it was, evaluated in evaluation mode.
        x: examples.
        monotonicity: 1, -1 or 0 for each input.
        step: of an input, in its standard deviations over ``x``.
        tolerance: smallest fall that counts.
        seed: of the random pairs, one per row.

    Raises:
        ValueError: no input is held, or directions and inputs differ in number.
    """
    held = [i for i, t in enumerate(monotonicity) if t]
    if not held:
        raise ValueError("monotonicity must hold at least one input with 1 or -1")
    if x.dim() != 2 or x.shape[1] != len(monotonicity):
        raise ValueError(f"x must be [rows, {len(monotonicity)}], one column per direction, not {list(x.shape)}")
    signs = torch.tensor([float(monotonicity[i]) for i in held], dtype=x.dtype, device=x.device)
    spread = x[:, held].std(0, correction=0) * step
    with undisturbed(model), evaluation(model):
        with torch.no_grad():
            start = _outputs(model, x)
            falls = []
            for k, i in enumerate(held):
                moved = x.clone()
                moved[:, i] += signs[k] * spread[k]
                falls.append((start - _outputs(model, moved)).amax(1))
            generator = torch.Generator().manual_seed(seed)
            far = torch.rand((len(x), len(held)), generator=generator).to(x) * 2
            ahead = x.clone()
            ahead[:, held] += far * signs * spread
            pairs = (start - _outputs(model, ahead)).amax(1)
        slopes = _slopes(model, x)[:, :, held] * signs
    steps = torch.stack(falls, 1)
    wrong = (slopes < -tolerance).any(1).double().mean(0)
    worst = max(float(steps.max()), float(pairs.max()), 0.0)
    return MonotonicityViolations(
        inputs=tuple(held),
        by_step=tuple((steps > tolerance).double().mean(0).tolist()),
        by_gradient=tuple(wrong.tolist()),
        by_pair=float((pairs > tolerance).double().mean()),
        worst=worst if worst > tolerance else 0.0,
        tolerance=tolerance,
    )


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    return call(model, x).reshape(len(x), -1)


def _slopes(model: nn.Module, x: Tensor) -> Tensor:
    """The gradient of every output with respect to the inputs, [rows, outputs, inputs]."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        outputs = _outputs(model, point)
        rows = [torch.autograd.grad(o.sum(), point, retain_graph=True)[0] for o in outputs.unbind(1)]
    return torch.stack(rows, 1)
