"""Searches for a small architecture, layer by layer: which layers to remove, then how far to shrink the rest."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.models import Layer, describe, remove_layers, reset, shrink, trace_architecture
from neurarium.search._reward import student_reward, tolerance
from neurarium.search.policy_gradient._policies import RemovalPolicy, ShrinkPolicy
from neurarium.search.policy_gradient._reinforce import Reinforce

Policy = RemovalPolicy | ShrinkPolicy


@dataclass(eq=False)
class Candidate:
    """An architecture that a search asks about.

    Args:
        actions: the policy's.
        model: with new weights, to be trained; None if the architecture cannot exist.
        parameters: of the model.
        accuracy: where this architecture has been tried already; then nothing need be trained.
        reward: once it has been told.
        problem: why there is no model.
        key: equal for candidates of one architecture.
    """

    actions: Tensor = field(repr=False)
    model: nn.Module | None = field(default=None, repr=False)
    parameters: int = 0
    accuracy: float | None = None
    reward: float | None = None
    problem: str = ""
    key: Hashable = None

    @property
    def score(self) -> float:
        """The reward; -1 before it has been told."""
        return -1.0 if self.reward is None else self.reward


class ArchitectureSearch:
    """Ask for candidates, tell their accuracy; after so many the policy learns from them.

    Args:
        base: the network that is edited.
        example: an input of it.
        teacher_accuracy: on the examples that candidates are judged on.
        policy: of the kind that the search needs; its own by default. Pass one that has been trained on another
            network to transfer it.
        teacher_parameters: to which candidates are compared; those of the base by default.
        max_parameters: a hard constraint, forgiven less and less over the first 15 updates.
        clip_accuracy: reward a student that is better than the teacher as if it were as good.
        students_per_update: candidates per update of the policy.
        lr: Adam's rate for the policy; 0 makes the search random.
        credit: of `Reinforce`.
        generator: source of the actions.

    Raises:
        ValueError: an argument out of range, or nothing to edit.
    """

    def __init__(
        self,
        base: nn.Module,
        example: Any,
        teacher_accuracy: float,
        *,
        policy: Policy | None = None,
        teacher_parameters: int | None = None,
        max_parameters: int | None = None,
        clip_accuracy: bool = False,
        students_per_update: int = 5,
        lr: float = 3e-3,
        credit: str = "rollout",
        generator: torch.Generator | None = None,
    ) -> None:
        if students_per_update < 1:
            raise ValueError(f"students_per_update must be at least 1, not {students_per_update}")
        if not 0 < teacher_accuracy <= 1:
            raise ValueError(f"teacher_accuracy must lie in (0, 1], not {teacher_accuracy}")
        self.base, self.example, self.teacher_accuracy = base, example, teacher_accuracy
        self.layers = describe(base, example)
        self.inputs = self._features()
        self.policy: Policy = policy if policy is not None else self._policy()
        self.teacher_parameters = teacher_parameters or sum(p.numel() for p in base.parameters())
        self.max_parameters, self.students_per_update = max_parameters, students_per_update
        self.clip_accuracy, self.generator = clip_accuracy, generator
        self.reinforce = Reinforce(list(self.policy.parameters()), lr, credit=credit)
        self.known: dict[Hashable, float] = {}
        self.history: list[Candidate] = []
        self.rewards: list[float] = []
        self._waiting: list[Candidate] = []

    def ask(self) -> Candidate:
        """A candidate drawn by the policy. Train its model, unless there is none or its accuracy is known."""
        actions = self.policy.sample(self.inputs, self.generator)
        try:
            model = self.build(actions)
        except ValueError as error:
            return Candidate(actions, problem=str(error))
        parameters = sum(p.numel() for p in model.parameters())
        if parameters >= self.teacher_parameters:
            return Candidate(actions, problem=f"it has {parameters:,} parameters, no fewer than the teacher")
        key = self.key(actions)
        return Candidate(actions, model, parameters, self.known.get(key), key=key)

    def tell(self, candidate: Candidate, accuracy: float | None = None) -> float:
        """Give a candidate its accuracy and so its reward; -1 for one without a model.

        Args:
            candidate: of `ask`.
            accuracy: on held-out examples; may be left out where it is known or there is no model.

        Raises:
            ValueError: the accuracy is missing or not a share.
        """
        accuracy = candidate.accuracy if accuracy is None else accuracy
        candidate.reward = -1.0
        if candidate.model is not None:
            if accuracy is None or not 0 <= accuracy <= 1:
                raise ValueError(f"accuracy must be a number between 0 and 1, not {accuracy}")
            candidate.accuracy = self.known[candidate.key] = accuracy
            candidate.reward = student_reward(
                accuracy, self.teacher_accuracy, 1 - candidate.parameters / self.teacher_parameters,
                violated=self.violates(candidate), forgiven=tolerance(len(self.rewards)), clipped=self.clip_accuracy,
            )  # fmt: skip
        self.history.append(candidate)
        self._waiting.append(candidate)
        if len(self._waiting) == self.students_per_update:
            log_probs = torch.stack([self.log_prob(told.actions) for told in self._waiting])
            given = [told.reward for told in self._waiting if told.reward is not None]
            self.rewards.append(self.reinforce.update(log_probs, given))
            self._waiting.clear()
        return candidate.reward

    def best(self) -> Candidate:
        """The candidate of the highest reward that breaks no constraint.

        Raises:
            ValueError: there is none.
        """
        valid = [c for c in self.history if c.model is not None and not self.violates(c)]
        if not valid:
            raise ValueError("no candidate was smaller than the teacher and within the constraint; search on")
        return max(valid, key=lambda candidate: candidate.score)

    def violates(self, candidate: Candidate) -> bool:
        """Whether a candidate is over the budget."""
        return self.max_parameters is not None and candidate.parameters > self.max_parameters

    def build(self, actions: Tensor) -> nn.Module:
        """The architecture of some actions, with new weights.

        Raises:
            ValueError: it cannot exist.
        """
        raise TypeError("use LayerRemovalSearch or LayerShrinkSearch")

    def key(self, actions: Tensor) -> Hashable:
        """What tells the architecture of some actions from others."""
        raise TypeError("use LayerRemovalSearch or LayerShrinkSearch")

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of a candidate's free actions, with a graph."""
        return self.policy.log_prob(self.inputs, actions).sum()

    def _features(self) -> Tensor:
        raise TypeError("use LayerRemovalSearch or LayerShrinkSearch")

    def _policy(self) -> Policy:
        raise TypeError("use LayerRemovalSearch or LayerShrinkSearch")


