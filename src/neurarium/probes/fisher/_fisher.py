"""The diagonal of the Fisher information: how much a task's log-likelihood depends on each weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.fisher._likelihood import Likelihood, Loss, likelihood_of
from neurarium.probes.fisher._squared_gradients import Traced
from neurarium.training import count_rows, evaluation, rows_of, unpack

Estimator = Literal["exact", "sampled", "empirical"]
ESTIMATORS: tuple[Estimator, ...] = ("exact", "sampled", "empirical")


@dataclass(frozen=True)
class FisherDiagonal(ProbeResult):
    """Importance of each weight.

    Args:
        values: parameter name -> non-negative tensor of the parameter's shape.
        examples: how many examples were averaged.
        estimator: which expectation over targets was taken.
    """

    values: Mapping[str, Tensor]
    examples: int
    estimator: str

    def layers(self) -> dict[str, Tensor]:
        """Values by module: weight and bias of one layer as one vector."""
        grouped: dict[str, list[Tensor]] = {}
        for name, value in self.values.items():
            grouped.setdefault(name.rpartition(".")[0], []).append(value.flatten())
        return {layer: torch.cat(parts) for layer, parts in grouped.items()}

    @property
    def trace(self) -> float:
        """Sum over all weights."""
        return float(sum(value.double().sum() for value in self.values.values()))

    def summary(self) -> str:
        """Trace, largest value, and each layer's share of the trace."""
        total = self.trace
        largest = max(float(value.max()) for value in self.values.values())
        lines = [
            f"{self.estimator} Fisher diagonal over {self.examples} examples: trace {total:.4g}, max {largest:.4g}"
        ]
        for layer, value in self.layers().items():
            share = float(value.double().sum()) / total if total else 0.0
            lines.append(f"  {layer or 'model'}: {share:.1%} of the trace in {value.numel():,} weights")
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """A histogram per layer over the logarithm of the values (zeros are left out)."""
        for layer, value in self.layers().items():
            ax.hist(value[value > 0].log10().cpu().numpy(), bins=50, histtype="step", label=layer or "model")
        ax.set_xlabel("log10 Fisher information")
        ax.set_ylabel("weights")
        ax.legend()
        return ax


def fisher_diagonal(
    model: nn.Module,
    loader: Iterable[Any],
    estimator: Estimator = "sampled",
    samples: int | None = None,
    *,
    loss: Loss = "cross_entropy",
    clip: float | None = None,
    generator: torch.Generator | None = None,
) -> FisherDiagonal:
    """F_i = E_x E_{y ~ p(y|x)} [(d log p(y|x) / d theta_i)^2] at the current weights (section 2.1).

    The square is that of each example's gradient. The model runs in evaluation mode; its mode, buffers and ``.grad``
    are left as they were. Frozen parameters are skipped; one that the output does not depend on gets zero.

    Args:
        model: one tensor out, one row per example.
        loader: batches ``(x, y)``; their size does not matter to the result.
        estimator: the inner expectation. ``"exact"``: over all classes (or outputs), as one batched backward pass.
            ``"sampled"``: one target drawn from the model per example. ``"empirical"``: the data's own target, which
            is not the Fisher information (it vanishes where the model fits) but what many implementations use.
        samples: stop after so many examples, in the loader's order; all by default.
        loss: the log-likelihood: ``"cross_entropy"`` (logits; per-token sums for sequences), ``"gaussian"`` (unit
            variance), ``"binary_cross_entropy"`` (logits), or torch's functions and modules of these. Any other
            callable ``loss(output, y) -> scalar`` allows the empirical estimator only.
        clip: upper limit for a value, against rare huge ones.
        generator: of the drawn targets; torch's global state by default.

    Raises:
        ValueError: unknown estimator, an estimator the loss does not allow, no examples, no parameter that trains, or a
            value that is not finite (the message names the parameter).
    """
    likelihood = check(estimator, samples, loss, clip)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("model has no parameter that requires a gradient, so it has no Fisher information")
    wide = torch.float32 if next(iter(parameters.values())).device.type == "mps" else torch.float64
    sums = {name: torch.zeros_like(p, dtype=wide) for name, p in parameters.items()}
    examples = 0
    with evaluation(model):
        for x, y in map(unpack, loader):
            if samples is not None:
                x, y = rows_of(x, slice(samples - examples)), y[: samples - examples]
            traced = Traced(model, x, parameters)
            for vectors in pulled_vectors(traced, y, estimator, likelihood, loss, generator):
                for name, value in traced.squares(vectors).items():
                    sums[name] += value
            examples += count_rows(x)
            if samples is not None and examples >= samples:
                break
    if examples == 0:
        raise ValueError("loader gave no examples to estimate the Fisher information from")
    values = {name: (value / examples).to(parameters[name].dtype) for name, value in sums.items()}
    for name, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"the Fisher information of parameter {name!r} is not finite; "
                "check the inputs and weights for NaN or lower the learning rate"
            )
    if clip is not None:
        values = {name: value.clamp_max(clip) for name, value in values.items()}
    return FisherDiagonal(values, examples, estimator)


def check(estimator: str, samples: int | None, loss: Loss, clip: float | None) -> Likelihood | None:
    """The likelihood of the loss, after checking the arguments that need no data."""
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, not {estimator!r}")
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be at least 1 or None for all, not {samples}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive or None, not {clip}")
    likelihood = likelihood_of(loss)
    if likelihood is None and estimator != "empirical":
        raise ValueError(
            f"loss is not known to be a log-likelihood, so the {estimator!r} estimator cannot take an expectation over "
            "targets; 'empirical' remains, or name the likelihood: cross_entropy, gaussian, binary_cross_entropy"
        )
    return likelihood


def pulled_vectors(
    traced: Traced,
    y: Tensor,
    estimator: Estimator,
    likelihood: Likelihood | None,
    loss: Loss,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    """Vectors at the output whose squared pull-backs add up to the estimate: [vectors, *output.shape], in parts."""
    output = traced.output.detach()
    if likelihood is None:
        yield loss_gradients(loss, output, y)[None]
    elif estimator == "exact":
        count, most = likelihood.directions(output), traced.most_vectors()
        for start in range(0, count, most):
            yield likelihood.direction(output, y, start, min(start + most, count))
    else:
        targets = y if estimator == "empirical" else likelihood.draw(output, y, generator)
        yield likelihood.score(output, targets)[None]


def loss_gradients(loss: Any, output: Tensor, y: Tensor) -> Tensor:
    """Gradient of each example's own loss with respect to its output, for any loss that takes a batch of one."""
    rows = []
    for row, target in zip(output.split(1), y.split(1)):
        leaf = row.clone().requires_grad_()
        with torch.enable_grad():
            value = loss(leaf, target)
        rows.append(torch.autograd.grad(value.sum(), leaf)[0])
    return torch.cat(rows)
