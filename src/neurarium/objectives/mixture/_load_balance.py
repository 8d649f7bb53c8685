"""The penalty that keeps a router from sending all tokens to a few experts."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def load_balance(model: nn.Module) -> Float[Tensor, ""]:
    """Sum over all mixtures of ``balance · n Σ_e f_e P_e`` (Fedus et al. 2021), for the tokens of the last pass.

    ``f_e`` is the share of choices that fell on expert e and ``P_e`` its mean probability: the sum is 1 where all are
    used alike and n where one is. The gradient reaches the routers alone: ``fit(..., penalties=[lambda:
    load_balance(model)])``, or add it to your loss.

    Args:
        model: any network with `MixtureOfExperts` whose ``balance`` is above 0, after a pass in training mode.

    Raises:
        ValueError: there is no such layer.
    """
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "penalty") and getattr(m, "balance", None)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no mixture of experts with a balance above 0")
    return torch.stack([layer.penalty() for layer in layers]).sum()
