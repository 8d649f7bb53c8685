"""The pieces of one boosting step: three losses with their starts, residuals and Newton steps, and the small networks.

All of it works on ``runs`` independent fits at once: tensors and arrays begin with that dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

Array = NDArray[np.float64]
SMALLEST = 1e-12
"""Newton denominators below it mean that the loss is flat along the new network: the step is empty."""


@dataclass(frozen=True)
class BoostingLoss:
    """A loss as boosting needs it. Targets are encoded as [runs, examples, outputs] by ``encode``.

    Args:
        encode: targets and number of outputs -> encoded targets [examples, outputs].
        start: encoded targets -> ``F₀`` [runs, outputs], the best constant.
        residual: encoded targets, scores -> ``r = −∂loss/∂F``.
        newton: residuals, encoded targets, scores of the new network -> ``ρ`` and its denominator, [runs] each.
        value: encoded targets, scores -> mean loss [runs].
        to_logit: factor from scores to what torch's sigmoid or softmax take.
    """

    encode: Callable[[Tensor, int], Tensor]
    start: Callable[[Tensor], Tensor]
    residual: Callable[[Tensor, Tensor], Tensor]
    newton: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    value: Callable[[Tensor, Tensor], Tensor]
    to_logit: float = 1.0


def _encode_classes(y: Tensor, outputs: int) -> Tensor:
    if y.dim() != 1 or y.is_floating_point():
        raise ValueError(f"targets must be a vector of class indices, not {y.dtype} of shape {tuple(y.shape)}")
    if outputs < 2:
        raise ValueError("loss 'cross_entropy' needs num_outputs of at least 2; use loss 'binary' for one output")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < outputs:
        raise ValueError(f"class indices must lie in 0..{outputs - 1}, not {int(y.min())}..{int(y.max())}")
    counts = torch.bincount(y.long(), minlength=outputs)
    if not counts.all():
        missing = (counts == 0).nonzero().squeeze(1).tolist()
        raise ValueError(f"no training example of class {missing[0] if len(missing) == 1 else missing}")
    return one_hot(y.long(), outputs).double()


def _encode_signs(y: Tensor, outputs: int) -> Tensor:
    if outputs != 1:
        raise ValueError(f"loss 'binary' has one output, not num_outputs={outputs}")
    values = y.unique()
    if values.tolist() not in ([0, 1], [-1, 1]):
        raise ValueError(f"binary targets must be 0 and 1 (or −1 and 1), both present, not {values.tolist()[:5]}")
    return torch.where(y.reshape(-1, 1) > 0, 1.0, -1.0).double()


def _encode_numbers(y: Tensor, outputs: int) -> Tensor:
    y = y.double().reshape(len(y), -1)
    if y.shape[1] != outputs:
        raise ValueError(f"targets have {y.shape[1]} columns but num_outputs is {outputs}")
    if not y.isfinite().all():
        raise ValueError("targets must be finite")
    return y


def _guarded(numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor]:
    safe = denominator >= SMALLEST
    return torch.where(safe, numerator / torch.where(safe, denominator, 1.0), 0.0), denominator


def _newton_classes(r: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    p = y - r
    return _guarded((h * r).sum((1, 2)), (h.square() * p * (1 - p)).sum((1, 2)))


def _newton_signs(r: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    return _guarded((r * h).sum((1, 2)), (h.square() * r * (2 * y - r)).sum((1, 2)))


def _newton_numbers(r: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares fit needs no search: ``ρ = 1``, unless the network is zero."""
    square = h.square().sum((1, 2))
    return torch.where(square > 0, 1.0, 0.0).to(h), square


def _start_signs(y: Tensor) -> Tensor:
    mean = y.mean(1)
    return 0.5 * torch.log((1 + mean) / (1 - mean))


LOSSES = {
    "cross_entropy": BoostingLoss(
        _encode_classes,
        lambda y: torch.zeros_like(y[:, 0]),
        lambda y, f: y - f.softmax(2),
        _newton_classes,
        lambda y, f: -(y * f.log_softmax(2)).sum(2).mean(1),
    ),
    "binary": BoostingLoss(
        _encode_signs,
        _start_signs,
        lambda y, f: 2 * y * torch.sigmoid(-2 * y * f),
        _newton_signs,
        lambda y, f: nn.functional.softplus(-2 * y * f).mean((1, 2)),
        to_logit=2.0,
    ),
    "mse": BoostingLoss(
        _encode_numbers,
        lambda y: y.mean(1),
        lambda y, f: y - f,
        _newton_numbers,
        lambda y, f: 0.5 * (y - f).square().sum(2).mean(1),
    ),
}

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


