"""Samplers and Laplace's approximation against exact posteriors: normal, Kalman, probabilistic PCA, known moments."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Gamma, HalfCauchy, MultivariateNormal, Normal

from neurarium.learning import HamiltonianMonteCarlo, NoUTurnSampler, laplace
from neurarium.learning.inference._hamiltonian import Dynamics, State
from neurarium.models import FlatPosterior, ProbabilisticModule

COVARIANCE = torch.tensor([[1.0, 1.4], [1.4, 4.0]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)


PRECISION = COVARIANCE.inverse()


def normal(v):
    return -0.5 * (v - MEAN) @ PRECISION @ (v - MEAN)


def seed(number=0):
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("kind", [HamiltonianMonteCarlo, NoUTurnSampler])
def test_a_correlated_normal_has_its_moments(kind):
    sampler = kind(normal, 5) if kind is HamiltonianMonteCarlo else kind(normal)
    found = sampler.sample(torch.zeros(2, dtype=torch.float64), 250, 80, generator=seed())
    torch.testing.assert_close(found.vectors.mean(0), MEAN, atol=0.5, rtol=0)
    torch.testing.assert_close(found.vectors.T.cov(), COVARIANCE, atol=1.0, rtol=0.3)
    assert 0.5 < found.acceptance < 0.99
    assert found.divergent == 0
    again = kind(normal).sample(torch.zeros(2, dtype=torch.float64), 20, 30, generator=seed(3))
    assert torch.equal(
        again.vectors, kind(normal).sample(torch.zeros(2, dtype=torch.float64), 20, 30, generator=seed(3)).vectors
    )


def test_energy_is_kept_to_the_square_of_the_step():
    dynamics = Dynamics(normal, torch.ones(2, dtype=torch.float64))
    errors = []
    for step in (0.2, 0.1, 0.05):
        state = dynamics.at(
            torch.tensor([0.3, -1.0], dtype=torch.float64), torch.tensor([0.5, 1.0], dtype=torch.float64)
        )
        before = state.energy
        for _ in range(round(1 / step)):
            state = dynamics.leapfrog(state, step)
        errors.append(abs(state.energy - before))
    assert 3 < errors[0] / errors[1] < 5
    assert 3 < errors[1] / errors[2] < 5
    state.momentum = -state.momentum  # backwards it comes home
    for _ in range(20):
        state = dynamics.leapfrog(state, 0.05)
    torch.testing.assert_close(state.position, torch.tensor([0.3, -1.0], dtype=torch.float64))


class Ring(Dynamics):
    """A step moves to the neighbour on a ring of places whose densities differ much; nothing turns back."""

    def __init__(self, log_densities):
        super().__init__(normal, torch.ones(1))
        self.log_densities = log_densities

    def place(self, number):
        height = self.log_densities[number % len(self.log_densities)]
        return State(torch.tensor([float(number)]), torch.ones(1), height, torch.zeros(1))

    def leapfrog(self, state, step):
        return self.place(int(state.position) + (1 if step > 0 else -1))


def test_doublings_are_weighted_so_that_the_density_stays():
    """Places drawn from it and moved once are distributed as before, at weights that span a factor of 400."""
    ring = Ring([0.0, -2.0, 1.0, -3.0, 0.5, 2.0, -1.0, -4.0, 1.5, 0.0, -0.5])
    weights = torch.tensor(ring.log_densities, dtype=torch.float64).softmax(0)
    generator, sampler = seed(), NoUTurnSampler(normal, max_depth=3)
    found = torch.zeros_like(weights)
    for number in torch.multinomial(weights, 1500, replacement=True, generator=generator).tolist():
        state, _, _ = sampler.move(ring, ring.place(number), 1.0, generator)
        found[int(state.position) % len(weights)] += 1
    assert stats.chisquare(found.numpy(), 1500 * weights.numpy()).pvalue > 1e-3


def test_trajectories_grow_at_both_ends_and_prefer_the_last_doubling():
    """On a ring of one height every run of eight around the start is as likely, and the choice is in its new half."""
    ring, generator, sampler = Ring([0.0]), seed(), NoUTurnSampler(normal, max_depth=3)
    ahead, chosen = torch.zeros(8), torch.zeros(15)
    for _ in range(600):
        seen = []
        ring.leapfrog = lambda state, step, seen=seen: (
            seen.append(int(state.position) + (1 if step > 0 else -1)) or ring.place(seen[-1])
        )
        state, _, _ = sampler.move(ring, ring.place(0), 1.0, generator)
        assert sorted([0, *seen]) == list(range(min(0, *seen), max(0, *seen) + 1))
        assert len(seen) == 7
        assert int(state.position) in seen[3:]
        ahead[max(0, *seen)] += 1
        chosen[7 + int(state.position)] += 1
    assert stats.chisquare(ahead.numpy()).pvalue > 1e-3
    # the first four begin 0 to 3 places behind the start, each as often; the next four are beyond either end
    ways = torch.tensor([1.0, 2, 3, 4, 3, 2, 1])
    expected = 600 * torch.cat([ways, torch.zeros(1), ways]) / 32
    assert stats.chisquare(chosen[expected > 0].numpy(), expected[expected > 0].numpy()).pvalue > 1e-3


class Wide(Dynamics):
    """Independent normals with their gradients written out."""

    def __init__(self, scales):
        super().__init__(normal, torch.ones_like(scales))
        self.scales = scales

    def at(self, position, momentum):
        gradient = -position / self.scales**2
        return State(position, momentum, 0.5 * float(gradient @ position), gradient)


def test_a_long_step_leaves_the_density_as_it_is():
    """At 1.7 deviations a step the energy is badly kept, and weights and turns decide; one move from exact draws."""
    dynamics, generator = Wide(torch.tensor([8.0, 1.0], dtype=torch.float64)), seed()
    sampler, rows = NoUTurnSampler(normal), []
    for start in torch.randn(1200, 2, generator=generator, dtype=torch.float64) * dynamics.scales:
        state = dynamics.fresh(dynamics.at(start, torch.zeros_like(start)), generator)
        rows.append(sampler.move(dynamics, state, 1.7, generator)[0].position / dynamics.scales)
    for column in torch.stack(rows).square().T:
        assert stats.kstest(column.numpy(), stats.chi2(1).cdf).pvalue > 1e-3


def test_the_jacobian_is_counted():
    class Positive(ProbabilisticModule):
        def __init__(self):
            super().__init__()
            self.rate = Gamma(torch.tensor(3.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))

        def forward(self):
            return self.rate

    flat = FlatPosterior(Positive())
    chain = NoUTurnSampler(flat).sample(flat.start, 120, 50, generator=seed())
    rate = flat.values(chain.vectors[::2])["rate"]
    assert stats.kstest(rate.numpy(), stats.gamma(3, scale=0.5).cdf).pvalue > 1e-3


class LocalLevel(ProbabilisticModule):
    """A random walk that is seen with noise."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self):
        level = torch.zeros((), dtype=torch.float64)
        for t in range(self.length):
            setattr(self, f"level{t}", Normal(level, 0.5))
            level = getattr(self, f"level{t}")
            setattr(self, f"y{t}", Normal(level, 1.0))


