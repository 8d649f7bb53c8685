"""Constraints on parameters: any function that must not be positive, and row sums of a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurarium.objectives import echo_state_bound

GATED = (nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell)


class Inequality:
    """``fn() <= 0`` in every entry.

    Args:
        fn: a differentiable function of parameters, ``fn() -> tensor``, one entry for each constraint; an entry of
            -inf never binds.
    """

    def __init__(self, fn: Callable[[], Tensor]) -> None:
        self.fn = fn

    def __call__(self) -> Tensor:
        """By how much each constraint is violated, as a vector; negative where it holds with room to spare."""
        return self.fn().reshape(-1)

    @torch.no_grad()
    def slack(self) -> float:
        """Room to the nearest constraint; negative where one is violated."""
        return -float(self().max())


class MaxRowSum(Inequality):
    """``sum_j |W_ij| <= bound`` for every row i, which is a bound on the infinity norm of W.

    Args:
        parameter: W, a matrix; more than two dimensions are flattened behind the first.
        bound: of each row's sum; `math.inf` constrains nothing.

    Raises:
        ValueError: ``bound`` is not positive, the parameter has fewer than two dimensions, or it takes no gradient.
    """

    def __init__(self, parameter: Tensor, bound: float) -> None:
        if not bound > 0:
            raise ValueError(f"bound must be positive, not {bound}")
        if parameter.dim() < 2:
            raise ValueError(f"parameter must be a matrix, but its shape is {tuple(parameter.shape)}")
        if not parameter.requires_grad:
            raise ValueError("parameter takes no gradient (requires_grad is False), so a constraint cannot move it")
        self.parameter, self.bound = parameter, float(bound)
        super().__init__(lambda: self.parameter.flatten(1).abs().sum(1) - self.bound)

    @torch.no_grad()
    def ratio(self) -> float:
        """Infinity norm of W over the bound."""
        return float(self.parameter.flatten(1).abs().sum(1).max()) / self.bound

    @torch.no_grad()
    def project_(self) -> int:
        """Move each violating row to the nearest point of the L1 ball; the others stay as they are to the last bit.

        Returns:
            How many rows were moved.
        """
        rows = self.parameter.flatten(1)
        violating = (self() > 0).nonzero().squeeze(1)
        if len(violating) == 0 or math.isinf(self.bound):
            return 0
        magnitude = rows[violating].abs()
        ordered = magnitude.sort(1, descending=True).values
        excess = ordered.cumsum(1) - self.bound
        count = torch.arange(1, ordered.shape[1] + 1, device=rows.device)
        last = (ordered * count > excess).sum(1, keepdim=True)  # how many entries stay above the threshold
        threshold = excess.gather(1, last - 1) / last
        moved = (magnitude - threshold).clamp_min(0) * rows[violating].sign()
        self.parameter[violating] = moved.view(-1, *self.parameter.shape[1:])
        return len(violating)


def echo_state_constraints(
    module: nn.Module, *, gamma: float | None = None, margin: float = 0.0
) -> dict[str, MaxRowSum]:
    """A row-sum constraint for every recurrent matrix in a module, at the bound of its activation.

    Found are `nn.RNN` and its kin (one matrix for each layer and direction), `nn.RNNCell`, and any module with an
    ``activation`` name and matrices called ``weight_hh...``. In a stack each layer forgets its start if every recurrent
    matrix keeps its bound.

    Args:
        module: a network.
        gamma: largest slope of the activation, for one that `echo_state_bound` does not know.
        margin: share by which the bounds are lowered.

    Returns:
        Constraint by the parameter's name.

    Raises:
        TypeError: a gated layer (GRU, LSTM).
        ValueError: an unknown activation, or no recurrent matrix at all.
    """
    found: dict[str, MaxRowSum] = {}
    for path, part in module.named_modules():
        if isinstance(part, GATED):
            raise TypeError(
                f"{path or 'the module'} is an {type(part).__name__}: its gates multiply states, so a row-sum bound on "
                "one matrix does not make it forget; constrain plain recurrent layers"
            )
        activation = getattr(part, "activation", None) or getattr(part, "nonlinearity", None)
        if not isinstance(activation, str):
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if name.startswith("weight_hh"):
                bound = echo_state_bound(activation, gamma=gamma, margin=margin)
                found[f"{path}.{name}" if path else name] = MaxRowSum(parameter, bound)
    if not found:
        raise ValueError("no recurrent matrix found: the module holds no nn.RNN, nn.RNNCell or weight_hh parameter")
    return found
