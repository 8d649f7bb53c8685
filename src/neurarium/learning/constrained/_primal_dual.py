"""Training under constraints: descent on the parameters, ascent on a multiplier for every constraint.

Chen & Deng (2013) train a recurrent network so, with the infinity norm of its recurrent matrix bounded; nothing in it
is particular to recurrent networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from neurarium.learning.constrained._inequality import Inequality, MaxRowSum
from neurarium.training import Handle, on_step


class PrimalDual(nn.Module):
    """The Lagrangian's second half, ``sum_i lambda_i c_i``, and the ascent of its multipliers.

    Each step descends the loss plus this penalty with any optimizer; after it, ``lambda_i <- max(0, lambda_i + dual_lr
    c_i)``. For row sums the penalty's gradient is ``lambda_i sign(W_ij)``: shrinkage as strong as each row needs.
    Multipliers start at 0 and are part of the state dict.

        constrained = PrimalDual(echo_state_constraints(model))
        constrained.attach(optimizer)                                 # the dual step follows every optimizer step
        fit(rule, loader, optimizer, penalties=(constrained,))        # or: (loss + constrained()).backward()

    Args:
        constraints: one, several, or a mapping with names (as `echo_state_constraints` gives); row-sum or general ones.
        dual_lr: step size of the ascent. Too large, and multipliers overshoot and crush the weights (slack far above 0
            with multipliers above 0); too small, and a violation lasts.
        project_every: project violating rows onto their bound every so many dual steps, as a safety; 0 for never, as in
            the paper.

    Raises:
        ValueError: no constraint, ``dual_lr`` not positive, or ``project_every`` negative or set for a constraint that
            cannot be projected onto.
    """

    def __init__(
        self,
        constraints: Inequality | Iterable[Inequality] | Mapping[str, Inequality],
        *,
        dual_lr: float = 1e-3,
        project_every: int = 0,
    ) -> None:
        super().__init__()
        if not dual_lr > 0:
            raise ValueError(f"dual_lr must be positive, not {dual_lr}")
        if isinstance(constraints, Inequality):
            constraints = [constraints]
        named = constraints if isinstance(constraints, Mapping) else {str(i): c for i, c in enumerate(constraints)}
        if not named:
            raise ValueError("constraints must hold at least one constraint")
        if project_every < 0 or (project_every and not all(isinstance(c, MaxRowSum) for c in named.values())):
            raise ValueError("project_every must not be negative, and needs row-sum constraints (MaxRowSum)")
        self.constraints = dict(named)
        self.dual_lr, self.project_every = dual_lr, project_every
        for i, constraint in enumerate(self.constraints.values()):
            self.register_buffer(f"multipliers_{i}", torch.zeros_like(constraint().detach()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.steps: Tensor

    @property
    def multipliers(self) -> dict[str, Tensor]:
        """lambda of each constraint, by name."""
        return {name: getattr(self, f"multipliers_{i}") for i, name in enumerate(self.constraints)}

    def penalty(self) -> Tensor:
        """``sum_i lambda_i c_i``, a scalar. Constraints whose multipliers are all 0 are left out, graph and all."""
        total: Tensor | None = None
        for multipliers, constraint in zip(self.multipliers.values(), self.constraints.values(), strict=True):
            if bool(multipliers.any()):
                violated = constraint().masked_fill(multipliers == 0, 0.0)  # 0 times -inf would not be 0
                term = torch.dot(multipliers, violated)
                total = term if total is None else total + term
        return total if total is not None else torch.zeros(())

    def forward(self) -> Tensor:
        """The penalty."""
        return self.penalty()

    @torch.no_grad()
    def dual_step(self) -> None:
        """Raise the multipliers of violated constraints, lower the others; after the optimizer's step."""
        self.steps += 1
        for multipliers, constraint in zip(self.multipliers.values(), self.constraints.values(), strict=True):
            multipliers.add_(constraint(), alpha=self.dual_lr).clamp_(min=0)
        if self.project_every and int(self.steps) % self.project_every == 0:
            for constraint in self.constraints.values():
                if isinstance(constraint, MaxRowSum):
                    constraint.project_()

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Take a dual step after every step of an optimizer; the handle's ``remove()`` ends it."""
        return on_step(optimizer, after=lambda _: self.dual_step())

    def slack(self) -> float:
        """Room to the nearest bound of all; negative where a constraint is violated."""
        return min(constraint.slack() for constraint in self.constraints.values())

    def active(self) -> float:
        """Share of constraints whose multiplier is above 0."""
        every = torch.cat(list(self.multipliers.values()))
        return float((every > 0).double().mean())
