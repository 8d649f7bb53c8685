"""The largest eigenvalues of a loss's Hessian, by Lanczos' method on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation, undisturbed


@dataclass(frozen=True)
class Sharpness(ProbeResult):
    """Extreme eigenvalues of the Hessian.

    Args:
        eigenvalues: the largest, from high to low.
        smallest: the smallest (most negative) one.
        products: Hessian-vector products that were needed.
    """

    eigenvalues: tuple[float, ...]
    smallest: float
    products: int

    @property
    def largest(self) -> float:
        """lambda_1."""
        return self.eigenvalues[0]

    @property
    def largest_magnitude(self) -> float:
        """The eigenvalue of largest absolute value."""
        return max(self.largest, self.smallest, key=abs)

    def summary(self) -> str:
        """lambda_1 and the step that plain gradient descent could take on a quadratic of that curvature."""
        stable = f"; 2 / lambda_1 = {2 / self.largest:.3g}" if self.largest > 0 else ""
        return f"lambda_1 = {self.largest:.4g}, smallest {self.smallest:.4g}{stable} ({self.products} products)"

    def plot(self, ax: Any) -> Any:
        """Eigenvalues in order."""
        ax.plot(range(1, len(self.eigenvalues) + 1), self.eigenvalues, marker="o")
        ax.set(xlabel="rank", ylabel="eigenvalue")
        return ax


def sharpness(
    model: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    x: Any,
    y: Tensor,
    k: int = 1,
    *,
    exclude: tuple[str, ...] = (),
    tolerance: float = 1e-4,
    most: int = 200,
    generator: torch.Generator | None = None,
) -> Sharpness:
    """Largest eigenvalues of the Hessian of ``loss(call(model, x), y)`` in the model's trainable parameters.

    Lanczos with full reorthogonalisation, until the k largest Ritz values change by less than the tolerance.

    Args:
        model: any module, used in evaluation mode; it and the random states stay as they are.
        loss: ``loss(output, y) -> scalar``, twice differentiable.
        x: one batch of inputs.
        y: its targets.
        k: how many eigenvalues.
        exclude: names of parameters that are left out (the input layer's, for instance).
        tolerance: relative change at which to stop.
        most: at most so many products.
        generator: of the start vector, on the CPU; torch's global state by default.

    Raises:
        ValueError: no parameters are left, or k is not between 1 and their number.
    """
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if unknown := set(exclude) - set(named):
        raise ValueError(f"exclude names {sorted(unknown)[0]!r}, which is no trainable parameter of the model")
    parameters = [p for n, p in named.items() if n not in exclude]
    size = sum(p.numel() for p in parameters)
    if not 1 <= k <= size:
        raise ValueError(f"k must be between 1 and the number of parameters, {size}, not {k}")
    with undisturbed(model), evaluation(model), torch.enable_grad():
        gradients = torch.autograd.grad(loss(call(model, x), y), parameters, create_graph=True, allow_unused=True)
        flat = torch.cat(
            [(g if g is not None else torch.zeros_like(p)).flatten() for g, p in zip(gradients, parameters)]
        )

    def product(v: Tensor) -> Tensor:
        if not flat.requires_grad:
            return torch.zeros_like(v)
        found = torch.autograd.grad(flat, parameters, v.to(flat), retain_graph=True, allow_unused=True)
        return torch.cat(
            [(h if h is not None else torch.zeros_like(p)).flatten() for h, p in zip(found, parameters)]
        ).to(v)  # fmt: skip

    with undisturbed(model):
        values, products = lanczos(product, size, flat.device, k, tolerance, min(most, size), generator)
    return Sharpness(tuple(values.flip(0)[:k].tolist()), float(values[0]), products)


def lanczos(
    product: Callable[[Tensor], Tensor],
    size: int,
    device: torch.device,
    k: int,
    tolerance: float,
    most: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    """Ritz values of a symmetric operator, in increasing order, and the number of products; in float64."""
    v = torch.randn(size, generator=generator, dtype=torch.float64).to(device)
    basis = [v / v.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    last: Tensor | None = None
    values = torch.zeros(0)
    while True:
        w = product(basis[-1])
        diagonal.append(float(w @ basis[-1]))
        for _ in range(2):  # twice is enough to be orthogonal to rounding
            stacked = torch.stack(basis)
            w = w - stacked.T @ (stacked @ w)
        ritz = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if beside:
            off = torch.tensor(beside, dtype=torch.float64)
            ritz += torch.diag(off, 1) + torch.diag(off, -1)
        values = torch.linalg.eigvalsh(ritz)
        norm = float(w.norm())
        top = values[-k:]
        settled = (
            last is not None and len(top) == len(last) and bool(((top - last).abs() <= tolerance * top.abs()).all())
        )
        if (
            len(diagonal) >= most
            or norm < 1e-12 * max(1.0, float(values.abs().max()))
            or (settled and len(values) > k + 2)
        ):
            return values, len(diagonal)
        last = top
        beside.append(norm)
        basis.append(w / norm)
