"""The log-likelihoods that Fisher estimators differentiate, as gradients with respect to a network's output.

By the chain rule, the gradient of log p(y | x) with respect to any weight is a vector-Jacobian product of the network
with the *score*, the gradient with respect to the output. So a likelihood is three things: the score of a target, a
draw from the model, and *directions*: vectors v with sum v v^T = E_y[score score^T], which give the exact Fisher
information as a sum of squared vector-Jacobian products.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = -100  # torch's mark for a target that does not count


class Likelihood(ABC):
    """p(y | output), for outputs [batch, ...]; an example's log-likelihood is the sum over its output."""

    @abstractmethod
    def score(self, output: Tensor, y: Tensor) -> Tensor:
        """Gradient of log p(y | output) with respect to the output, of the output's shape."""

    @abstractmethod
    def draw(self, output: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Targets drawn from p(y | output), of the shape of ``y``."""

    @abstractmethod
    def directions(self, output: Tensor) -> int:
        """How many directions the exact Fisher information takes per example."""

    @abstractmethod
    def direction(self, output: Tensor, y: Tensor, start: int, stop: int) -> Tensor:
        """Directions ``start`` to ``stop``: [stop - start, batch, ...]."""


class Categorical(Likelihood):
    """Softmax classification: class indices [batch, ...] and logits [batch, ..., classes] or [batch, classes, ...].

    For sequences (a causal language model) an example's log-likelihood is the sum over its tokens, each given the
    tokens before it as they are in the data. Targets of -100 do not count.
    """

    def _classes_last(self, output: Tensor, y: Tensor) -> tuple[Tensor, bool]:
        if y.is_floating_point():
            raise TypeError(f"cross_entropy needs class indices (int64) as targets, not {y.dtype}")
        if y.shape == output.shape[:-1]:
            return output, False
        if output.dim() > 2 and y.shape == (output.shape[0], *output.shape[2:]):
            return output.movedim(1, -1), True
        raise ValueError(
            f"targets of shape {list(y.shape)} do not fit logits of shape {list(output.shape)}; "
            "cross_entropy takes one class index per row of logits"
        )

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        logits, moved = self._classes_last(output, y)
        counted = y != IGNORE
        chosen = F.one_hot(y.where(counted, 0), logits.shape[-1]).to(logits.dtype)
        score = (chosen - logits.softmax(-1)) * counted[..., None]
        return score.movedim(-1, 1) if moved else score

    def draw(self, output: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        logits, _ = self._classes_last(output, y)
        edges = logits.double().softmax(-1).cumsum(-1)
        level = uniform(logits.shape[:-1], generator).to(logits.device)[..., None]
        drawn = torch.searchsorted(edges, level).squeeze(-1).clamp_max(logits.shape[-1] - 1)
        return drawn.where(y != IGNORE, IGNORE)

    def directions(self, output: Tensor) -> int:
        return output[0].numel()

    def direction(self, output: Tensor, y: Tensor, start: int, stop: int) -> Tensor:
        # E_y[score score^T] = sum_c s_c s_c^T with s_c = sqrt(p_c) (e_c - p), at each position by itself.
        logits, moved = self._classes_last(output, y)
        classes = logits.shape[-1]
        p = logits.softmax(-1).reshape(len(logits), -1, classes)
        index = torch.arange(start, stop, device=p.device)
        position, label = index // classes, index % classes
        rows = p[:, position]  # [batch, directions, classes]
        centred = F.one_hot(label, classes).to(p.dtype) - rows
        counted = (y != IGNORE).reshape(len(y), -1)[:, position]
        found = centred * rows.gather(-1, label.expand(len(p), -1)[..., None]).sqrt() * counted[..., None]
        out = p.new_zeros(len(index), *p.shape)
        out[torch.arange(len(index), device=p.device), :, position] = found.transpose(0, 1)
        out = out.reshape(len(index), *logits.shape)
        return out.movedim(-1, 2) if moved else out


class Gaussian(Likelihood):
    """Regression with unit variance: log p = -1/2 sum (output - y)^2; the exact Fisher does not depend on y."""

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        if y.shape != output.shape:
            raise ValueError(f"targets of shape {list(y.shape)} do not fit outputs of shape {list(output.shape)}")
        return y.to(output.dtype) - output

    def draw(self, output: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        # Normal draws through the inverse distribution: the same numbers however the examples are batched.
        level = uniform(output.shape, generator).clamp_min(1e-16)
        return output + torch.special.ndtri(level).to(output)

    def directions(self, output: Tensor) -> int:
        return output[0].numel()

    def direction(self, output: Tensor, y: Tensor, start: int, stop: int) -> Tensor:
        return one_hot_directions(output, start, stop)


class Bernoulli(Likelihood):
    """Independent binary labels with logits as output (``binary_cross_entropy_with_logits``)."""

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        if y.shape != output.shape:
            raise ValueError(f"targets of shape {list(y.shape)} do not fit outputs of shape {list(output.shape)}")
        return y.to(output.dtype) - output.sigmoid()

    def draw(self, output: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        return (uniform(output.shape, generator).to(output.device) < output.double().sigmoid()).to(output.dtype)

    def directions(self, output: Tensor) -> int:
        return output[0].numel()

    def direction(self, output: Tensor, y: Tensor, start: int, stop: int) -> Tensor:
        p = output.sigmoid()
        return one_hot_directions(output, start, stop) * (p * (1 - p)).sqrt()


def one_hot_directions(output: Tensor, start: int, stop: int) -> Tensor:
    """Unit vectors along single outputs: [stop - start, *output.shape]."""
    out = output.new_zeros(stop - start, len(output), output[0].numel())
    index = torch.arange(stop - start, device=output.device)
    out[index, :, index + start] = 1
    return out.reshape(stop - start, *output.shape)


def uniform(shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in float64, drawn on the generator's device (the CPU without one)."""
    device = "cpu" if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=device)


Loss = str | Callable[[Tensor, Tensor], Tensor]
"""``"cross_entropy"``, ``"gaussian"``, ``"binary_cross_entropy"``, torch's losses of these kinds, or any callable."""

NAMED: dict[str, Likelihood] = {
    "cross_entropy": Categorical(),
    "gaussian": Gaussian(),
    "binary_cross_entropy": Bernoulli(),
}
FUNCTIONS: dict[Any, str] = {
    F.cross_entropy: "cross_entropy",
    F.mse_loss: "gaussian",
    F.binary_cross_entropy_with_logits: "binary_cross_entropy",
}


def likelihood_of(loss: Loss) -> Likelihood | None:
    """The likelihood that a loss is the negative logarithm of, or None for a callable that is not known to be one.

    ``mse_loss`` stands for the Gaussian of unit variance, whatever it is multiplied by.

    Raises:
        ValueError: the name is not known.
        TypeError: ``loss`` is neither a name nor callable.
    """
    if isinstance(loss, str):
        if loss not in NAMED:
            raise ValueError(f"loss must be one of {', '.join(NAMED)} or a callable, not {loss!r}")
        return NAMED[loss]
    if isinstance(loss, nn.CrossEntropyLoss):
        plain = loss.weight is None and loss.label_smoothing == 0 and loss.ignore_index == IGNORE
        return NAMED["cross_entropy"] if plain else None
    if isinstance(loss, nn.MSELoss):
        return NAMED["gaussian"]
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return NAMED["binary_cross_entropy"] if loss.weight is None and loss.pos_weight is None else None
    if not callable(loss):
        raise TypeError(f"loss must be a name or a callable, not {type(loss).__name__}")
    return NAMED.get(FUNCTIONS.get(loss, ""))
