"""Rewards, REINFORCE, and the architectures that the two searches build."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from neurarium.models import describe, remove_layers, shrink, trace_architecture
from neurarium.search import (
    LayerRemovalSearch,
    LayerShrinkSearch,
    Reinforce,
    RemovalPolicy,
    ShrinkPolicy,
    compression_reward,
    student_reward,
    tolerance,
)

X = torch.randn(2, 3, 8, 8)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


def teacher():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), Block(32), nn.MaxPool2d(2),
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 5),
    )  # fmt: skip


def shapes(model):
    return [tuple(p.shape) for p in model.parameters()]


@pytest.mark.parametrize(("compression", "reward"), [(0.5, 0.75), (0.8, 0.96), (0.9, 0.99), (0.95, 0.9975), (0, 0)])
def test_compression_reward(compression, reward):
    assert compression_reward(compression) == pytest.approx(reward)
    c = torch.tensor(float(compression), requires_grad=True)
    compression_reward(c).backward()
    assert float(c.grad) == pytest.approx(2 - 2 * compression)


def test_violations_are_forgiven_less_and_less():
    assert [tolerance(0), tolerance(7.5), tolerance(15), tolerance(40)] == [1, 0.0625, 0, 0]
    free = student_reward(0.9, 1.0, 0.5)
    assert free == pytest.approx(0.675)
    assert student_reward(0.9, 1.0, 0.5, violated=True, forgiven=tolerance(0)) == pytest.approx(free)
    assert student_reward(0.9, 1.0, 0.5, violated=True, forgiven=tolerance(15)) == -1
    half = student_reward(0.9, 1.0, 0.5, violated=True, forgiven=0.5)
    assert half == pytest.approx(-0.5 + 0.5 * free)
    assert student_reward(0.9, 1.0, -0.1) == -1
    assert student_reward(0.9, 1.0, 0.0) == -1


def test_accuracy_counts_as_a_share_of_the_teachers_and_may_be_clipped():
    assert student_reward(0.6, 0.8, 0.5) == pytest.approx(0.75 * 0.75)
    assert student_reward(0.6, 0.8, 0.5, clipped=True) == pytest.approx(0.75 * 0.75)
    assert student_reward(0.9, 0.8, 0.5) == pytest.approx(0.75 * 1.125)
    assert student_reward(0.9, 0.8, 0.5, clipped=True) == pytest.approx(0.75)
    assert student_reward(0.9, 0.8, 0.5, violated=True, forgiven=0.5, clipped=True) == pytest.approx(-0.125)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_the_sampled_gradient_is_the_enumerated_one_whatever_the_baseline(baseline):
    layers, generator = torch.randn(3, 5), torch.Generator().manual_seed(0)
    policy = RemovalPolicy()
    rewards = {actions: float(torch.rand((), generator=generator)) for actions in itertools.product((0, 1), repeat=3)}

    def gradient(value):
        policy.zero_grad()
        value.backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters()])

    exact = gradient(sum(policy.log_prob(layers, torch.tensor(a)).sum().exp() * r for a, r in rewards.items()))
    drawn = torch.multinomial(policy(layers).exp().detach(), 20_000, replacement=True, generator=generator)
    counts = {a: int((torch.tensor(a) == drawn.T).all(1).sum()) for a in rewards}
    log_probs = torch.stack([policy.log_prob(layers, torch.tensor(a)).sum() for a in rewards for _ in range(1)])
    weights = torch.tensor([counts[a] / 20_000 * (rewards[a] - baseline) for a in rewards])
    sampled = gradient((weights * log_probs).sum())
    assert float(cosine_similarity(sampled, exact, dim=0)) > 0.99
    torch.testing.assert_close(sampled.norm(), exact.norm(), rtol=0.1, atol=0)


def test_reinforce_steps_along_reward_minus_baseline():
    value = torch.zeros(2, requires_grad=True)
    learner = Reinforce([value], lr=0.1, decay=0.5)
    learner.optimizer = torch.optim.SGD([value], 1.0)
    assert learner.update(value, [1.0, 0.0]) == 0.5
    torch.testing.assert_close(value.detach(), torch.tensor([0.25, -0.25]))  # 1/2 (R - 1/2)
    learner.update(value, [1.5, 1.5])
    assert learner.baseline == 1.0
    torch.testing.assert_close(value.detach(), torch.tensor([0.75, 0.25]))  # + 1/2 (3/2 - 1/2)
    with pytest.raises(ValueError, match="credit"):
        Reinforce([value], credit="other")


def test_the_baseline_keeps_four_fifths_of_the_past():
    learner = Reinforce([torch.zeros(1, requires_grad=True)])
    for mean, baseline in ((0.5, 0.5), (1.0, 0.6), (0.0, 0.48)):
        learner.update(torch.zeros(2, requires_grad=True), [mean, mean])
        assert learner.baseline == pytest.approx(baseline)


def test_batch_credit_gives_every_rollout_the_mean():
    value = torch.zeros(2, requires_grad=True)
    learner = Reinforce([value], lr=0.1, credit="batch")
    learner.optimizer, learner.baseline = torch.optim.SGD([value], 1.0), 0.0
    learner.update(value, [1.0, 0.0])
    torch.testing.assert_close(value.detach(), torch.tensor([0.25, 0.25]))


def test_a_policy_learns_a_bandit_and_a_random_search_does_not():
    layers = torch.randn(4, 5)
    for lr, learns in ((0.03, True), (0.0, False)):
        torch.manual_seed(0)
        policy = RemovalPolicy(keep=0.5)
        learner = Reinforce(list(policy.parameters()), lr)
        generator = torch.Generator().manual_seed(0)
        for _ in range(60):
            actions = [policy.sample(layers, generator) for _ in range(5)]
            log_probs = torch.stack([policy.log_prob(layers, a).sum() for a in actions])
            mean = learner.update(log_probs, [float((a == torch.tensor([0, 1, 0, 1])).float().mean()) for a in actions])
        assert (mean > 0.9) == learns


def test_policies_start_at_their_prior_and_transfer_to_another_depth():
    keep = RemovalPolicy(keep=0.8)(torch.rand(30, 5)).exp()[:, 1].detach()
    assert float((keep - 0.8).abs().max()) < 0.1
    policy, other = ShrinkPolicy(), ShrinkPolicy()
    other.load_state_dict(policy.state_dict())
    dimensions = torch.rand(7, 6)
    actions = policy.sample(dimensions, torch.Generator().manual_seed(0))
    assert torch.equal(policy.log_prob(dimensions, actions), other.log_prob(dimensions, actions))
    assert policy.log_prob(dimensions[:3], actions[:3]).shape == (3,)
    torch.testing.assert_close(policy.log_prob(dimensions, actions)[:3], policy.log_prob(dimensions[:3], actions[:3]))


def test_factors_are_drawn_with_the_probabilities_that_are_credited(monkeypatch):
    torch.manual_seed(0)
    policy, dimensions, drawn = ShrinkPolicy(factors=(0.2, 0.6, 1.0)), torch.rand(5, 6), []
    nn.init.normal_(policy.head.weight, std=3)  # far from uniform
    multinomial = torch.multinomial

    def recorded(chances, *rest, **options):
        drawn.append(chances)
        return multinomial(chances, *rest, **options)

    monkeypatch.setattr(torch, "multinomial", recorded)
    actions = policy.sample(dimensions, torch.Generator().manual_seed(3))
    assert len(set(actions.tolist())) > 1
    chances = torch.stack(drawn).gather(1, actions[:, None]).squeeze(1)
    torch.testing.assert_close(policy.log_prob(dimensions, actions).exp(), chances)
    other = actions.clone()
    other[1] = (other[1] + 1) % 3
    changed = policy.log_prob(dimensions, other) - policy.log_prob(dimensions, actions)
    assert [bool(c != 0) for c in changed] == [False, True, True, True, True]  # every choice knows those before


def test_keeping_everything_is_the_teachers_architecture():
    model = teacher()
    layers = describe(model, X)
    assert [layer.name for layer in layers][:3] == ["0", "1", "2"]
    kept = {layer.name for layer in layers if not layer.removable}
    assert kept == {"0", "7", "9", "10", "12"}  # first, strided, flatten, linear
    search = LayerRemovalSearch(model, X, 0.9)
    assert shapes(search.build(torch.ones(len(layers), dtype=torch.long))) == shapes(model)
    narrow = LayerShrinkSearch(model, X, 0.9)
    assert shapes(narrow.build(torch.full((len(narrow.dimensions),), 9))) == shapes(model)


def test_halving_a_convolution():
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 64, 5))
    architecture = trace_architecture(model, X)
    small = shrink(model, X, architecture, {architecture.group_of("0").index: 32}, {"0": 1})
    assert small[0].weight.shape == (32, 3, 1, 1)
    assert shrink(model, X, architecture, architecture.counts(0.5), {})[0].weight.numel() == 3 * 32 * 9
    assert small[3].in_features == 32 * 64  # the padding went with the kernel
    assert model[0].weight.shape == (64, 3, 3, 3)


def test_what_follows_a_removed_layer_takes_what_reaches_it():
    small = remove_layers(teacher(), X, ["5", "4"])
    assert small[7].in_channels == 32
    assert small[10].in_features == 16 * 4 * 4  # no pooling any more
    block = remove_layers(teacher(), X, ["3.conv1", "3.norm1"])
    assert isinstance(block[3].conv1, nn.Identity)
    assert block(X).shape == (2, 5)
    collapsed = remove_layers(teacher(), X, ["3.conv1", "3.norm1", "3.conv2", "3.norm2", "3.relu"])
    assert sum(p.numel() for p in collapsed[3].parameters()) == 0
    with pytest.raises(ValueError, match="'0' cannot be removed"):
        remove_layers(teacher(), X, ["0"])


@pytest.mark.parametrize("kind", [LayerRemovalSearch, LayerShrinkSearch])
def test_every_architecture_is_rejected_or_runs_forward_and_backward(kind):
    model, generator = teacher(), torch.Generator().manual_seed(0)
    search = kind(model, X, 0.9, generator=generator)
    width = len(search.layers) if kind is LayerRemovalSearch else len(search.dimensions)
    seen = set()
    for _ in range(250):
        actions = torch.randint(0, 2 if kind is LayerRemovalSearch else 10, (width,), generator=generator)
        try:
            student = search.build(actions)
        except ValueError:
            continue  # rejected
        cross_entropy(student(X), torch.tensor([0, 1])).backward()
        assert all(p.grad is not None for p in student.parameters())
        seen.add(str(student))
    assert len(seen) > 100


def test_ask_and_tell():
    search = LayerShrinkSearch(teacher(), X, 0.8, students_per_update=3, max_parameters=20_000)
    before = [p.clone() for p in search.policy.parameters()]
    while len(search.history) < 3:
        candidate = search.ask()
        search.tell(candidate, 0.4 if candidate.model is not None else None)
    assert len(search.rewards) == 1
    assert any(not torch.equal(a, b) for a, b in zip(before, search.policy.parameters()))
    assert search.best().parameters <= 20_000
    candidate = next(c for c in iter(search.ask, None) if c.model is not None)
    with pytest.raises(ValueError, match="between 0 and 1"):
        search.tell(candidate)
    search.tell(candidate, 0.5)
    search.policy.sample = lambda *_: candidate.actions
    again = search.ask()
    assert again.accuracy == 0.5
    assert search.tell(again) == candidate.reward
    assert search.smallest() < candidate.parameters


@pytest.mark.parametrize(("kind", "name"), [(LayerRemovalSearch, "0.weight"), (LayerShrinkSearch, "10.weight")])
def test_students_start_from_new_weights(kind, name):
    model = teacher()
    search = kind(model, X, 0.9)
    keep = 1 if kind is LayerRemovalSearch else 9
    actions = torch.full((len(search.inputs),), keep)
    built = dict(search.build(actions).named_parameters())[name]
    assert built.shape == dict(model.named_parameters())[name].shape
    assert not bool((built == dict(model.named_parameters())[name]).any())


def test_a_budget_is_forgiven_less_with_every_update_and_bars_the_best():
    search = LayerShrinkSearch(
        teacher(), X, 0.8, students_per_update=2, generator=torch.Generator().manual_seed(0), clip_accuracy=True
    )
    drawn = [candidate for candidate in (search.ask() for _ in range(8)) if candidate.model is not None][:4]
    drawn.sort(key=lambda candidate: candidate.parameters)
    assert drawn[0].parameters < drawn[1].parameters
    search.max_parameters = drawn[0].parameters  # met exactly by the first
    given = []
    for candidate in (drawn[1], drawn[0], drawn[2]):
        saved = 1 - candidate.parameters / search.teacher_parameters
        given.append(saved * (2 - saved))
        search.tell(candidate, 0.9)  # clipped: as good as the teacher
    assert drawn[1].reward == pytest.approx(given[0])  # before the first update all is forgiven
    assert drawn[0].reward == pytest.approx(given[1])
    left = (14 / 15) ** 4
    assert drawn[2].reward == pytest.approx(left - 1 + left * given[2])
    drawn[1].reward = 9.0
    assert search.best() is drawn[0]
    search.max_parameters = None
    assert search.best() is drawn[1]
    search.max_parameters = drawn[0].parameters
    search.max_parameters -= 1
    with pytest.raises(ValueError, match="within the constraint"):
        search.best()


def test_sizes_are_rounded_and_kernels_keep_their_parity():
    model = nn.Sequential(nn.Conv2d(3, 7, 5, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 64, 5))
    search = LayerShrinkSearch(model, X, 0.9)
    assert [group is None for group, _ in search.dimensions] == [True, False]
    sides = []
    for action in range(10):
        conv = search.build(torch.tensor([action, action]))[0]
        assert conv.out_channels == max(1, round((action + 1) / 10 * 7))
        assert conv.padding == (conv.kernel_size[0] // 2,) * 2
        sides.append(conv.kernel_size[0])
    assert sides == [1, 1, 1, 1, 1, 3, 3, 3, 3, 5]  # the odd side at or below 0.5, 1, 1.5, ... 5, rounded
    cost = [sum(p.numel() for p in search.build(torch.tensor([a, a])).parameters()) for a in (0, 9)]
    assert search.smallest() == cost[0] < cost[1]


def test_a_layer_is_described_by_shares_of_the_largest():
    search = LayerRemovalSearch(nn.Sequential(nn.Conv2d(3, 8, 5, 1, 2), nn.ReLU(), nn.Conv2d(8, 4, 1)), X, 0.9)
    kinds = [0.0, 1.0, 0.0]  # convolution 0 and activation 3 of a largest 3
    table = [[5 / 5, 1, 1, 8 / 8], [0, 0, 0, 0], [1 / 5, 1, 0, 4 / 8]]  # kernel, stride, padding, units
    wanted = torch.tensor([[kind, *row] for kind, row in zip(kinds, table)])
    torch.testing.assert_close(search.inputs, wanted)


def test_students_that_are_not_smaller_are_degenerate():
    search = LayerRemovalSearch(teacher(), X, 0.8, students_per_update=1)
    search.policy.sample = lambda *_: torch.ones(len(search.layers), dtype=torch.long)
    candidate = search.ask()
    assert candidate.model is None
    assert "no fewer" in candidate.problem
    assert search.tell(candidate) == -1
    with pytest.raises(ValueError, match="no candidate"):
        search.best()
    with pytest.raises(ValueError, match="no layer that can be removed"):
        LayerRemovalSearch(nn.Sequential(nn.Linear(4, 3)), torch.randn(1, 4), 0.8)


def test_a_reward_of_nought_is_better_than_none():
    search = LayerShrinkSearch(teacher(), X, 0.8)
    told = []
    while len(told) < 2:
        candidate = search.ask()
        if candidate.model is not None and candidate.accuracy is None:
            search.tell(candidate, 0.0)
            told.append(candidate)
    told[0].reward = -0.5
    assert told[1].reward == 0
    assert search.best() is told[1]


def test_candidates_that_look_alike_but_differ_are_trained_each():
    class Skip(nn.Module):
        """Which of two equal layers is used is not to be read from the module's text."""

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.BatchNorm1d(8), nn.BatchNorm1d(8)

        def forward(self, x):
            return torch.relu(self.first(x)) + self.last(x)

    base = nn.Sequential(nn.Linear(4, 8), Skip(), nn.Linear(8, 3))
    search = LayerRemovalSearch(base, torch.randn(2, 4), 0.9)
    names = [layer.name for layer in search.layers]
    found = []
    for gone in ("1.first", "1.last"):
        search.policy.sample = lambda *_, gone=gone: torch.tensor([int(name != gone) for name in names])
        found.append(search.ask())
        search.tell(found[-1], 0.5)
    assert found[0].key != found[1].key
    assert search.ask().accuracy == 0.5  # the same as the last one