@dataclass(frozen=True)
class SmallNets:
    """Regression networks of one hidden layer, one per run, as problems for `minimize`.

    The value is ``½ mean‖r − h(x)‖² + α ‖weights‖² / 2n``; biases are not penalised. Parameters are flat: input weights
    and bias of every unit, then output weights and bias of every output.

    Args:
        x: inputs with a last column of ones, [runs, examples, inputs + 1].
        targets: what to fit, [runs, examples, outputs].
        units: hidden units.
        activation: elementwise function.
        weight_decay: ``α``.
    """

    x: Array
    targets: Array
    units: int
    activation: nn.Module
    weight_decay: float

    def select(self, index: NDArray[np.intp]) -> SmallNets:
        """Only the runs at ``index``."""
        return type(self)(self.x[index], self.targets[index], self.units, self.activation, self.weight_decay)

    def evaluate(self, parameters: Array) -> tuple[Array, Array]:
        """Values and gradients in closed form: two products forward, three back."""
        n = self.x.shape[1]
        first, second = split_weights(parameters, self.units, self.x.shape[2] - 1, self.targets.shape[2])
        hidden, slope = activate(self.x @ first.transpose(0, 2, 1), self.activation)
        error = _product(hidden, second[:, :, :-1].transpose(0, 2, 1))
        error += second[:, None, :, -1] - self.targets
        slope *= _product(error, second[:, :, :-1])
        gradient = np.empty_like(parameters)
        for_first, for_second = split_weights(gradient, self.units, self.x.shape[2] - 1, self.targets.shape[2])
        np.matmul(slope.transpose(0, 2, 1), self.x, out=for_first)
        for_second[:, :, :-1] = error.transpose(0, 2, 1) @ hidden
        for_second[:, :, -1] = error.sum(1)
        value = np.einsum("rnk,rnk->r", error, error)
        if self.weight_decay:
            for weights, toward in ((first[:, :, :-1], for_first), (second[:, :, :-1], for_second)):
                value += self.weight_decay * np.einsum("rij,rij->r", weights, weights)
                toward[:, :, :-1] += self.weight_decay * weights
        gradient /= n
        return value / (2 * n), gradient


def _product(a: Array, b: Array) -> Array:
    """Batched matrix product; with one unit or one output it is an outer one, which multiplication does faster."""
    product: Array = a * b if a.shape[2] == 1 else a @ b
    return product


def split_weights(parameters: Array, units: int, inputs: int, outputs: int) -> tuple[Array, Array]:
    """Views of flat vectors: input weights [runs, units, inputs + 1], output weights [runs, outputs, units + 1]."""
    cut, runs = units * (inputs + 1), len(parameters)
    first, second = parameters[:, :cut], parameters[:, cut:]
    return first.reshape(runs, units, inputs + 1), second.reshape(runs, outputs, units + 1)


def activate(z: Array, activation: nn.Module) -> tuple[Array, Array]:
    """The activation at ``z`` and its derivative there."""
    if isinstance(activation, nn.Sigmoid):
        a = np.tanh(0.5 * z)  # a third of the time of scipy.special.expit, and as safe from overflow
        a += 1
        a *= 0.5
        return a, a * (1 - a)
    if isinstance(activation, nn.Tanh):
        a = np.tanh(z)
        return a, 1 - a * a
    with torch.enable_grad():
        leaf = torch.from_numpy(z).requires_grad_()
        output = activation(leaf)
        (slope,) = torch.autograd.grad(output.sum(), leaf)
    return output.detach().numpy(), slope.numpy()


def draw_weights(
    units: int, inputs: int, outputs: int, activation: nn.Module, generator: torch.Generator | None
) -> Array:
    """Initial weights and biases of one network, flat: Glorot's uniform bound √(c / (fan_in + fan_out)).

    ``c`` is 2 for the sigmoid, whose slope at 0 is small, and 6 otherwise.
    """
    factor = 2.0 if isinstance(activation, nn.Sigmoid) else 6.0
    first, second = (factor / (inputs + units)) ** 0.5, (factor / (units + outputs)) ** 0.5
    sizes = units * (inputs + 1), outputs * (units + 1)
    draws = torch.rand(sum(sizes), generator=generator, dtype=torch.float64).numpy() * 2 - 1
    return draws * np.repeat((first, second), sizes)
