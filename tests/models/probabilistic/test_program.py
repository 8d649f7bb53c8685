"""Probabilistic programs: divergences, evidence and gradients in closed form; bookkeeping of what was used."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Cauchy, Gamma, HalfNormal, Normal, kl_divergence

from neurarium.models import (
    FlatPosterior,
    NormalApproximation,
    PointMass,
    ProbabilisticModule,
    SameFamily,
    elbo_loss,
    resample,
)


class Mean(ProbabilisticModule):
    """Ten observations around an unknown mean."""

    def __init__(self, **options):
        super().__init__(**options)
        self.theta = Normal(torch.zeros((), dtype=torch.float64), 1.0)

    def forward(self):
        self.y = Normal(self.theta, 1.0)
        return self.theta


DATA = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.7


def fitted(model, steps=150, rate=0.1, draws=3):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(draws):
            resample(model)
            model()
            (elbo_loss(model) / draws).backward()
        optimizer.step()
        schedule.step()
    return model


def evidence():
    """log p(y) of the conjugate model: y is normal with covariance 1 + identity."""
    covariance = torch.eye(10, dtype=torch.float64) + 1
    return torch.distributions.MultivariateNormal(torch.zeros(10, dtype=torch.float64), covariance).log_prob(DATA)


def test_variational_inference_finds_the_conjugate_posterior_and_the_evidence():
    torch.manual_seed(0)
    model = Mean()
    model.observe(y=DATA)
    fitted(model)
    q = model.approximations["theta"]
    assert float(q.mean.detach()) == pytest.approx(float(DATA.sum()) / 11, abs=0.05)
    assert float(q.log_scale.detach().exp()) == pytest.approx(11**-0.5, rel=0.1)
    with torch.no_grad():
        q.mean.fill_(float(DATA.sum()) / 11)
        q.log_scale.fill_(-0.5 * math.log(11))
        for _ in range(3):  # at the posterior the sampled bound is the evidence for every draw
            resample(model)
            model()
            assert float(elbo_loss(model, estimator="sampled")) == pytest.approx(-float(evidence()), rel=1e-9)


def test_sampled_divergence_has_the_exact_one_as_its_mean():
    torch.manual_seed(0)
    model = Mean()
    with torch.no_grad():
        model.approximations["theta"].mean.fill_(1.0)
        model.approximations["theta"].log_scale.fill_(0.0)
    losses = []
    for _ in range(400):
        resample(model)
        model.theta  # noqa: B018
        losses.append(float(elbo_loss(model, estimator="sampled")))
    assert float(elbo_loss(model)) == pytest.approx(0.5)  # KL(N(1, 1) || N(0, 1))
    found = torch.tensor(losses)
    assert abs(float(found.mean()) - 0.5) < 4 * float(found.std()) / 400**0.5
    cauchy = ProbabilisticModule()
    cauchy.z = Cauchy(torch.zeros(()), 1.0)
    drawn = cauchy.z
    assert float(elbo_loss(cauchy)) == pytest.approx(
        float(Normal(0.0, math.exp(-3)).log_prob(drawn) - Cauchy(0.0, 1.0).log_prob(drawn)), rel=1e-4
    )


@pytest.mark.parametrize("estimator", ["auto", "sampled", "path"])
def test_gradients_have_the_mean_of_the_exact_one(estimator):
    torch.manual_seed(1)
    model = Mean()
    model.observe(y=DATA)
    q = model.approximations["theta"]
    with torch.no_grad():
        q.mean.fill_(0.3)
        q.log_scale.fill_(-0.5)
    found = []
    for _ in range(300):
        resample(model)
        model()
        found.append(torch.stack(torch.autograd.grad(elbo_loss(model, estimator=estimator), list(q.parameters()))))
    grads = torch.stack(found)
    # E[loss] = 11 (m^2 + s^2) / 2 - m sum(y) - log s + constant
    wanted = torch.tensor([11 * 0.3 - float(DATA.sum()), 11 * math.exp(-1.0) - 1], dtype=torch.float64)
    assert bool(((grads.mean(0) - wanted).abs() < 4 * grads.std(0) / 300**0.5 + 1e-9).all())


class Switch(ProbabilisticModule):
    """A coin decides which of two variables there is."""

    def __init__(self):
        super().__init__()
        self.coin = Bernoulli(logits=torch.tensor(0.4, dtype=torch.float64))

    def forward(self):
        if float(self.coin) > 0:
            self.high = Normal(torch.tensor(2.0, dtype=torch.float64), 0.5)
            centre = self.high
        else:
            centre = torch.tensor(-1.0, dtype=torch.float64)
        self.y = Normal(centre, 1.0)
        return centre


def test_branches_count_only_what_was_made():
    torch.manual_seed(0)
    model = Switch()
    model.observe(y=torch.tensor(1.0, dtype=torch.float64))
    seen = set()
    for _ in range(30):
        resample(model)
        model()
        coin = float(model.coin)
        q = model.approximations["coin"].draw(model.program.variables["coin"].prior).distribution
        likelihood = float(Normal(model.high if coin else -1.0, 1.0).log_prob(torch.tensor(1.0)))
        wanted = float(kl_divergence(q, Bernoulli(logits=torch.tensor(0.4, dtype=torch.float64)))) - likelihood
        if coin:
            around = Normal(model.approximations["high"].mean, model.approximations["high"].log_scale.exp())
            wanted += float(kl_divergence(around, Normal(torch.tensor(2.0, dtype=torch.float64), 0.5)))
        else:
            with pytest.raises(AttributeError, match="high"):
                model.high  # noqa: B018
        assert float(elbo_loss(model)) == pytest.approx(wanted, rel=1e-5)
        seen.add(coin)
    assert seen == {0.0, 1.0}


def test_the_score_function_has_the_gradient_of_the_mean_over_both_sides():
    """One coin: the mean of the loss over its sides is a sum of two terms, whose gradient is exact."""

    class Coin(ProbabilisticModule):
        def __init__(self):
            super().__init__()
            self.coin = Bernoulli(logits=torch.tensor(0.4, dtype=torch.float64))

        def forward(self):
            self.y = Normal(3 * self.coin, 1.0)

    torch.manual_seed(0)
    model = Coin()
    model.observe(y=torch.tensor(1.0, dtype=torch.float64))
    logits = model.approximations["coin"].arguments["logits"]
    found = []
    for _ in range(600):
        resample(model)
        model()
        found.append(torch.autograd.grad(elbo_loss(model, estimator="sampled"), logits)[0])
    grads = torch.stack(found)
    free = logits.detach().clone().requires_grad_()
    p = free.sigmoid()
    cost = torch.stack([-Normal(3.0 * k, 1.0).log_prob(torch.tensor(1.0, dtype=torch.float64)) for k in (0, 1)])
    mean = p * cost[1] + (1 - p) * cost[0] + kl_divergence(Bernoulli(p), Bernoulli(logits=torch.tensor(0.4).double()))
    (wanted,) = torch.autograd.grad(mean, free)
    assert abs(float(grads.mean() - wanted)) < 4 * float(grads.std()) / 600**0.5


def test_the_scaling_is_of_the_divergence_alone():
    model = Mean()
    model.observe(y=DATA)
    model()
    whole, half, none = (float(elbo_loss(model, scaling)) for scaling in (1.0, 0.5, 0.0))
    assert half == pytest.approx((whole + none) / 2)
    assert none == pytest.approx(-float(Normal(model.theta.detach(), 1.0).log_prob(DATA).sum()))


def test_at_the_posterior_the_path_gradient_is_nought_for_every_draw():
    model = Mean()
    model.observe(y=DATA)
    q = model.approximations["theta"]
    with torch.no_grad():
        q.mean.fill_(float(DATA.sum()) / 11)
        q.log_scale.fill_(-0.5 * math.log(11))
    model()
    found = torch.stack(torch.autograd.grad(elbo_loss(model, estimator="path"), list(q.parameters())))
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)


def test_a_mapped_normal_has_the_density_of_its_map():
    prior = Gamma(torch.tensor([3.0, 2.0]), 2.0)
    drawn = NormalApproximation(prior, -0.5).draw(prior)
    torch.testing.assert_close(drawn.log_prob, drawn.distribution.log_prob(drawn.value).sum())


def test_one_execution_sees_one_draw():
    model = Mean()
    first = model()
    assert model() is first
    assert model.theta is first
    resample(model)
    assert model() is not first


def test_hierarchies_keep_their_links():
    class Levels(ProbabilisticModule):
        def forward(self):
            self.scale = HalfNormal(torch.ones(()))
            self.x = Normal(torch.zeros(3), self.scale)
            return self.x

    model = Levels()
    model()
    assert torch.equal(model.program.variables["x"].prior.scale, model.scale.expand(3))
    assert float(model.scale) > 0
    flat = FlatPosterior(model)
    assert flat.start.shape == (4,)
    at = torch.tensor([0.3, 1.0, -0.5, 0.2])
    scale = math.exp(0.3)
    wanted = HalfNormal(1.0).log_prob(torch.tensor(scale)) + 0.3 + Normal(0.0, scale).log_prob(at[1:]).sum()
    assert float(flat(at)) == pytest.approx(float(wanted), rel=1e-5)
    values = flat.values(at[None])
    torch.testing.assert_close(values["scale"], torch.tensor([scale]))
    torch.testing.assert_close(values["x"], at[None, 1:])


def test_point_masses_find_the_highest_point():
    model = Mean(posterior=PointMass)
    model.observe(y=DATA)
    fitted(model, 100, 0.1, 1)
    assert float(model.approximations["theta"].point) == pytest.approx(float(DATA.sum()) / 11, abs=5e-3)


def test_a_vector_needs_a_fixed_set_of_unknowns():
    class Sign(ProbabilisticModule):
        def forward(self):
            self.a = Normal(torch.ones(()), 1.0)
            if float(self.a.detach()) > 0:
                self.b = Normal(self.a, 1.0)

    def of(model, start):
        model.approximations["a"] = PointMass(Normal(torch.tensor(start), 1.0))
        return FlatPosterior(model)

    flat = of(Sign(), 1.0)
    assert flat(torch.tensor([0.5, 0.0])).isfinite()
    for ask in (flat, flat.values):
        with pytest.raises(ValueError, match="'b' was observed since, or not made"):
            ask(torch.tensor([-0.5, 0.0]))
    with pytest.raises(ValueError, match="'b' is new"):
        of(Sign(), -1.0)(torch.tensor([0.5]))
    known = Mean()
    flat = FlatPosterior(known)
    known.observe(theta=torch.tensor(0.3))
    for ask in (flat, flat.values):
        with pytest.raises(ValueError, match="observed since"):
            ask(flat.start)


def test_far_out_a_density_is_no_number_and_no_error():
    """A sampler's step may lead there: the scale overflows, and torch would refuse the distribution's arguments."""

    class Scaled(ProbabilisticModule):
        def forward(self):
            self.scale = HalfNormal(torch.ones(()))
            self.z = Normal(torch.zeros(2), 1.0)
            self.y = Normal(self.scale * self.z, 1.0)

    model = Scaled()
    model.observe(y=torch.zeros(2))
    flat = FlatPosterior(model)
    assert not flat(torch.tensor([200.0, 0.0, 1.0])).isfinite()
    with pytest.raises(ValueError, match="scale"):  # elsewhere torch checks as before
        Normal(0.0, -1.0)


def test_own_families_begin_at_the_prior():
    prior = Gamma(torch.tensor(3.0), torch.tensor(2.0))
    drawn = SameFamily(prior).draw(prior)
    assert float(kl_divergence(drawn.distribution, prior)) == pytest.approx(0, abs=1e-6)
    inner = NormalApproximation(prior)
    assert float(inner.draw(prior).value) > 0


def test_modules_inside_modules_copies_and_devices():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Mean()

        def forward(self):
            return self.inner()

    model = Outer()
    model.inner.observe(y=DATA)
    model()
    twin = copy.deepcopy(model)
    twin()
    assert torch.isfinite(elbo_loss(twin))
    assert twin.inner.approximations["theta"].mean is not model.inner.approximations["theta"].mean
    fresh = Outer()
    fresh.load_state_dict(model.state_dict())
    model.float()
    resample(model)
    assert model().dtype == torch.float32
    elbo_loss(model).backward()


def test_unread_variables_are_named_and_bad_observations_refused():
    model = Mean()
    model.observe(y=DATA)
    model.extra = Normal(torch.zeros(2), 1.0)
    model()
    with pytest.warns(UserWarning, match="extra"):
        elbo_loss(model)
    positive = ProbabilisticModule()
    positive.s = HalfNormal(torch.ones(()))
    with pytest.raises(ValueError, match="'s'"):
        positive.observe(s=-1.0)
    wide = ProbabilisticModule()
    wide.v = Normal(torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"shape \(2,\), its prior \(3,\)"):
        wide.observe(v=torch.zeros(2))
    with pytest.raises(ValueError, match="call it first"):
        elbo_loss(ProbabilisticModule())
    with pytest.raises(ValueError, match="estimator"):
        elbo_loss(model, estimator="best")
    coin = ProbabilisticModule()
    coin.c = Bernoulli(torch.tensor(0.5))
    with pytest.raises(ValueError, match="discrete"):
        FlatPosterior(coin, lambda: coin.c)
    with pytest.raises(TypeError, match="another posterior"):
        SameFamily(torch.distributions.Independent(Normal(torch.zeros(2), 1.0), 1))
