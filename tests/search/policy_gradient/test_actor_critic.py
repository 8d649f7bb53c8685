"""A learnt value in place of the moving mean, and the policy that reads in one direction."""

import itertools

import pytest
import torch
from torch import nn

from neurarium.search import (
    ActorCritic,
    ActorCriticRemovalSearch,
    ActorCriticShrinkSearch,
    Critic,
    LayerRemovalSearch,
    RemovalPolicy,
    ShrinkPolicy,
    UnidirectionalRemovalPolicy,
)  # fmt: skip

X = torch.randn(2, 3, 8, 8)


def teacher():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1), nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip


def gradient(policy, value):
    policy.zero_grad()
    value.backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


def test_a_value_sees_the_actions_before_it_and_no_later_one():
    critic, layers = Critic(5), torch.randn(6, 5)
    nn.init.normal_(critic.head.weight)
    taken = torch.rand(3, 6)
    values = critic(layers, taken)
    other = taken.clone()
    other[:, 2] = 1 - other[:, 2]
    changed = critic(layers, other)
    assert torch.equal(values[:, :3], changed[:, :3])  # the action's own value too
    assert bool((values[:, 3:] != changed[:, 3:]).all())
    torch.testing.assert_close(critic(layers, taken[1:2])[0], values[1])
    assert not bool(Critic(5)(layers, taken).any())  # 0 at the start


def test_one_step_moves_the_policy_by_the_advantage_and_the_values_to_the_rewards():
    log_probs = torch.full((2, 3), -0.7, requires_grad=True, dtype=torch.float64)
    values = torch.tensor([[0.5, 0.0, 0.25], [0.5, 1.0, 0.25]], requires_grad=True, dtype=torch.float64)
    learner = ActorCritic([log_probs], [values])
    learner.optimizer = torch.optim.SGD([log_probs, values], 1.0)
    before = values.detach().clone()
    error = torch.tensor([[1.0], [-1.0]], dtype=torch.float64) - before
    assert learner.update(log_probs, values, [1.0, -1.0]) == pytest.approx(float(error.square().mean()))
    torch.testing.assert_close(log_probs.detach(), error / 2 - 0.7)  # 1/N (R - V) per step
    torch.testing.assert_close(values.detach(), before + 2 * error / 6)
    with pytest.raises(ValueError, match="must be positive"):
        ActorCritic([log_probs], [values], lr=0)


@pytest.mark.parametrize("policy", [ShrinkPolicy(features=5, factors=(0.5, 1.0)), RemovalPolicy()])
def test_a_critic_of_past_actions_biases_no_gradient(policy):
    torch.manual_seed(0)
    policy, layers, critic = policy.double(), torch.randn(3, 5).double(), Critic(5).double()
    nn.init.normal_(critic.head.weight)
    rollouts = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    rewards = torch.rand(len(rollouts)).double()
    exact = gradient(policy, sum(policy.log_prob(layers, a).sum().exp() * r for a, r in zip(rollouts, rewards)))
    steps = torch.stack([policy.log_prob(layers, a) for a in rollouts])
    chances = steps.sum(1).exp().detach()
    assert float(chances.sum()) == pytest.approx(1)
    advantage = rewards[:, None] - critic(layers, rollouts.double()).detach()
    assert float(advantage.std(0).min()) > 0.1
    found = gradient(policy, (chances[:, None] * advantage * steps).sum())
    torch.testing.assert_close(found, exact)
    steps = torch.stack([policy.log_prob(layers, a) for a in rollouts])
    peeking = rewards[:, None] - rollouts.double()  # a value that knows the action it is compared with
    wrong = gradient(policy, (chances[:, None] * peeking * steps).sum())
    assert not torch.allclose(wrong, exact, rtol=0.5)


def test_the_critic_learns_what_the_first_action_means():
    torch.manual_seed(0)
    critic, layers = Critic(5), torch.randn(3, 5)
    silent = [torch.zeros(1, requires_grad=True)]
    learner = ActorCritic(silent, list(critic.parameters()), critic_lr=0.02)
    taken = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    rewards = (2 * taken[:, 0] - 1).tolist()  # decided by the first action alone
    for _ in range(150):
        learner.update(0 * silent[0] * torch.ones(8, 3), critic(layers, taken), rewards)
    values = critic(layers, taken).detach()
    assert float(values[:, 0].abs().max()) < 0.1  # before it nothing is known
    torch.testing.assert_close(values[:, 1:], (2 * taken[:, :1] - 1).expand(-1, 2), rtol=0, atol=0.1)


