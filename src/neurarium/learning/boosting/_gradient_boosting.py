"""Gradient-boosted networks (Emami and Martínez-Muñoz): the last hidden layer is trained a few units at a time.

Each step fits a small network to what the sum of those before leaves over, and all of them are welded into one hidden
layer whose last units can be switched off. Not a `LearningRule`: it is full-batch and sequential by nature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.learning.boosting._batched_lbfgs import minimize
from neurarium.learning.boosting._boosted_steps import (
    ACTIVATIONS,
    LOSSES,
    SmallNets,
    activate,
    draw_weights,
    split_weights,
)


class GradientBoostedHead(nn.Module):
    """One hidden layer, boosted: ``F_T(x) = F₀ + Σ_t ν ρ_t h_t(x)`` (section 3), each ``h_t`` of a few hidden units.

    The sum is stored as the hidden layer it is, so a forward pass is two matrix products. Outputs are logits (binary:
    of the positive class) or, for regression, values: what torch's losses, sigmoid and softmax take. Until `fit` the
    head gives zeros. Its weights are parameters, so a fitted head can be fine-tuned by gradient descent.

    Args:
        in_features: size of each input row.
        num_outputs: classes, or 1 for the binary loss, or the number of regression targets.
        units: hidden units in all; rounded down to a multiple of ``units_per_step``.
        units_per_step: hidden units that each step adds, ``J``.
        shrinkage: factor ``ν`` on every step, in (0, 1].
        subsample: share of the training examples, drawn anew for each step without replacement, in (0, 1].
        activation: ``sigmoid``, ``tanh``, ``relu``, ``gelu``, ``silu``, ``softplus``, ``identity``, or an elementwise
            module without parameters.
        loss: ``"cross_entropy"``, ``"binary"`` (log loss, one output) or ``"mse"``.
        max_iter: L-BFGS steps at most for each small network.
        weight_decay: penalty ``α / 2n`` on the squares of a small network's weights, ``n`` the examples it sees.
        generator: source of subsamples and initial weights; torch's global one by default.

    Raises:
        ValueError: an argument is out of its range.
    """

    step_bias: Tensor
    rho: Tensor
    fitted_steps: Tensor

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        *,
        units: int = 200,
        units_per_step: int = 1,
        shrinkage: float = 1.0,
        subsample: float = 0.5,
        activation: str | nn.Module = "sigmoid",
        loss: str = "cross_entropy",
        max_iter: int = 200,
        weight_decay: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if units_per_step < 1 or units < units_per_step:
            raise ValueError(f"units must be at least units_per_step, itself at least 1: {units} < {units_per_step}")
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must be above 0 and at most 1, not {shrinkage}")
        if not 0 < subsample <= 1:
            raise ValueError(f"subsample must be above 0 and at most 1, not {subsample}")
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {loss!r}")
        if max_iter < 1 or weight_decay < 0:
            raise ValueError("max_iter must be at least 1 and weight_decay at least 0")
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"activation must be a module or one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.in_features, self.num_outputs = in_features, num_outputs
        self.units_per_step, self.steps = units_per_step, units // units_per_step
        self.units = self.steps * units_per_step
        self.shrinkage, self.subsample, self.loss = shrinkage, subsample, loss
        self.max_iter, self.weight_decay, self.generator = max_iter, weight_decay, generator
        self.activation = ACTIVATIONS[activation]() if isinstance(activation, str) else activation
        self.hidden_weight = nn.Parameter(torch.zeros(self.units, in_features))
        self.hidden_bias = nn.Parameter(torch.zeros(self.units))
        self.output_weight = nn.Parameter(torch.zeros(num_outputs, self.units))
        # output bias after 0, 1, ..., T steps: every step brings a share of it
        self.step_bias = nn.Parameter(torch.zeros(self.steps + 1, num_outputs))
        self.register_buffer("rho", torch.zeros(self.steps))
        self.register_buffer("fitted_steps", torch.zeros((), dtype=torch.long))
        self.active_steps = self.steps
        self.train_loss: list[float] = []
        """Mean training loss after 0, 1, ..., T steps of the last `fit`."""

    @property
    def empty_steps(self) -> list[int]:
        """Steps (from 1) whose Newton step was 0 because the loss was flat along the new network."""
        done = int(self.fitted_steps)
        return [t + 1 for t, rho in enumerate(self.rho[:done].tolist()) if rho == 0]

    def fit(self, features: Float[Tensor, "examples in_features"], targets: Tensor) -> GradientBoostedHead:
        """Train on all examples at once; replaces what an earlier call has learned.

        Args:
            features: inputs, best standardised.
            targets: class indices [examples]; 0 and 1 (or −1 and 1) [examples]; or numbers [examples(, outputs)].

        Returns:
            The head itself.

        Raises:
            ValueError: a feature is not finite, a class has no example, or the targets do not fit the loss.
        """
        fit_heads([self], features, targets)
        return self

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch num_outputs"]:
        """Logits or values from the active units; only those are computed."""
        end = self.active_steps * self.units_per_step
        hidden = self.activation(nn.functional.linear(x, self.hidden_weight[:end], self.hidden_bias[:end]))
        return nn.functional.linear(hidden, self.output_weight[:, :end], self.step_bias[self.active_steps])

    def staged(self, x: Float[Tensor, "batch in_features"]) -> Float[Tensor, "steps batch num_outputs"]:
        """Outputs after 1, 2, ..., T steps in one pass: every step's own share, and their running sum."""
        hidden = self.activation(nn.functional.linear(x, self.hidden_weight, self.hidden_bias))
        parts = hidden.unflatten(1, (self.steps, self.units_per_step))
        weights = self.output_weight.unflatten(1, (self.steps, self.units_per_step))
        shares = torch.einsum("btj,ktj->tbk", parts, weights)
        return shares.cumsum(0) + self.step_bias[1:].unsqueeze(1)

    def set_active(self, steps: int) -> None:
        """Use only the units of the first ``steps`` steps, with their share of the bias; 0 leaves the constant.

        Raises:
            ValueError: there are not that many steps.
        """
        self.active_steps = self._checked(steps)

    def truncate(self, steps: int) -> nn.Sequential:
        """The first ``steps`` steps as a plain smaller network (linear, activation, linear).

        Raises:
            ValueError: ``steps`` is not between 1 and the number of steps.
        """
        end = self._checked(steps, least=1) * self.units_per_step
        weight = self.hidden_weight
        first = nn.Linear(self.in_features, end, device=weight.device, dtype=weight.dtype)
        last = nn.Linear(end, self.num_outputs, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            first.weight.copy_(weight[:end])
            first.bias.copy_(self.hidden_bias[:end])
            last.weight.copy_(self.output_weight[:, :end])
            last.bias.copy_(self.step_bias[steps])
        return nn.Sequential(first, self.activation, last)

    def weld(self) -> nn.Sequential:
        """All steps as one plain network (linear, activation, linear): the same function."""
        return self.truncate(self.steps)

    def macs(self, steps: int | None = None) -> int:
        """Multiply-accumulate operations for one example with ``steps`` steps (by default the active ones)."""
        steps = self.active_steps if steps is None else self._checked(steps)
        return steps * self.units_per_step * (self.in_features + self.num_outputs)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, num_outputs={self.num_outputs}, units={self.units}, "
            f"units_per_step={self.units_per_step}, loss={self.loss!r}"
        )

    def _checked(self, steps: int, least: int = 0) -> int:
        if not least <= steps <= self.steps:
            raise ValueError(f"steps must be between {least} and {self.steps}, not {steps}")
        return steps


