"""Adaptive feedback alignment: direct feedback alignment whose matrices are the weights times a fixed one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import jvp

from neurarium.learning.feedback._input_feedback import _DROPOUTS, InputFeedback, applied


class AdaptiveFeedbackAlignment(InputFeedback):
    """PEPITA to first order in the feedback: the error reaches layer l as −J_l F e, J_l the forward Jacobian.

    (Srinivasan et al., 2024, section 3.) δh_0 = F e, δh_l = f'(z_l) ⊙ W_l δh_{l−1}; ``.grad`` receives the batch mean
    of −δh_l h_{l−1}ᵀ in hidden layers and of e h_{L−1}ᵀ in the last. With one hidden layer this is direct feedback
    alignment with B = −W_1 F, which moves with W_1. Takes the arguments of `Pepita` that concern the feedback; costs
    one forward pass and one of tangents.
    """

    slug: ClassVar[str] = "adaptive-feedback-alignment"
    learning_rate: ClassVar[float] = 1e-3

    @torch.no_grad()
    def assign_credit(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the updates of every layer; returns the detached loss."""
        masks: list[Tensor] = []
        outputs = [output for _, output, _ in self.chain.walk(x, masks)]
        loss, e = self.error(outputs[-1], y)
        for i, (below, told) in enumerate(self._told(x, e, outputs, masks)):
            self.add(i, told, below)
        return loss

    @torch.no_grad()
    def signals(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """−δh_l by the name of the hidden layer at whose output it stands for the gradient (`alignment`)."""
        masks: list[Tensor] = []
        outputs = [output for _, output, _ in self.chain.walk(x, masks)]
        e = self.error(outputs[-1], y)[1]
        names = [stage.name for stage in self.chain.stages]
        told = {name: signal for name, (_, signal) in zip(names, self._told(x, e, outputs, masks), strict=True)}
        del told[names[-1]]
        return told

    def _told(
        self, x: Tensor, e: Tensor, outputs: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What enters each layer, with −δh_l in hidden layers and with e in the last one."""
        given = iter(masks)

        def through(module: nn.Module, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            if isinstance(module, _DROPOUTS):
                if not module.training:
                    return z, t
                mask = next(given)
                return z * mask, t * mask
            if type(module) is nn.ReLU:
                return z.clamp(min=0), t * (z > 0)
            pair: Any = jvp(module, (z.clone() if getattr(module, "inplace", False) else z,), (t,))
            return pair

        z, tangent = x, self.projected(e, x)
        for module in self.chain.stem:
            z, tangent = through(module, z, tangent)
        for i, stage in enumerate(self.chain.stages[:-1]):
            layer: Any = stage.layer
            below, z = z, outputs[i]
            entering = self.entering(e) if i == 0 else None
            tangent = applied(layer, tangent, layer.weight, None) if entering is None else entering
            kept = tangent
            for module in stage.behind:
                z, tangent = through(module, z, tangent)
                kept = tangent if tangent.shape == kept.shape else kept
            yield below, -kept
        yield z, e
