"""Adam-v2: structures told apart at all scales, wholes composed of their parts, parts found in their wholes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from neurarium.objectives.part_whole._composition import (
    ComposeHead,
    DecomposeHead,
    composition_loss,
    decomposition_loss,
    stacked,
)
from neurarium.objectives.part_whole._self_distillation import PrototypeHead, SelfDistillation
from neurarium.objectives.part_whole._views import PartWholeBatch
from neurarium.objectives.views._contrastive import MomentumEncoder, cosine_momentum
from neurarium.objectives.views._omni_supervised import features_of


@dataclass(frozen=True)
class PartWholeLosses:
    """The three parts of the objective, with their graphs.

    Args:
        localizability: cross-entropy of the student's prototypes.
        composability: between wholes and what is composed of their parts.
        decomposability: between parts and what is found in their wholes.
    """

    localizability: Tensor
    composability: Tensor
    decomposability: Tensor


class PartWholeObjective(nn.Module):
    """Self-supervision by localizability, composability and decomposability (Hosseinzadeh Taher et al., 2024).

    For images in which things have their places: scans, aligned objects. A student and its slow copy, the teacher, see
    the views of `PartWholeViews`; whatever comes after takes the teacher's backbone, `encoder`::

        views, steps = PartWholeViews(64, 32, margin=0), 1000
        objective = PartWholeObjective(backbone, 256, prototypes=1024, warm_up_steps=600, total_steps=steps)
        for step, (x, _) in enumerate(loader):
            loss = objective(views(x, coarse_to_fine(step, (300, 400, 300))))
            loss.backward(); optimizer.step(); optimizer.zero_grad()

    In training mode each forward pass first moves the teacher by one step. Views of one size pass the backbone at once.

    Args:
        backbone: the network, of your own make.
        feature_dim: width of its features.
        num_parts: P.
        prototypes: K.
        layer: what is a feature: the output of the submodule of this name, flattened; the backbone's own by default.
        weights: of localizability, composability and decomposability.
        hidden_dim: of the prototypes' head.
        bottleneck_dim: of the same.
        joint: how decomposed parts are normalised, see `decomposition_loss`.
        momentum: of the teacher, at the beginning.
        total_steps: over which it rises to 1 along half a cosine; None for no rise.
        warm_up_steps: at the beginning with localizability alone.
        frozen_steps: at the beginning in which the prototypes stay where they are.
        student_temperature: of `SelfDistillation`.
        teacher_temperature: of the same.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_dim: int,
        num_parts: int = 4,
        prototypes: int = 65536,
        *,
        layer: str = "",
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        joint: bool = True,
        momentum: float = 0.996,
        total_steps: int | None = None,
        warm_up_steps: int = 0,
        frozen_steps: int = 0,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
    ) -> None:
        super().__init__()
        if min(feature_dim, num_parts, prototypes, hidden_dim, bottleneck_dim, total_steps or 1) < 1:
            raise ValueError("feature_dim, num_parts, prototypes, widths and total_steps must be at least 1")
        if min(weights) < 0 or not 0 <= momentum <= 1 or min(warm_up_steps, frozen_steps) < 0:
            raise ValueError("weights and steps must not be negative, and momentum from 0 to 1")
        self.backbone, self.layer, self.feature_dim = backbone, layer, feature_dim
        self.num_parts, self.weights, self.joint = num_parts, weights, joint
        self.momentum, self.total_steps = momentum, total_steps
        self.warm_up_steps, self.frozen_steps = warm_up_steps, frozen_steps
        self.head = PrototypeHead(feature_dim, prototypes, hidden_dim, bottleneck_dim)
        self.compose, self.decompose = ComposeHead(feature_dim, num_parts), DecomposeHead(feature_dim, num_parts)
        self.distillation = SelfDistillation(prototypes, student_temperature, teacher_temperature)
        self.teacher = MomentumEncoder(nn.ModuleDict({"backbone": backbone, "head": self.head}))
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.last: dict[str, Tensor] = {}
        """The parts of the last loss, unweighted and without a graph."""

    @property
    def encoder(self) -> nn.Module:
        """The teacher's backbone: what to use afterwards."""
        found: nn.Module = self.teacher.module["backbone"]  # type: ignore[index]
        return found

    def features(self, x: Shaped[Tensor, batch * shape]) -> Float[Tensor, "batch features"]:
        """The teacher's, without a gradient."""
        with torch.no_grad():
            return self._embedded(self.encoder, x)

    def _embedded(self, backbone: nn.Module, x: Tensor) -> Tensor:
        found = features_of(backbone, x, self.layer)
        if found.shape[1] != self.feature_dim:
            raise ValueError(
                f"the backbone gives {found.shape[1]} features per example, but feature_dim is {self.feature_dim}"
            )
        return found

    def losses(self, views: PartWholeBatch) -> PartWholeLosses:
        """The three parts; those without a weight, or still to come, are 0. The teacher stays where it is.

        Raises:
            ValueError: another number of parts than ``num_parts``, or features of another width than ``feature_dim``.
        """
        if len(views.parts) != self.num_parts:
            raise ValueError(f"views must have {self.num_parts} parts, not {len(views.parts)}")
        step = int(self.steps)
        with_parts = max(self.weights[1:]) > 0 and step >= self.warm_up_steps
        large = [views.centered, *([views.anchor, *views.parts] if with_parts else [])]
        seen = self._embedded(self.backbone, torch.cat(large))
        centered, rest = seen[: len(views.anchor)], seen[len(views.anchor) :]
        localized = [centered]
        if len(views.local):
            localized += self._embedded(self.backbone, views.local.flatten(0, 1)).chunk(len(views.local))
        taught = self.features(torch.cat([views.anchor, *(views.parts if with_parts else [])]))
        whole, parts = taught[: len(views.anchor)], taught[len(views.anchor) :]
        with torch.no_grad():
            target = self.teacher.module["head"](whole)  # type: ignore[index]
        scores = self.head(torch.cat(localized), frozen=step < self.frozen_steps)
        localizability = self.distillation(scores.unflatten(0, (len(localized), -1)), target)
        if not with_parts:
            return PartWholeLosses(localizability, seen.new_zeros(()), seen.new_zeros(()))
        own_whole, own_parts = rest[: len(views.anchor)], stacked(rest[len(views.anchor) :], self.num_parts)
        return PartWholeLosses(
            localizability,
            composition_loss(self.compose(own_parts), whole),
            decomposition_loss(self.decompose(own_whole), stacked(parts, self.num_parts), self.joint),
        )

    def forward(self, views: PartWholeBatch) -> Float[Tensor, ""]:
        """The weighted sum of the three parts."""
        if self.training:
            self.follow()
        found = self.losses(views)
        parts = (found.localizability, found.composability, found.decomposability)
        names = ("localizability", "composability", "decomposability")
        self.last = {name: part.detach() for name, part in zip(names, parts, strict=True)}
        if self.training:
            self.steps += 1
        return torch.stack([w * part for w, part in zip(self.weights, parts, strict=True)]).sum()

    def follow(self) -> None:
        """Move the teacher by one step of its schedule."""
        momentum = self.momentum
        if self.total_steps is not None:
            momentum = cosine_momentum(min(int(self.steps), self.total_steps), self.total_steps, self.momentum)
        self.teacher.update(nn.ModuleDict({"backbone": self.backbone, "head": self.head}), momentum)
