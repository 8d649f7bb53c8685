"""The product of dense rows with a sparse matrix in compressed row form, forward and backward, as one operator."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


def csr_matrix(crow: Tensor, col: Tensor, values: Tensor, rows: int, columns: int) -> Tensor:
    """A torch CSR tensor of row pointers, columns and values; nothing is checked."""
    return torch.sparse_csr_tensor(crow, col, values, (rows, columns), check_invariants=False)


def _product(x: Tensor, values: Tensor, crow: Tensor, col: Tensor) -> Tensor:
    """``x Wᵀ`` for ``W`` in row form: [batch, columns] -> [batch, rows]."""
    if torch.is_autocast_enabled(x.device.type):  # it would ask for a sparse product in half precision: there is none
        with torch.autocast(x.device.type, enabled=False):
            return _product(x.to(values.dtype), values, crow, col)
    weight = csr_matrix(crow, col, values, crow.shape[0] - 1, x.shape[1])
    return (weight @ x.t()).t().contiguous()


def _product_shape(x: Tensor, values: Tensor, crow: Tensor, col: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], crow.shape[0] - 1)


# An operator of its own, so that torch's FLOP counter and compiler see it; declared through `Library` because the
# `custom_op` decorator costs more per call than the product of a small layer.
_library = torch.library.Library("neurarium", "FRAGMENT")
_library.define("csr_product(Tensor x, Tensor values, Tensor crow, Tensor col) -> Tensor")
_library.impl("csr_product", _product, "CompositeExplicitAutograd")
torch.library.register_fake("neurarium::csr_product", _product_shape, lib=_library)


@register_flop_formula(torch.ops.neurarium.csr_product)
def _product_flops(x_shape: Any, values_shape: Any, *args: Any, **kwargs: Any) -> int:
    return int(2 * x_shape[0] * values_shape[0])


with warnings.catch_warnings():  # torch says once per process that this layout is in beta
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    csr_matrix(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), 1, 1)


class SparseProduct(torch.autograd.Function):
    """``x Wᵀ`` whose weight gradient exists at the kept entries only; takes the pattern of ``Wᵀ`` for that of ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, crow: Tensor, col: Tensor, *transposed: Tensor) -> Tensor:
        ctx.save_for_backward(x, values, crow, col, *transposed)
        output: Tensor = torch.ops.neurarium.csr_product(x.contiguous(), values, crow, col)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, values, crow, col, crow_t, col_t, order = ctx.saved_tensors
        for_x = for_values = None
        if ctx.needs_input_grad[0]:
            for_x = torch.ops.neurarium.csr_product(gradient.contiguous(), values[order], crow_t, col_t)
        if ctx.needs_input_grad[1]:
            pattern = csr_matrix(crow, col, values, gradient.shape[1], x.shape[1])
            for_values = torch.sparse.sampled_addmm(pattern, gradient.t(), x, beta=0.0).values()
        return (for_x, for_values, None, None, None, None, None)
