"""A residual stack multiplied out and cut off: orders of its expansion, exact for linear branches."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neurarium.layers.residual._parallel_residual import ParallelResidual, checked

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Identity, nn.AvgPool1d, nn.AvgPool2d)


class TruncatedResidual(ParallelResidual):
    """``x + Σ_i F_i(x) + Σ_i J_i(x) Σ_{j<i} F_j(x) + ...``: a residual stack up to products of ``order`` branches.

    Each order multiplies those before it by the branches' Jacobians J_i at the common input, S_k(i) = S_k(i - 1) +
    J_i S_{k-1}(i - 1), so that order k costs k - 1 directional derivatives a branch and not the C(L, k) products of
    the sum. Scaling the branches by ε leaves an error of ε^(order + 1). Beyond the second order this needs branches
    that are linear (with or without a constant): others have second derivatives. It can be trained: the Jacobians are
    never made, and their products with vectors have gradients.

    Args:
        branches: modules that keep the shape of their input.
        order: 1 is `ParallelResidual`; as many as there are branches, or more, gives the stack itself if they are
            linear.
        scale: as in `ParallelResidual`.

    Raises:
        ValueError: an order below 1, or above 2 with a branch that is not linear; in the forward pass, if a branch
            changes the shape or has no second derivative.
    """

    def __init__(self, *branches: nn.Module, order: int = 2, scale: float | None = None) -> None:
        super().__init__(*branches, scale=scale)
        if order < 1:
            raise ValueError(f"order must be 1 at least, not {order}")
        curved = next((i for i, branch in enumerate(branches) if not _is_affine(branch)), None)
        if order > 2 and curved is not None:
            raise ValueError(
                f"order {order} needs branches that are linear; branch {curved} ({type(branches[curved]).__name__}) "
                "may be curved, for which orders 1 and 2 are known"
            )
        self.order = order

    def branch(self, x: Float[Tensor, "*shape"], *args: Any, **kwargs: Any) -> Float[Tensor, "*shape"]:
        """What all orders but the input itself give together."""
        return torch.stack(self.terms(x, *args, **kwargs)).sum(0)

    def terms(self, x: Float[Tensor, "*shape"], *args: Any, **kwargs: Any) -> list[Float[Tensor, "*shape"]]:
        """S_1, ..., S_order, each of the shape of x."""
        found = [torch.zeros_like(x) for _ in range(self.order)]
        for index, branch in enumerate(self.branches):
            # Order k has no term before its k-th branch, so there is nothing to differentiate yet.
            tangents = found[: min(index, self.order - 1)]
            made, moved = push_forward(branch, x, tangents, args, kwargs)
            changes = [checked(x, made, f"branch {index}"), *moved]
            found = [
                term + self._scaled(index, changes[k]) if k < len(changes) else term for k, term in enumerate(found)
            ]
        return found

    def extra_repr(self) -> str:
        """The order."""
        return f"order={self.order}"


def ordered_products(
    matrices: Float[Tensor, "layers features features"], x: Float[Tensor, "*batch features"], order: int
) -> Float[Tensor, "orders *batch features"]:
    """The orders of Π_i (I + W_i) x, the first matrix applied first: Σ over i_1 < ... < i_k of W_{i_k} ... W_{i_1} x.

    Args:
        matrices: W_1, W_2, ...
        x: what they are applied to.
        order: the highest; as many as there are matrices give the whole product.

    Returns:
        Orders 0 (x itself) to ``order``; their sum is the truncated product.

    Raises:
        ValueError: a negative order.
    """
    if order < 0:
        raise ValueError(f"order must not be negative, not {order}")
    terms = [x, *(torch.zeros_like(x) for _ in range(order))]
    for matrix in matrices:
        terms = [x, *(after + before @ matrix.mT for before, after in itertools.pairwise(terms))]
    return torch.stack(terms)


def push_forward(
    module: nn.Module, x: Tensor, tangents: Sequence[Tensor], args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}
) -> tuple[Tensor, list[Tensor]]:
    """A module's output and J v for some directions v, which may be differentiated again.

    J v is the derivative of u -> J' u, which is linear in u: backward passes alone, which more operations and devices
    can do than forward derivatives, and one pass through the module for all directions.

    Args:
        module: any.
        x: its first input.
        tangents: the directions, of the shape of ``x``; none costs an ordinary pass.
        args: further inputs.
        kwargs: named ones.

    Raises:
        ValueError: it cannot be differentiated twice; torch's message names the operation.
    """
    if not tangents:
        return module(x, *args, **kwargs), []
    trained = any(t.requires_grad for t in (x, *tangents, *module.parameters()))
    keep = torch.is_grad_enabled() and trained
    with _plain_attention(), torch.inference_mode(False), torch.enable_grad():
        fresh = x.clone() if x.is_inference() else x.detach()
        entered = x.view_as(x) if keep and x.requires_grad else fresh.requires_grad_()
        value = module(entered, *args, **kwargs)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value, [torch.zeros_like(t) for t in tangents]
        weights = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, entered, weights, create_graph=True, allow_unused=True)
        if pulled is None:  # the output does not depend on the input
            return value, [torch.zeros_like(t) for t in tangents]
        try:
            moved = [torch.autograd.grad(pulled, weights, t, create_graph=keep, retain_graph=True)[0] for t in tangents]
        except RuntimeError as refusal:
            raise ValueError(f"a branch has no second derivative, which order 2 needs: {refusal}") from refusal
    return (value, moved) if keep else (value.detach(), [m.detach() for m in moved])


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Fused attention has no second derivative; the plain one has."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _is_affine(branch: nn.Module) -> bool:
    if type(branch) is nn.Sequential:
        return all(_is_affine(member) for member in branch)
    return type(branch) in AFFINE
