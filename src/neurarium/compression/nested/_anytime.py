"""An ensemble whose members are asked one after another, for as long as there is time or doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.compression._account import account
from neurarium.layers import MambaBlock


class AnytimeEnsemble(nn.Module):
    """F_m(x) = sum of the first m members' logits, each times its weight.

    Args:
        members: from cheap to dear; each gives logits.
        weights: one per member.
        flops: operations of each for one input.
        connected: every member's head also reads the features of the one before: members then have ``features(x)`` and
            ``head``.
    """

    weights: Tensor
    flops: Tensor

    def __init__(
        self, members: Sequence[nn.Module], weights: Sequence[float], flops: Sequence[int], connected: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.connected = connected
        self.register_buffer("weights", torch.tensor(list(weights), dtype=torch.float32))
        self.register_buffer("flops", torch.tensor(list(flops), dtype=torch.int64))

    def outputs(self, x: Tensor, members: int | None = None) -> list[Tensor]:
        """Logits of each of the first members."""
        found: list[Tensor] = []
        before: Tensor | None = None
        for member in list(self.members)[:members]:
            if not self.connected:
                found.append(member(x))
                continue
            own = member.features(x)  # type: ignore[operator]
            found.append(member.head(own if before is None else torch.cat([own, before], 1)))  # type: ignore[operator]
            before = own
        return found

    def forward(self, x: Tensor, members: int | None = None) -> Tensor:
        """Logits of the first ``members``, by default of all.

        Raises:
            ValueError: no members, or more than there are.
        """
        if members is not None and not 1 <= members <= len(self.members):
            raise ValueError(f"members must be between 1 and {len(self.members)}, not {members}")
        total = torch.zeros(())
        for weight, logits in zip(self.weights, self.outputs(x, members)):
            total = total + weight * logits
        return total

    @torch.no_grad()
    def predict(
        self, x: Tensor, *, flop_budget: float | None = None, confidence: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Classes, and how many members each input took.

        Args:
            x: inputs.
            flop_budget: ask no member that would exceed so many operations per input.
            confidence: an input is done once its largest probability exceeds this.

        Raises:
            ValueError: the budget does not allow the first member.
        """
        allowed = len(self.members)
        if flop_budget is not None:
            allowed = int((self.flops.cumsum(0) <= flop_budget).sum())
            if allowed == 0:
                raise ValueError(
                    f"the first member takes {int(self.flops[0]):,} operations, more than {flop_budget:,.0f}"
                )
        logits = x.new_zeros(len(x), 0)
        used = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        active = torch.arange(len(x), device=x.device)
        before: Tensor | None = None
        for number in range(allowed):
            member: Any = self.members[number]
            if self.connected:
                own = member.features(x[active])
                out = member.head(own if before is None else torch.cat([own, before], 1))
            else:
                own, out = x[active], member(x[active])
            if number == 0:
                logits = out.new_zeros(len(x), out.shape[1])
            logits[active] += self.weights[number] * out
            used[active] += 1
            if confidence is not None:
                doubtful = logits[active].softmax(1).amax(1) <= confidence
                active, own = active[doubtful], own[doubtful]
            before = own
            if not len(active):
                break
        return logits.argmax(1), used


def operations(model: nn.Module, example: Tensor) -> int:
    """Operations of a forward pass: products and convolutions, and the recurrences of Mamba blocks.

    Args:
        model: any module.
        example: a batch; the count is that of all of it.
    """
    extra: list[int] = []
    handles = [
        module.register_forward_hook(
            lambda block, arguments, _: extra.append(block.scan_flops(arguments[0].shape[0] * arguments[0].shape[1]))
        )
        for module in model.modules()
        if isinstance(module, MambaBlock)
    ]
    try:
        counted = account(model, example).flops
    finally:
        for handle in handles:
            handle.remove()
    return counted + sum(extra)