def kalman(y):
    """Mean and variance of the last level, and the log-likelihood, by the filter."""
    mean, variance, log_likelihood = 0.0, 0.0, 0.0
    for value in y.tolist():
        variance += 0.25
        total = variance + 1.0
        log_likelihood += -0.5 * (math.log(2 * math.pi * total) + (value - mean) ** 2 / total)
        gain = variance / total
        mean, variance = mean + gain * (value - mean), (1 - gain) * variance
    return mean, variance, log_likelihood


def test_laplace_is_exact_for_a_linear_model_and_agrees_with_the_kalman_filter():
    y = torch.randn(4, generator=seed(), dtype=torch.float64).cumsum(0)
    model = LocalLevel(4)
    model.observe(**{f"y{t}": value for t, value in enumerate(y)})
    flat = FlatPosterior(model)
    found = laplace(flat, flat.start)
    mean, variance, log_likelihood = kalman(y)
    assert float(found.mean[-1]) == pytest.approx(mean, abs=1e-5)
    assert float(found.covariance[-1, -1]) == pytest.approx(variance, rel=1e-5)
    assert found.log_evidence == pytest.approx(log_likelihood, rel=1e-6)
    draws = found.sample(4000, generator=seed())
    assert float(draws[:, -1].var()) == pytest.approx(variance, rel=0.1)


