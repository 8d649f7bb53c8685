"""Products of small matrices over the reals, the complex numbers and the quaternions, with few multiplications.

An algorithm of rank r for a bilinear product z_k = Σ T_ijk x_i y_j is three matrices with
T_ijk = Σ_r left[i, r] right[j, r] out[k, r]. Known ones: Strassen's 7 for 2 x 2 matrices, Laderman's 23 for 3 x 3, 3
for complex numbers, 8 for quaternions; products of algorithms serve matrices over these numbers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Factors of each product: signed entries of the left and of the right operand, numbered row by row from 1.
_STRASSEN = (
    ((1, 4), (1, 4)), ((3, 4), (1,)), ((1,), (2, -4)), ((4,), (3, -1)), ((1, 2), (4,)), ((3, -1), (1, 2)),
    ((2, -4), (3, 4)),
)  # fmt: skip
_LADERMAN = (
    ((1, 2, 3, -4, -5, -8, -9), (5,)), ((1, -4), (5, -2)), ((5,), (2, -1, 4, -5, -6, -7, 9)),
    ((4, 5, -1), (1, -2, 5)), ((4, 5), (2, -1)), ((1,), (1,)), ((7, 8, -1), (1, -3, 6)), ((7, -1), (3, -6)),
    ((7, 8), (3, -1)), ((1, 2, 3, -5, -6, -7, -8), (6,)), ((8,), (3, -1, 4, -5, -6, -7, 8)),
    ((8, 9, -3), (5, 7, -8)), ((3, -9), (5, -8)), ((3,), (7,)), ((8, 9), (8, -7)), ((5, 6, -3), (6, 7, -9)),
    ((3, -6), (6, -9)), ((5, 6), (9, -7)), ((2,), (4,)), ((6,), (8,)), ((4,), (3,)), ((7,), (2,)), ((9,), (9,)),
)  # fmt: skip
_COMPLEX = (((1,), (1,)), ((2,), (2,)), ((1, 2), (1, 2)))
_QUATERNION = (
    ((1, 2), (1, 2)), ((4, -3), (3, -4)), ((1, -2), (3, 4)), ((3, 4), (1, -2)), ((2, 4), (2, 3)), ((2, -4), (2, -3)),
    ((1, 3), (1, -4)), ((1, -3), (1, 4)),
)  # fmt: skip


@dataclass(frozen=True)
class BilinearAlgorithm:
    """Three factors of a product's tensor, in float64.

    Args:
        left: of the entries of the left operand.
        right: of the entries of the right operand.
        out: of the entries of the product.
    """

    left: Float[Tensor, "entries rank"]
    right: Float[Tensor, "entries rank"]
    out: Float[Tensor, "entries rank"]

    @property
    def rank(self) -> int:
        """Number of multiplications."""
        return self.left.shape[1]

    def tensor(self) -> Float[Tensor, "entries entries entries"]:
        """T_ijk."""
        return torch.einsum("ir,jr,kr->ijk", self.left, self.right, self.out)


@functools.cache
def matrix_product(dim: int) -> BilinearAlgorithm:
    """For dim x dim matrices, whose entries are numbered row by row; dim³ multiplications where no better is built in.

    Args:
        dim: 1, 2 (7), 3 (23), 4 (49), ...
    """
    if dim == 1:
        one = torch.ones(1, 1, dtype=torch.float64)
        return BilinearAlgorithm(one, one, one)
    if dim in (2, 3):
        return _solved({2: _STRASSEN, 3: _LADERMAN}[dim], _matrix_tensor(dim))
    half = math.isqrt(dim)
    if half * half == dim:
        return _of_blocks(matrix_product(half), half)
    eye = torch.eye(dim, dtype=torch.float64)
    left = torch.einsum("ia,jb->ijab", eye, eye)
    i, j, k = torch.cartesian_prod(*[torch.arange(dim)] * 3).T
    flat = left.reshape(dim * dim, dim * dim)
    return BilinearAlgorithm(flat[:, i * dim + j], flat[:, j * dim + k], flat[:, i * dim + k])


@functools.cache
def number_product(commuting: int) -> BilinearAlgorithm:
    """For real (1), complex (2) or quaternionic (4) numbers.

    Args:
        commuting: dimension of the numbers over the reals.
    """
    if commuting == 1:
        return matrix_product(1)
    return _solved(_COMPLEX if commuting == 2 else _QUATERNION, number_tensor(commuting))


def over(numbers: BilinearAlgorithm, matrices: BilinearAlgorithm) -> BilinearAlgorithm:
    """For matrices of such numbers; an entry's parts stand together.

    Args:
        numbers: the product of numbers.
        matrices: the product of real matrices.
    """
    pairs = [(getattr(matrices, side), getattr(numbers, side)) for side in ("left", "right", "out")]
    return BilinearAlgorithm(*(torch.kron(a, b) for a, b in pairs))


def number_tensor(commuting: int) -> Float[Tensor, "parts parts parts"]:
    """T_ijk of the product of complex numbers or quaternions: e_i e_j = Σ_k T_ijk e_k."""
    signs = {(1, 1): -1}
    if commuting == 4:
        signs |= {(2, 2): -1, (3, 3): -1, (2, 1): -1, (3, 2): -1, (1, 3): -1}  # ij = k, jk = i, ki = j
    tensor = torch.zeros(commuting, commuting, commuting, dtype=torch.float64)
    for i in range(commuting):
        for j in range(commuting):
            tensor[i, j, i ^ j] = signs.get((i, j), 1)
    return tensor


def _matrix_tensor(dim: int) -> Tensor:
    eye = torch.eye(dim, dtype=torch.float64)
    return torch.einsum("jk,im,ln->ijklmn", eye, eye, eye).reshape([dim * dim] * 3)


def _solved(products: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...], tensor: Tensor) -> BilinearAlgorithm:
    """The algorithm with these products; how they are summed follows from the tensor."""
    size, rank = len(tensor), len(products)
    sides = torch.zeros(2, size, rank, dtype=torch.float64)
    for r, product in enumerate(products):
        for side, terms in enumerate(product):
            for term in terms:
                sides[side, abs(term) - 1, r] = math.copysign(1, term)
    left, right = sides
    pairs = torch.einsum("ir,jr->ijr", left, right).reshape(size * size, rank)
    out = torch.linalg.lstsq(pairs, tensor.reshape(size * size, size)).solution
    return BilinearAlgorithm(left, right, (2 * out).round().T / 2)


def _of_blocks(algorithm: BilinearAlgorithm, dim: int) -> BilinearAlgorithm:
    """The algorithm applied to blocks and, within them, to their entries."""
    place = torch.arange(dim**4).reshape([dim] * 4)  # block row, block column, row, column
    rows = place.permute(0, 2, 1, 3).flatten()
    return BilinearAlgorithm(
        *(torch.kron(side, side)[rows] for side in (algorithm.left, algorithm.right, algorithm.out))
    )
