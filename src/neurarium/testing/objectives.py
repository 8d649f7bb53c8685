"""The contract of losses and penalties."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.objectives import InputTransforms
from neurarium.testing.contract import require, same, seeded


def aligned_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log-probabilities [12, 3, 5], targets, input lengths and target lengths, as `torch.nn.CTCLoss` takes them."""
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(12, 3, 5, generator=generator).log_softmax(-1)
    targets = torch.randint(1, 5, (3, 3), generator=generator)
    return log_probs, targets, torch.tensor([12, 11, 9]), torch.tensor([3, 2, 1])


def check_sequence_loss(loss_class: type[nn.Module]) -> None:
    """Hold a loss with `torch.nn.CTCLoss`'s arguments to torch's conventions.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    require("reduction" in inspect.signature(loss_class).parameters, loss_class, "must take `reduction`")
    log_probs, *rest = aligned_batch()
    each = loss_class(reduction="none")(log_probs, *rest)
    require(each.shape == (3,), loss_class, "must give one loss per example with reduction='none'")
    total = loss_class(reduction="sum")(log_probs, *rest)
    require(torch.allclose(total, each.sum()), loss_class, "must add up with reduction='sum'")
    x = log_probs.clone().requires_grad_()
    mean = loss_class()(x, *rest)
    require(mean.dim() == 0, loss_class, "must give a scalar by default")
    mean.backward()
    require(x.grad is not None and bool(torch.isfinite(x.grad).all()), loss_class, "must have finite gradients")
    padding = x.grad[11:, 1].abs().sum() + x.grad[9:, 2].abs().sum() if x.grad is not None else torch.ones(())
    require(float(padding) == 0, loss_class, "must give padding no gradient")
    try:
        loss_class(reduction="median")
    except ValueError as refusal:
        require("reduction" in str(refusal), loss_class, "must name `reduction` in its refusal")
    except TypeError:
        return
    else:
        require(False, loss_class, "must refuse an unknown reduction")


def check_penalty(penalty_class: type[nn.Module]) -> None:
    """Hold a penalty on named parameters to the contract: ``penalty(dict(model.named_parameters())) -> scalar``.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    model = seeded(0, lambda: nn.Linear(3, 2))
    penalty = penalty_class()
    value = penalty(dict(model.named_parameters()))
    require(value.dim() == 0 and float(value) == 0, penalty_class, "must start as a scalar 0")
    fresh = penalty_class()
    fresh.load_state_dict(penalty.state_dict())
    require(same(value, fresh(dict(model.named_parameters()))), penalty_class, "must survive its state_dict")


ARGUMENTS: dict[str, Any] = {
    "transform": InputTransforms(), "class_counts": (40, 20, 5), "start": 0, "num_classes": 3, "feature_dim": 8,
    "strength": 0.1, "examples": 60,
}  # fmt: skip
"""What a required argument of a loss or penalty is filled with, by its conventional name."""


def check_classification_loss(loss_class: type[nn.Module]) -> None:
    """Hold a loss on logits, or a penalty on features, to the contract: ``loss(outputs, target) -> scalar``.

    It gives a finite scalar with a gradient for what it is given (and none for the labels), in float32, bfloat16 and
    float64, with int32 labels and with one class only; it survives `copy.deepcopy` and its ``state_dict``.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    required = [
        name for name, p in inspect.signature(loss_class).parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    unknown = next((name for name in required if name not in ARGUMENTS), None)
    require(
        unknown is None, loss_class,
        f"must use conventional argument names; {unknown!r} is not in neurarium.testing.objectives.ARGUMENTS",
    )  # fmt: skip
    filled = {name: ARGUMENTS[name] for name in required}
    loss = seeded(0, lambda: loss_class(**filled)).eval()
    width = 8 if next(iter(inspect.signature(loss.forward).parameters)) == "features" else 3
    x = torch.randn(6, width, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        given = x.to(dtype, copy=True).requires_grad_()
        value = loss(given, y)
        require(value.dim() == 0 and bool(value.isfinite()), loss_class, f"must give a finite scalar in {dtype}")
        value.backward()
        require(
            given.grad is not None and bool(given.grad.isfinite().all()), loss_class,
            f"must pass finite gradients to its input in {dtype}",
        )  # fmt: skip
    value = loss(x, y)
    require(torch.allclose(value, loss(x, y.int())), loss_class, "must take int32 labels")
    require(bool(loss(x, torch.zeros_like(y)).isfinite()), loss_class, "must take a batch of one class")
    require(same(value, copy.deepcopy(loss)(x, y)), loss_class, "must survive copy.deepcopy")
    other = seeded(1, lambda: loss_class(**filled)).eval()
    other.load_state_dict(loss.state_dict())
    require(same(value, other(x, y)), loss_class, "must hold all it needs in its state_dict")


def takes(loss_class: type[nn.Module]) -> str:
    """Name of the first argument of ``forward``: parameters, features, logits ..."""
    return list(inspect.signature(loss_class.forward).parameters)[1]


def check_model_penalty(penalty_class: type[nn.Module]) -> None:
    """Hold a penalty on a model's behaviour to the contract: ``penalty(model, x) -> scalar`` that trains the model.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    model = seeded(0, lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    penalty = penalty_class(monotonicity=(1, -1, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    value = penalty(model, x)
    require(value.dim() == 0 and float(value.detach()) >= 0, penalty_class, "must be a scalar that is not negative")
    value.backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    require(any(bool(g.abs().sum() > 0) for g in found), penalty_class, "must give the model's parameters a gradient")
    kept = all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    require(kept and not x.requires_grad, penalty_class, "must leave the model and the inputs as they were")