def fit_heads(
    heads: Sequence[GradientBoostedHead],
    features: Float[Tensor, "examples in_features"],
    targets: Tensor,
    rows: Sequence[Tensor] | None = None,
) -> None:
    """Fit several heads in lockstep: folds of a cross-validation, shrinkages of a grid, members of an ensemble.

    Heads may differ in shrinkage, generator and initial draws; each gets exactly what its own `fit` would give.

    Args:
        heads: alike in shape, loss, activation, ``subsample``, ``max_iter`` and ``weight_decay``.
        features: inputs of all heads.
        targets: as in `GradientBoostedHead.fit`.
        rows: per head the indices of its training examples, equally many each; all examples by default.

    Raises:
        ValueError: as `GradientBoostedHead.fit`; the heads differ where they may not; the rows do not match them.
    """
    lead = _alike(heads)
    loss = LOSSES[lead.loss]
    _check_features(features, lead.in_features)
    if len(targets) != len(features):
        raise ValueError(f"there are {len(features)} rows of features but {len(targets)} targets")
    features, targets = features.detach().cpu(), targets.detach().cpu()
    rows = [torch.arange(len(features))] * len(heads) if rows is None else rows
    if len(rows) != len(heads) or len({len(r) for r in rows}) != 1 or len(rows[0]) < 1:
        raise ValueError("rows must hold one index tensor per head, all of one length of at least 1")
    y = torch.stack([loss.encode(targets[r.cpu()], lead.num_outputs) for r in rows])
    x = nn.functional.pad(features.double(), (0, 1), value=1.0)[torch.stack([r.cpu() for r in rows])]
    with torch.no_grad():
        _boost(heads, x, y)


