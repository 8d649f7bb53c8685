"""ReZero: every residual branch times one learnable scalar that starts at zero (Bachlechner et al., 2020)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ReZeroModule(nn.Module):
    """A module whose residual branches are scaled by one learnable scalar, ``alpha``.

    `alphas` and `parameter_groups` find these modules; a block of your own joins in by subclassing it.

    Args:
        alpha: the scalar to use (one element), for instance that of another module; a new zero by default.
        device: where a new scalar lives.
        dtype: its type.

    Raises:
        ValueError: ``alpha`` has more than one element.
    """

    alpha: nn.Parameter

    def __init__(
        self,
        alpha: nn.Parameter | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if alpha is not None and alpha.numel() != 1:
            raise ValueError(f"alpha must have one element, not shape {tuple(alpha.shape)}")
        # One dimension rather than none: fully sharded training refuses parameters without a dimension.
        self.alpha = nn.Parameter(torch.zeros(1, device=device, dtype=dtype)) if alpha is None else alpha

    def add(self, x: Float[Tensor, "*shape"], branch: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``x + alpha * branch`` in one pass over memory (eq. 3)."""
        return torch.addcmul(x, self.alpha, branch)


class ReZero(ReZeroModule):
    """The residual block ``x + alpha * branch(x)`` with ``alpha = 0`` at the start (section 3, eq. 3).

    At the start the block is the identity, and so is its Jacobian, whatever the branch. In the first step only
    ``alpha`` has a gradient, ``<dL/dy, branch(x)>``; the branch's weights follow from the second step on. Give the
    branch its ordinary initialisation and no normalisation, and keep weight decay away from ``alpha`` (see
    `parameter_groups`).

    Args:
        branch: any module that keeps the shape of its first argument. If it returns a tuple, the first item is the
            branch's output and the others are handed through.
        alpha: the scalar to use; pass another block's ``alpha`` to share it (its gradient is then the sum over the
            blocks). A new zero by default, on the branch's device and of its dtype.

    Raises:
        ValueError: ``alpha`` has more than one element, or (in the forward pass) the branch changes the shape.
    """

    def __init__(self, branch: nn.Module, alpha: nn.Parameter | None = None) -> None:
        like = next((p for p in branch.parameters() if p.is_floating_point()), None)
        super().__init__(
            alpha, device=None if like is None else like.device, dtype=None if like is None else like.dtype
        )
        self.branch = branch

    def forward(self, x: Float[Tensor, "*shape"], *args: Any, **kwargs: Any) -> Any:
        """``x + alpha * branch(x, *args, **kwargs)``, of the shape of ``x`` (a tuple if the branch returns one)."""
        output = self.branch(x, *args, **kwargs)
        change, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
        if change.shape != x.shape:
            raise ValueError(
                f"branch maps {tuple(x.shape)} to {tuple(change.shape)}: a residual branch must keep the shape; "
                f"give a projection"
            )
        y = self.add(x, change)
        return y if rest is None else (y, *rest)

    def extra_repr(self) -> str:
        """The scalar's value."""
        return f"alpha={self.alpha.item():.4g}"


def alphas(model: nn.Module) -> dict[str, nn.Parameter]:
    """The residual scalars of a model by qualified name, in the order of definition; a shared one appears once."""
    found: dict[str, nn.Parameter] = {}
    seen: set[nn.Parameter] = set()
    for name, module in model.named_modules():
        if isinstance(module, ReZeroModule) and module.alpha not in seen:
            seen.add(module.alpha)
            found[f"{name}.alpha" if name else "alpha"] = module.alpha
    return found


def parameter_groups(
    model: nn.Module, lr: float, *, lr_scale: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Optimizer groups that put the residual scalars apart.

    Weight decay would hold the scalars at zero, where they start; the paper's convolutional networks give them a
    learning rate of their own (0.1) and no decay. Use as ``torch.optim.AdamW(parameter_groups(model, lr=1e-3),
    weight_decay=0.01)``.

    Args:
        model: a model with at least one `ReZeroModule`.
        lr: learning rate of all other parameters.
        lr_scale: the scalars' learning rate as a multiple of ``lr``.
        weight_decay: of the scalars; the other parameters keep the optimizer's.

    Returns:
        Two groups: all other parameters, then the scalars.

    Raises:
        ValueError: the model has no residual scalar, or ``lr`` or ``lr_scale`` is negative.
    """
    if lr < 0 or lr_scale < 0:
        raise ValueError(f"lr and lr_scale must not be negative, not {lr} and {lr_scale}")
    scalars = list(alphas(model).values())
    if not scalars:
        raise ValueError(f"{type(model).__name__} has no ReZero module, so there is no alpha to put apart")
    chosen = set(scalars)
    return [
        {"params": [p for p in model.parameters() if p not in chosen], "lr": lr},
        {"params": scalars, "lr": lr * lr_scale, "weight_decay": weight_decay},
    ]
