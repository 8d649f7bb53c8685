"""The singular values of a network's input-output Jacobian: how far signals and gradients stretch on their way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation


@dataclass(frozen=True)
class JacobianSpectrum(ProbeResult):
    """Singular values of the Jacobian at some examples.

    Args:
        singular_values: [examples, values], largest first.
        mean_squared: mean of the squared singular values over values and examples, 1 where lengths are kept on average.
        condition: largest over smallest singular value, the median over examples; NaN where only the largest are known.
    """

    singular_values: Float[Tensor, "examples values"]
    mean_squared: float
    condition: float

    def summary(self) -> str:
        """Range, mean square and condition."""
        values = self.singular_values
        return (
            f"{values.shape[1]} singular values at {values.shape[0]} examples from {float(values.min()):.3g} to "
            f"{float(values.max()):.3g}; mean square {self.mean_squared:.3g}, condition {self.condition:.3g}"
        )

    def plot(self, ax: Any) -> Any:
        """A histogram over the logarithm of the singular values."""
        floor = torch.finfo(self.singular_values.dtype).tiny
        ax.hist(self.singular_values.clamp_min(floor).log10().flatten().cpu().numpy(), bins=50)
        ax.set_xlabel("log10 singular value")
        ax.set_ylabel("count")
        return ax


def jacobian_spectrum(
    model: nn.Module,
    x: Tensor,
    *,
    largest: int | None = None,
    rows: int = 4096,
    generator: torch.Generator | None = None,
) -> JacobianSpectrum:
    """Singular values of d model(x) / dx at every example of a batch (section 3, eq. 6).

    The model is evaluated in evaluation mode; its mode, buffers and ``.grad`` are left as they were. The whole spectrum
    takes one backward pass over as many copies of an example as it has outputs. With ``largest`` only products with the
    Jacobian and its transpose are taken (Lanczos), and the mean square is estimated from ``largest`` random directions.

    Args:
        model: maps a batch to a batch, each example on its own. Give the part between two floating-point activations
            (the blocks of an MLP, `CausalTransformer.transform`'s layers), not integer tokens.
        x: the examples, [examples, ...]; floating point. Use float64 (and ``model.double()``) for values below 1e-7 of
            the largest.
        largest: only so many of the largest singular values; for outputs too large for the whole Jacobian.
        rows: how many copies go through the model at once.
        generator: of the random directions and Lanczos' first vector (on the CPU).

    Raises:
        TypeError: ``x`` is not floating point.
        ValueError: no examples, the output does not keep the batch dimension or does not depend on ``x``, or
            ``largest`` is not below the smaller dimension of the Jacobian.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"x must be floating point to be differentiated, not {x.dtype}; probe the layers after embedding"
        )
    if x.dim() < 2 or len(x) == 0 or rows < 1:
        raise ValueError("x must be a batch of at least one example of at least one dimension, and rows at least 1")
    # Only the plain attention kernel has the second derivative that products with the Jacobian need.
    with evaluation(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        if largest is None:
            values = torch.stack([torch.linalg.svdvals(_jacobian(model, example, rows)) for example in x.detach()])
            mean_squared = float(values.double().square().mean())
            condition = float((values[:, 0].double() / values[:, -1].double()).median())
            return JacobianSpectrum(values, mean_squared, condition)
        found = [_lanczos(model, example, largest, generator) for example in x.detach()]
    values = torch.stack([v for v, _ in found])
    return JacobianSpectrum(values, float(np.mean([m for _, m in found])), float("nan"))


def _output(model: nn.Module, x: Tensor) -> Tensor:
    output = model(x)
    if not isinstance(output, Tensor) or len(output) != len(x):
        raise ValueError("the model must return one tensor with the batch dimension of its input")
    if not output.requires_grad:
        raise ValueError("the model's output does not depend on its input through differentiable operations")
    return output.reshape(len(x), -1)


def _jacobian(model: nn.Module, example: Tensor, rows: int) -> Float[Tensor, "outputs inputs"]:
    """Copy i of the example gives row i, so that one backward pass gives as many rows as there are copies."""
    outputs = _output(model, example[None].clone().requires_grad_()).shape[1]
    parts = []
    for start in range(0, outputs, rows):
        index = torch.arange(start, min(start + rows, outputs), device=example.device)
        copies = example.expand(len(index), *example.shape).clone().requires_grad_()
        chosen = _output(model, copies).gather(1, index[:, None]).sum()
        parts.append(torch.autograd.grad(chosen, copies)[0].flatten(1))
    return torch.cat(parts)


def _lanczos(
    model: nn.Module, example: Tensor, largest: int, generator: torch.Generator | None
) -> tuple[Float[Tensor, " values"], float]:
    """The largest singular values by products alone, and a Hutchinson estimate of their mean square."""
    from scipy.sparse.linalg import LinearOperator, svds

    x = example[None].clone().requires_grad_()
    y = _output(model, x)
    outputs, inputs = y.shape[1], x.numel()
    small = min(outputs, inputs)
    if not 1 <= largest < small:
        raise ValueError(
            f"largest must be between 1 and {small - 1} for a {outputs} by {inputs} Jacobian, not {largest}"
        )
    u = torch.zeros_like(y, requires_grad=True)
    pulled = torch.autograd.grad(y, x, u, create_graph=True)[0]  # linear in u: its derivative pushes vectors forward

    def as_tensor(vector: np.ndarray) -> Tensor:
        return torch.as_tensor(vector, dtype=x.dtype, device=x.device)

    def push(vector: np.ndarray) -> np.ndarray:
        v = as_tensor(vector).reshape(x.shape)
        return torch.autograd.grad(pulled, u, v, retain_graph=True)[0].flatten().double().cpu().numpy()

    def pull(vector: np.ndarray) -> np.ndarray:
        v = as_tensor(vector).reshape(y.shape)
        return torch.autograd.grad(y, x, v, retain_graph=True)[0].flatten().double().cpu().numpy()

    directions = torch.randn(largest, inputs, generator=generator, dtype=torch.float64).numpy()
    mean_squared = float(np.mean([np.square(push(v)).sum() for v in directions])) / small
    start = torch.randn(small, generator=generator, dtype=torch.float64).numpy()
    operator = LinearOperator((outputs, inputs), matvec=push, rmatvec=pull, dtype=np.float64)
    values = svds(operator, k=largest, v0=start, return_singular_vectors=False)
    return torch.as_tensor(np.sort(values)[::-1].copy(), dtype=x.dtype), mean_squared