class LayerRemovalSearch(ArchitectureSearch):
    """Stage 1 of N2N: an action per layer, remove (0) or keep (1). See `ArchitectureSearch` for the arguments."""

    def _features(self) -> Tensor:
        self.free = torch.tensor([layer.removable for layer in self.layers])
        if not bool(self.free.any()):
            raise ValueError("the model has no layer that can be removed")
        return scale(self.layers)

    def _policy(self) -> RemovalPolicy:
        return RemovalPolicy()

    def build(self, actions: Tensor) -> nn.Module:
        """The base without the layers whose action is 0."""
        return reset(remove_layers(self.base, self.example, self.key(actions)))

    def key(self, actions: Tensor) -> tuple[str, ...]:
        """The layers that are left out."""
        return tuple(layer.name for layer, action in zip(self.layers, actions) if layer.removable and not action)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Layers that are always kept have no say."""
        return self.policy.log_prob(self.inputs, actions)[self.free].sum()


class LayerShrinkSearch(ArchitectureSearch):
    """Stage 2 of N2N: a factor for the units of every group and for every kernel. See `ArchitectureSearch`.

    Groups are units that must have one size, such as the channels that a residual add joins.
    """

    def _features(self) -> Tensor:
        self.architecture = trace_architecture(self.base, self.example)
        self.dimensions: list[tuple[int | None, Layer]] = []  # a group's units, or a layer's kernel
        seen: set[int] = set()
        for layer in self.layers:
            if layer.kind == "convolution" and layer.kernel > 1:
                self.dimensions.append((None, layer))
            group = self.architecture.group_of(layer.name)
            if group is not None and group.index not in seen:
                seen.add(group.index)
                self.dimensions.append((group.index, layer))
        kinds = torch.tensor([[float(group is None)] for group, _ in self.dimensions])
        return torch.cat([scale([layer for _, layer in self.dimensions]), kinds], 1)

    def _policy(self) -> ShrinkPolicy:
        return ShrinkPolicy()

    def build(self, actions: Tensor) -> nn.Module:
        """The base with each size multiplied by its factor and rounded, at least 1."""
        units, kernels = self.key(actions)
        return reset(shrink(self.base, self.example, self.architecture, dict(units), dict(kernels)))

    def key(self, actions: Tensor) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[str, int], ...]]:
        """Units per group, and sides of kernels by layer."""
        units, kernels = {}, {}
        for (group, layer), factor in zip(self.dimensions, self.policy.get_buffer("factors")[actions].tolist()):
            if group is not None:
                found = self.architecture.groups[group]
                units[group] = max(round(factor * found.size / found.multiple), 1) * found.multiple
            elif factor < 1:
                kernels[layer.name] = same_parity(round(factor * layer.kernel), layer.kernel)
        return tuple(units.items()), tuple(kernels.items())

    def smallest(self) -> int:
        """Parameters of the smallest candidate that can be asked for."""
        actions = torch.full((len(self.dimensions),), int(self.policy.get_buffer("factors").argmin()))
        return sum(p.numel() for p in self.build(actions).parameters())


def same_parity(side: int, kernel: int) -> int:
    """A kernel's side, at least 1, that differs by an even number, so that padding keeps the map's size."""
    return max(side - (kernel - side) % 2, 2 - kernel % 2)


def scale(layers: Sequence[Layer]) -> Tensor:
    """Descriptions of layers, each feature divided by its maximum [layers, features]."""
    table = torch.tensor([layer.features for layer in layers])
    return table / table.amax(0).clamp_min(1)
