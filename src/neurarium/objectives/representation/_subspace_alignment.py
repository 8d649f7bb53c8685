"""How parallel two linear subspaces are."""

from __future__ import annotations

from torch import Tensor


def subspace_alignment(basis_a: Tensor, basis_b: Tensor, statistic: str = "mean") -> Tensor:
    """Squared cosines between the axes of two subspaces (Tucker and Shah, arXiv 2205.13997, section 3.3).

    The mean over all pairs of axes, ``|A^T B|_F^2 / (r_a r_b)``, does not depend on the choice of either basis: it is 0
    for orthogonal subspaces, min(r_a, r_b) / (r_a r_b) where one holds the other, and 1 / dim on average for random
    ones. Add it to a loss to make subspaces orthogonal, subtract it to make them parallel.

    Args:
        basis_a: orthonormal columns ``[dim, r_a]``.
        basis_b: orthonormal columns ``[dim, r_b]``.
        statistic: ``"mean"`` or ``"max"``, the largest entry (a stricter demand for orthogonality).

    Raises:
        ValueError: the bases live in different dimensions, or an unknown statistic.
    """
    if basis_a.shape[0] != basis_b.shape[0]:
        raise ValueError(f"the bases have {basis_a.shape[0]} and {basis_b.shape[0]} dimensions")
    if statistic not in ("mean", "max"):
        raise ValueError(f"statistic must be 'mean' or 'max', not {statistic!r}")
    squares = (basis_a.T @ basis_b).square()
    return squares.mean() if statistic == "mean" else squares.max()
