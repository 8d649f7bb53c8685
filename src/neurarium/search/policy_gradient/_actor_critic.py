"""Architecture searches whose policies are judged by a learnt value instead of a moving mean of the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.search.policy_gradient._architecture_search import (
    ArchitectureSearch,
    Candidate,
    LayerRemovalSearch,
    LayerShrinkSearch,
)


class Critic(nn.Module):
    """V(s_t): the reward expected before an action, from the layers so far and the actions before it.

    It never sees the action that it is compared with, so it biases no gradient. It starts at the same value everywhere.

    Args:
        features: numbers that describe a layer.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
    """

    def __init__(self, features: int, hidden_size: int = 30, num_layers: int = 2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features + 1, hidden_size, num_layers)
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, layers: Float[Tensor, "layers features"], taken: Float[Tensor, "rollouts layers"]
    ) -> Float[Tensor, "rollouts layers"]:
        """Values before each action.

        Args:
            layers: their description.
            taken: what each rollout did to each of them, between 0 (least of it kept) and 1 (all).
        """
        before = torch.cat([torch.ones_like(taken[:, :1]), taken[:, :-1]], 1)
        inputs = torch.cat([layers[:, None].expand(-1, len(taken), -1), before.T[..., None]], -1)
        return self.head(self.lstm(inputs)[0]).squeeze(-1).T


class ActorCritic:
    """∇J ≈ 1/N Σ_n Σ_t (R_n - V(s_t)) ∇ log π(a_t), while V descends (R_n - V(s_t))².

    Args:
        actor: parameters of the policy.
        critic: parameters of V.
        lr: Adam's rate for the policy.
        critic_lr: Adam's rate for V.

    Raises:
        ValueError: a rate that is not positive.
    """

    def __init__(
        self, actor: Sequence[Tensor], critic: Sequence[Tensor], lr: float = 3e-3, critic_lr: float = 1e-2
    ) -> None:
        if min(lr, critic_lr) <= 0:
            raise ValueError(f"lr and critic_lr must be positive, not {lr} and {critic_lr}")
        self.optimizer = torch.optim.Adam([{"params": actor, "lr": lr}, {"params": critic, "lr": critic_lr}])

    def update(
        self,
        log_probs: Float[Tensor, "rollouts steps"],
        values: Float[Tensor, "rollouts steps"],
        rewards: Sequence[float],
    ) -> float:
        """One step of both; returns the mean of (R_n - V(s_t))² before it.

        Args:
            log_probs: of every action, with a graph.
            values: before every action, with a graph.
            rewards: one per rollout.
        """
        given = torch.tensor(rewards, dtype=values.dtype, device=values.device)[:, None]
        error = (given - values).square().mean(1).mean()
        gain = ((given - values.detach()) * log_probs).sum(1).mean()
        self.optimizer.zero_grad()
        (error - gain).backward()
        self.optimizer.step()
        return float(error.detach())


class _ActorCriticSearch(ArchitectureSearch):
    """An `ArchitectureSearch` whose policy follows a critic; ``errors`` keeps the critic's, update by update."""

    def __init__(
        self,
        base: nn.Module,
        example: Any,
        teacher_accuracy: float,
        *,
        lr: float = 3e-3,
        critic_lr: float = 1e-2,
        **options: Any,
    ) -> None:
        super().__init__(base, example, teacher_accuracy, lr=0, **options)  # the policy learns here instead
        self.critic = Critic(self.inputs.shape[1])
        self.learner = ActorCritic(list(self.policy.parameters()), list(self.critic.parameters()), lr, critic_lr)
        self.errors: list[float] = []

    def tell(self, candidate: Candidate, accuracy: float | None = None) -> float:
        """As in `ArchitectureSearch`; policy and critic learn after every ``students_per_update`` candidates."""
        updates = len(self.rewards)
        reward = super().tell(candidate, accuracy)
        if len(self.rewards) > updates:
            told = self.history[-self.students_per_update :]
            actions = torch.stack([one.actions for one in told])
            log_probs = torch.stack([self.step_log_probs(one) for one in actions])
            given = [one.reward for one in told if one.reward is not None]
            if not self.errors:  # nothing is known yet: the first mean is the baseline, as in `Reinforce`
                nn.init.constant_(self.critic.head.bias, self.rewards[-1])
            self.errors.append(self.learner.update(log_probs, self.values(actions), given))
        return reward

    def step_log_probs(self, actions: Int[Tensor, " layers"]) -> Float[Tensor, " steps"]:
        """Log-probability of each action that had an effect, with a graph."""
        raise TypeError("use ActorCriticRemovalSearch or ActorCriticShrinkSearch")

    def values(self, actions: Int[Tensor, "rollouts layers"]) -> Float[Tensor, "rollouts steps"]:
        """The critic's value before each of those actions, with a graph."""
        raise TypeError("use ActorCriticRemovalSearch or ActorCriticShrinkSearch")


class ActorCriticRemovalSearch(_ActorCriticSearch, LayerRemovalSearch):
    """`LayerRemovalSearch` with a critic. Takes its arguments, but for ``credit``.

    Args:
        critic_lr: Adam's rate for the critic.
    """

    def step_log_probs(self, actions: Int[Tensor, " layers"]) -> Float[Tensor, " steps"]:
        """Of the layers that may be removed."""
        return self.policy.log_prob(self.inputs, actions)[self.free]

    def values(self, actions: Int[Tensor, "rollouts layers"]) -> Float[Tensor, "rollouts steps"]:
        """Before the same layers; all others count as kept, whatever was drawn for them."""
        taken = actions.where(self.free, torch.ones_like(actions))
        return self.critic(self.inputs, taken.to(self.inputs.dtype))[:, self.free]


class ActorCriticShrinkSearch(_ActorCriticSearch, LayerShrinkSearch):
    """`LayerShrinkSearch` with a critic. Takes its arguments, but for ``credit``.

    Args:
        critic_lr: Adam's rate for the critic.
    """

    def step_log_probs(self, actions: Int[Tensor, " layers"]) -> Float[Tensor, " steps"]:
        """Of all factors."""
        return self.policy.log_prob(self.inputs, actions)

    def values(self, actions: Int[Tensor, "rollouts layers"]) -> Float[Tensor, "rollouts steps"]:
        """Before each factor."""
        return self.critic(self.inputs, self.policy.get_buffer("factors")[actions])