def test_the_policy_of_one_direction_does_not_know_the_layers_behind():
    layers = torch.randn(6, 5)
    other = layers.clone()
    other[3] += 1
    for policy, knows in ((UnidirectionalRemovalPolicy(), False), (RemovalPolicy(), True)):
        a, b = policy(layers), policy(other)
        assert bool((a[:3] != b[:3]).any()) == knows
        assert bool((a[3:] != b[3:]).all())
        assert float((a.detach().exp()[:, 1] - 0.8).abs().max()) < 0.1
    plain = UnidirectionalRemovalPolicy()
    assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in RemovalPolicy().parameters()) / 2
    torch.testing.assert_close(plain(layers[:4]), plain(layers)[:4])


@pytest.mark.parametrize("kind", [ActorCriticRemovalSearch, ActorCriticShrinkSearch])
def test_searches_with_a_critic_learn_both_after_every_update(kind):
    torch.manual_seed(0)
    search = kind(teacher(), X, 0.8, students_per_update=3, lr=0.01, generator=torch.Generator().manual_seed(0))
    before = [p.clone() for p in (*search.policy.parameters(), *search.critic.parameters())]
    for count in range(1, 7):
        candidate = search.ask()
        search.tell(candidate, 0.4 if candidate.model is not None else None)
        assert len(search.errors) == len(search.rewards) == count // 3
        now = [*search.policy.parameters(), *search.critic.parameters()]
        assert any(not torch.equal(a, b) for a, b in zip(before, now)) == (count > 2)
    told = search.history[3:]
    values = search.values(torch.stack([one.actions for one in told]))
    steps = torch.stack([search.step_log_probs(one.actions) for one in told])
    assert values.shape == steps.shape
    assert steps.shape[1] == (int(search.free.sum()) if kind is ActorCriticRemovalSearch else len(search.dimensions))
    torch.testing.assert_close(steps.sum(1), torch.stack([search.log_prob(one.actions) for one in told]))


def test_the_first_update_is_that_of_reinforce_and_later_ones_are_not():
    searches = []
    for kind in (LayerRemovalSearch, ActorCriticRemovalSearch):
        torch.manual_seed(0)
        searches.append(kind(teacher(), X, 0.8, students_per_update=4, generator=torch.Generator().manual_seed(0)))
    policies = [search.policy for search in searches]
    policies[1].load_state_dict(policies[0].state_dict())
    searches[1].build = searches[0].build = lambda actions: nn.Linear(1, 1)
    for update in range(3):
        for share in (0.2, 0.9, 0.4, 0.7):
            for search in searches:
                search.tell(search.ask(), share)
        same = [torch.allclose(a, b, atol=1e-7) for a, b in zip(policies[0].parameters(), policies[1].parameters())]
        assert all(same) == (update == 0)


def test_actions_on_layers_that_are_always_kept_are_not_seen():
    search = ActorCriticRemovalSearch(teacher(), X, 0.8)
    nn.init.normal_(search.critic.head.weight)
    actions = torch.ones(1, len(search.layers), dtype=torch.long)
    idle = actions.clone()
    idle[:, ~search.free] = 0
    assert torch.equal(search.values(actions), search.values(idle))
    idle[:, search.free.nonzero()[0]] = 0
    assert not torch.equal(search.values(actions), search.values(idle))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_actor_critic_learns_to_remove_what_does_not_matter(seed):
    torch.manual_seed(seed)
    search = ActorCriticRemovalSearch(
        teacher(), X, 1.0, students_per_update=5, lr=0.02, generator=torch.Generator().manual_seed(seed)
    )
    search.build = lambda actions: nn.Linear(1, 1)  # all are equally small: accuracy alone decides
    for _ in range(5 * 40):
        candidate = search.ask()
        search.tell(candidate, 1 - float(candidate.actions[search.free].float().mean()))
    assert search.rewards[0] < 0.5
    assert sum(search.rewards[-5:]) / 5 > 0.95
    assert sum(search.errors[-5:]) < sum(search.errors[:5])
