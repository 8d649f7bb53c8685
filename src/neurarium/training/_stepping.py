"""Acting on an optimizer's steps: on gradients when they are whole, on weights when they have moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Optimizer = torch.optim.Optimizer


class Handle:
    """What ``attach(optimizer)`` returns: `remove`, or the end of a ``with`` block, ends the attachment.

    Args:
        undo: called once each, the last one first.
    """

    def __init__(self, *undo: Callable[[], object]) -> None:
        self._undo = list(undo)

    @property
    def attached(self) -> bool:
        """Whether there is still something to remove."""
        return bool(self._undo)

    def add(self, undo: Callable[[], object]) -> None:
        """One thing more to undo at the end."""
        self._undo.append(undo)

    def remove(self) -> None:
        """Take everything off again; a second time it does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer of torch's inside a wrapper that has no hooks of its own (Hugging Face's accelerate has such).

    Raises:
        TypeError: there is none.
    """
    inner = optimizer
    while not hasattr(inner, "_optimizer_step_pre_hooks") and hasattr(inner, "optimizer"):
        inner = inner.optimizer
    if not isinstance(inner, Optimizer):
        raise TypeError(f"optimizer must be one of torch's or hold one, not {type(optimizer).__name__}")
    return inner


def on_step(
    optimizer: Any,
    before: Callable[[Optimizer], object] | None = None,
    after: Callable[[Optimizer], object] | None = None,
) -> Handle:
    """Call ``before`` when the gradients of a step are whole, and ``after`` when the step was taken.

    The gradients are whole before the step, or, where the optimizer asks a closure for them, after each call of it.
    Fused optimizers under `torch.amp.GradScaler` get gradients that are still scaled: these are unscaled first, so that
    ``before`` always sees true ones. Where the scaler found an overflow no step is taken, and nothing is called.

    Args:
        optimizer: one of torch's, or a wrapper around one.
        before: may change ``.grad``.
        after: may change the parameters.

    Returns:
        A handle that ends it.
    """
    inner, handle = unwrap_optimizer(optimizer), Handle()
    if before is not None:
        handle.add(inner.register_step_pre_hook(_before(before)).remove)
    if after is not None:
        handle.add(inner.register_step_post_hook(_after(after)).remove)
    return handle


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that there are, in the order of the parameter groups."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _before(act: Callable[[Optimizer], object]) -> Callable[..., Any]:
    def pre(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # the first is the optimizer
        if closure is None:
            if not _overflowed(optimizer):
                _unscale(optimizer)
                act(optimizer)
            return None

        def whole() -> Any:
            loss = closure()
            act(optimizer)
            return loss

        return (args[0], whole, *args[2:]), {key: value for key, value in kwargs.items() if key != "closure"}

    return pre


def _after(act: Callable[[Optimizer], object]) -> Callable[..., None]:
    def post(optimizer: Optimizer, *_: Any) -> None:
        if not _overflowed(optimizer):
            act(optimizer)

    return post


def _overflowed(optimizer: Optimizer) -> bool:
    """Whether a gradient scaler has told the optimizer that this step is not to be taken."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


@torch.no_grad()
def _unscale(optimizer: Optimizer) -> None:
    """What a fused optimizer would do inside its kernel."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    for gradient in gradients_of(optimizer):
        gradient.div_(scale.to(gradient.device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]
