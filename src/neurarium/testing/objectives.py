"""The contract of losses and penalties."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

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
