"""The game: who moves, what stays, and where it ends."""

import copy
import math

import pytest
import torch
from torch import nn

from neurarium.learning import AdversarialGame
from neurarium.objectives import AdversarialLoss
from neurarium.theory import game_value, jensen_shannon, optimal_discriminator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def game():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    critic = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    return AdversarialGame(generator, critic, features=3, source=seeded())


def grads(module):
    return [p.grad for p in module.parameters()]


def test_each_player_gets_its_own_gradient_alone(game):
    x = torch.randn(6, 2)
    game.discriminator_credit(x)
    assert all(g is None for g in grads(game.generator))
    assert all(g is not None for g in grads(game.discriminator))
    game.discriminator.zero_grad()
    game.generator_credit(6)
    assert all(g is None for g in grads(game.discriminator))
    assert all(g is not None for g in grads(game.generator))
    assert all(p.requires_grad for p in game.discriminator.parameters())


def test_a_player_without_an_optimizer_stays(game):
    before = copy.deepcopy(game.discriminator.state_dict())
    optimizer = torch.optim.SGD(game.generator.parameters(), 0.1)
    weight = game.generator[0].weight.clone()
    lost, kept = game.step(torch.randn(6, 2), optimizer, None)
    assert all(torch.equal(before[name], tensor) for name, tensor in game.discriminator.state_dict().items())
    assert not torch.equal(weight, game.generator[0].weight)
    assert lost.isfinite()
    assert kept.isnan()


def test_one_pass_over_both_is_as_two(game):
    x = torch.randn(6, 2)
    game.eval()
    z = game.draw(6, seeded(5))
    loss = game.loss.discriminator(game.discriminator(x), game.discriminator(game.generator(z)))
    expected = torch.autograd.grad(loss, list(game.discriminator.parameters()))
    game.source = seeded(5)
    game.discriminator_credit(x)
    for found, wanted in zip(grads(game.discriminator), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_tabular_discriminator_finds_the_optimum():
    p = torch.rand(8, generator=seeded(), dtype=torch.float64).softmax(0)
    q = (3 * torch.rand(8, generator=seeded(1), dtype=torch.float64)).softmax(0)
    logit = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = game_value(p, q, logit.sigmoid())
        (-value).backward()
        return -value

    optimizer.step(closure)
    best = optimal_discriminator(p, q)
    torch.testing.assert_close(logit.detach().sigmoid(), best, atol=1e-4, rtol=0)
    reached = float(game_value(p, q, logit.detach().sigmoid()))
    assert math.isclose(reached, -math.log(4) + 2 * float(jensen_shannon(p, q)), abs_tol=1e-6)


def test_samples_come_to_follow_the_data():
    torch.manual_seed(1)
    generator = nn.Linear(1, 1)
    critic = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
    game = AdversarialGame(generator, critic, features=1, noise="normal", source=seeded())
    first = torch.optim.Adam(generator.parameters(), 0.02, betas=(0.5, 0.9))
    second = torch.optim.Adam(critic.parameters(), 0.02, betas=(0.5, 0.9))
    data = seeded(2)
    for _ in range(400):
        game.step(3 + 0.7 * torch.randn(64, 1, generator=data), first, second)
    samples = game.sample(2000, seeded(3))
    assert abs(float(samples.mean()) - 3) < 0.4
    assert 0.3 < float(samples.std()) < 1.3
    assert torch.equal(game.sample(5, seeded(3)), game.sample(5, seeded(3)))


def test_walks_begin_and_end_at_samples(game):
    game.eval()
    walk = game.walk(3, 5, seeded(1))
    ends = game(game.draw(6, seeded(1)))
    torch.testing.assert_close(walk[:, 0], ends[:3])
    torch.testing.assert_close(walk[:, -1], ends[3:])


def test_the_penalty_bounds_a_wasserstein_critic():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    loss = AdversarialLoss("wasserstein", gradient_penalty=10.0)
    game = AdversarialGame(nn.Linear(1, 1), critic, loss, features=1, source=seeded())
    optimizer = torch.optim.Adam(critic.parameters(), 0.02)
    for _ in range(150):
        game.step(4 + torch.rand(64, 1), None, optimizer)
    distance = float((critic(4.5 * torch.ones(1, 1)) - critic(game.sample(500).mean(0, keepdim=True))).detach())
    apart = 4.5 - float(game.sample(500).mean())
    assert 0.6 * apart < distance < 1.4 * apart  # the earth mover's distance of laws that do not overlap


def test_refusals():
    image, vector = torch.rand(4, 1, 2, 2), nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"\[4\] for examples of \[1, 2, 2\]"):
        AdversarialGame(vector, nn.Linear(4, 1), features=3).discriminator_credit(image)
    with pytest.raises(ValueError, match="one logit"):
        AdversarialGame(vector, nn.Linear(4, 2), features=3).discriminator_credit(torch.rand(5, 4))
    with pytest.raises(ValueError, match="features"):
        AdversarialGame(vector, vector, features=0)
    bounded = AdversarialGame(nn.Sequential(vector, nn.Sigmoid()), nn.Linear(4, 1), features=3)
    with pytest.warns(UserWarning, match="Sigmoid"):
        bounded.discriminator_credit(5 * torch.rand(5, 4))


def test_noise_is_uniform_between_minus_one_and_one_or_normal() -> None:
    for noise, reach, deviation in (("uniform", 1.0, 3**-0.5), ("normal", 10.0, 1.0)):
        game = AdversarialGame(nn.Linear(4, 2), nn.Linear(2, 1), features=4, noise=noise)
        z = game.draw(5000, torch.Generator().manual_seed(0))
        assert z.abs().max() <= reach
        assert abs(float(z.mean())) < 0.02
        assert abs(float(z.std()) - deviation) < 0.02