def test_the_factors_of_probabilistic_pca_have_their_known_posterior():
    """x = W z + noise: the posterior of z is normal with precision I + W'W / s^2 (Tipping and Bishop, 1999)."""
    weights = torch.randn(5, 2, generator=seed(), dtype=torch.float64)
    x = torch.randn(5, generator=seed(1), dtype=torch.float64)

    class Pca(ProbabilisticModule):
        def forward(self):
            self.z = Normal(torch.zeros(2, dtype=torch.float64), 1.0)
            self.x = Normal(weights @ self.z, 0.5)

    model = Pca()
    model.observe(x=x)
    flat = FlatPosterior(model)
    precision = torch.eye(2, dtype=torch.float64) + weights.T @ weights / 0.25
    mean = torch.linalg.solve(precision, weights.T @ x / 0.25)
    found = laplace(flat, flat.start)
    torch.testing.assert_close(found.mean, mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.covariance, precision.inverse(), atol=1e-8, rtol=1e-6)
    evidence = MultivariateNormal(
        torch.zeros(5, dtype=torch.float64), weights @ weights.T + 0.25 * torch.eye(5, dtype=torch.float64)
    ).log_prob(x)
    assert found.log_evidence == pytest.approx(float(evidence), rel=1e-8)
    chain = NoUTurnSampler(flat).sample(flat.start, 60, 40, generator=seed())
    torch.testing.assert_close(chain.vectors.mean(0), mean, atol=0.3, rtol=0)


def test_hierarchies_have_variables_with_supports():
    class Schools(ProbabilisticModule):
        """Rubin's eight schools, deviations from the mean written out."""

        def forward(self):
            one = torch.ones((), dtype=torch.float64)
            self.mu = Normal(0 * one, 5.0)
            self.tau = HalfCauchy(5 * one)
            self.z = Normal(torch.zeros(8, dtype=torch.float64), 1.0)
            deviations = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)
            self.y = Normal(self.mu + self.tau * self.z, deviations)

    model = Schools()
    model.observe(y=torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64))
    flat = FlatPosterior(model)
    chain = NoUTurnSampler(flat, max_depth=4).sample(flat.start, 30, 30, generator=seed())
    found = flat.values(chain.vectors)
    assert float(found["mu"].mean()) == pytest.approx(4.4, abs=4)
    assert 0.8 < float(found["tau"].median()) < 6
    assert found["z"].shape == (30, 8)


def test_refusals():
    with pytest.raises(ValueError, match="target"):
        NoUTurnSampler(normal, target=1.0)
    with pytest.raises(ValueError, match="steps"):
        HamiltonianMonteCarlo(normal, 0)
    with pytest.raises(ValueError, match="samples"):
        NoUTurnSampler(normal).sample(torch.zeros(2, dtype=torch.float64), 0)
    with pytest.raises(ValueError, match="at start"):
        NoUTurnSampler(lambda v: v.log().sum()).sample(torch.zeros(2))
    with pytest.raises(ValueError, match="no maximum"):
        laplace(lambda v: v.square().sum(), torch.zeros(2))