def _boost(heads: Sequence[GradientBoostedHead], x: Tensor, y: Tensor) -> None:
    """All steps of all heads; ``x`` has a last column of ones, both have a first dimension of runs."""
    lead, loss = heads[0], LOSSES[heads[0].loss]
    runs, n, inputs = len(heads), x.shape[1], lead.in_features
    size = _size(y) if lead.loss == "mse" else y.new_ones(runs)
    y = y / size.view(-1, 1, 1)
    drawn = max(1, int(lead.subsample * n))
    shrinkage = torch.tensor([head.shrinkage for head in heads], dtype=x.dtype)
    bias = loss.start(y)
    scores = bias.unsqueeze(1).expand(y.shape).clone()
    biases, losses, rhos = [bias], [loss.value(y, scores)], []
    firsts, seconds = [], []
    x_array = x.numpy()
    sizes = lead.units_per_step, inputs, lead.num_outputs
    for _ in range(lead.steps):
        residual = loss.residual(y, scores)
        start = np.stack([draw_weights(*sizes, lead.activation, head.generator) for head in heads])
        some_x, some_r = x_array, residual.numpy()
        if drawn < n:
            picked = np.stack([torch.randperm(n, generator=head.generator)[:drawn].numpy() for head in heads])
            each = np.arange(runs)[:, None]
            some_x, some_r = some_x[each, picked], some_r[each, picked]
        nets = SmallNets(some_x, some_r, lead.units_per_step, lead.activation, lead.weight_decay)
        weights = split_weights(minimize(nets, start, max_iter=lead.max_iter), *sizes)
        hidden, _ = activate(x_array @ weights[0].transpose(0, 2, 1), lead.activation)
        first, second = (torch.from_numpy(w) for w in weights)
        added = torch.from_numpy(hidden) @ second[:, :, :-1].transpose(1, 2) + second[:, :, -1].unsqueeze(1)
        rho, _ = loss.newton(residual, y, added)
        factor = (shrinkage * rho).view(-1, 1, 1)
        scores += factor * added
        bias = bias + (factor * second)[:, :, -1]
        firsts.append(first)
        seconds.append((factor * second)[:, :, :-1])
        biases.append(bias)
        rhos.append(rho)
        losses.append(loss.value(y, scores))
    factor = (size * loss.to_logit).view(-1, 1, 1)
    welded = torch.cat(firsts, 1), torch.cat(seconds, 2) * factor, torch.stack(biases, 1) * factor
    history = (torch.stack(losses, 1) * size.square()[:, None]).tolist()
    for run, head in enumerate(heads):
        head.hidden_weight.copy_(welded[0][run, :, :-1])
        head.hidden_bias.copy_(welded[0][run, :, -1])
        head.output_weight.copy_(welded[1][run])
        head.step_bias.copy_(welded[2][run])
        head.rho.copy_(torch.stack(rhos, 1)[run])
        head.fitted_steps.fill_(head.steps)
        head.active_steps = head.steps
        head.train_loss = history[run]


def _size(y: Tensor) -> Tensor:
    """The deviation of numbers to fit, [runs], by which they are divided: weight decay and tolerances suit size 1."""
    size = y.var(1, correction=0).mean(1).sqrt()
    return torch.where(size > 0, size, 1.0)


def _alike(heads: Sequence[GradientBoostedHead]) -> GradientBoostedHead:
    if not heads:
        raise ValueError("heads must hold at least one head")
    names = ["in_features", "num_outputs", "units", "units_per_step", "loss", "subsample", "max_iter", "weight_decay"]
    for name in names:
        if len({getattr(head, name) for head in heads}) > 1:
            raise ValueError(f"heads that are fitted together must have the same {name}")
    if len({repr(head.activation) for head in heads}) > 1:
        raise ValueError("heads that are fitted together must have the same activation")
    return heads[0]


def _check_features(features: Tensor, in_features: int) -> None:
    if features.dim() != 2 or features.shape[1] != in_features:
        raise ValueError(f"features must have shape [examples, {in_features}], not {list(features.shape)}")
    bad = (~features.isfinite()).any(0).nonzero().squeeze(1).tolist()
    if bad:
        raise ValueError(f"features must be finite: column {bad[0]} has a value that is not a number or infinite")
