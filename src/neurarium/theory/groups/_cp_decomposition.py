"""A tensor as a sum of few products, by alternating least squares: an upper bound on its rank, found numerically."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class CpDecomposition:
    """The best of all restarts.

    Args:
        left: factors of the first axis.
        right: factors of the second axis.
        out: factors of the third axis.
        error: norm of what is left over, as a share of the tensor's norm.
        errors: that of every restart, smallest first.
    """

    left: Float[Tensor, "first rank"]
    right: Float[Tensor, "second rank"]
    out: Float[Tensor, "third rank"]
    error: float
    errors: tuple[float, ...]

    def tensor(self) -> Float[Tensor, "first second third"]:
        """Σ_r left_xr right_yr out_zr."""
        return torch.einsum("xr,yr,zr->xyz", self.left, self.right, self.out)


def cp_decomposition(
    tensor: Float[Tensor, "first second third"],
    rank: int,
    *,
    restarts: int = 8,
    steps: int = 500,
    ridge: float = 0.1,
    tolerance: float = 1e-7,
    generator: torch.Generator | None = None,
) -> CpDecomposition:
    """Fit a tensor by ``rank`` products of three vectors.

    All restarts run at once. A ridge that shrinks from step to step keeps the factors from running to infinity on the
    way, as they do where a tensor is a limit of tensors of lower rank.

    Args:
        tensor: of three axes; a word's, or one of its blocks.
        rank: number of products.
        restarts: random starts.
        steps: at most so many rounds over the three factors.
        ridge: weight of the factors' squared norm at the beginning, as a share of the mean squared norm of the columns
            that each least-squares problem is solved with; it falls to a ten-thousandth.
        tolerance: the search ends when the best error is below it.
        generator: of the starts; torch's global one by default.

    Raises:
        ValueError: a number is out of range, or the tensor is zero.
    """
    if min(rank, restarts, steps) < 1 or ridge < 0:
        raise ValueError(
            "rank, restarts and steps must be at least 1 and ridge not negative, "
            f"not {rank}, {restarts}, {steps} and {ridge}"
        )
    norm = tensor.norm()
    if not norm > 0:
        raise ValueError("tensor must not be zero")
    device = generator.device if generator is not None else tensor.device
    factors = [
        torch.randn(restarts, size, rank, generator=generator, device=device, dtype=tensor.dtype).to(tensor.device)
        for size in tensor.shape
    ]
    unfolded = [tensor.movedim(axis, 0).flatten(1) / norm for axis in range(3)]
    errors = tensor.new_full((restarts,), 1.0)
    for step in range(steps):
        weight = ridge * 1e-4 ** (step / max(steps - 1, 1))
        for axis in range(3):
            first, second = (factors[other] for other in range(3) if other != axis)
            gram = (first.mT @ first) * (second.mT @ second)
            level = weight * gram.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(tensor.dtype).tiny
            ahead = torch.einsum("bir,bjr->bijr", first, second).flatten(1, 2)  # columns to combine
            side = unfolded[axis] @ ahead + level[:, None, None] * factors[axis]  # drawn to where it was
            eye = torch.eye(rank, dtype=tensor.dtype, device=tensor.device)
            factors[axis] = torch.linalg.solve(gram + level[:, None, None] * eye, side.mT).mT
        factors = _balanced(factors)
        if step % 10 == 9 or step == steps - 1:
            made = torch.einsum("bxr,byr,bzr->bxyz", *factors)
            errors = (made - tensor / norm).flatten(1).norm(dim=1)
            if float(errors.min()) < tolerance:
                break
    best = int(errors.argmin())
    left, right, out = (factor[best] * norm ** (1 / 3) for factor in factors)
    return CpDecomposition(left, right, out, float(errors[best]), tuple(errors.sort()[0].tolist()))


def _balanced(factors: list[Tensor]) -> list[Tensor]:
    """The same products, each with three vectors of one length."""
    lengths = [factor.norm(dim=1, keepdim=True).clamp_min(1e-30) for factor in factors]
    common = (lengths[0] * lengths[1] * lengths[2]) ** (1 / 3)
    return [factor / length * common for factor, length in zip(factors, lengths)]
