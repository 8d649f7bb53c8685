"""Restricted Boltzmann machines against enumeration, autograd, limiting cases and scikit-learn."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from neurarium.layers import SparseLinear
from neurarium.models import RBM, ContrastiveDivergence, fit_rbm, log_likelihood, log_partition, pseudo_likelihood
from neurarium.models.boltzmann._partition import binary_states


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(visible, hidden, scale=0.7, seed=0, **options):
    """A machine of random parameters, in double precision."""
    machine = RBM(visible, hidden, generator=seeded(seed), **options).double()
    with torch.no_grad():
        for p in machine.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=seeded(seed + 1), dtype=torch.float64))
    return machine


@pytest.fixture
def worked():
    """Three visible and two hidden units of known numbers."""
    machine = RBM(3, 2).double()
    with torch.no_grad():
        machine.weights.weight.copy_(torch.tensor([[0.5, -1], [1, 0.5], [-0.5, 0.25]]).T)
        machine.weights.bias.copy_(torch.tensor([-0.4, 0.2]))
        machine.visible_bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return machine


def states(units):
    return torch.cat(list(binary_states(units, torch.zeros(1, dtype=torch.float64))))


def joint(machine):
    """All visible states, and the exact log-probability of each, by brute force over both layers."""
    v, h = states(machine.visible), states(machine.hidden)
    minus = torch.stack([-machine.energy(v, row.expand(len(v), -1)) for row in h], 1)
    return v, minus.logsumexp(1) - minus.logsumexp((0, 1))


def test_worked_numbers(worked):
    v = torch.tensor([[1.0, 0, 1]], dtype=torch.float64)
    assert math.isclose(log_partition(worked, "exact").value, 3.789338, abs_tol=1e-6)
    assert math.isclose(float(worked.free_energy(v).detach()), -1.368508, abs_tol=1e-6)
    assert math.isclose(log_likelihood(worked, v).mean, -2.420830, abs_tol=1e-6)


@pytest.mark.parametrize(("visible", "hidden"), [(7, 3), (3, 7)])
def test_enumeration_of_either_side_is_that_of_both(visible, hidden):
    machine = drawn(visible, hidden)
    v, log_p = joint(machine)
    torch.testing.assert_close(log_likelihood(machine, v).each, log_p)


def test_without_weights_the_units_are_independent():
    machine = drawn(6, 4)
    with torch.no_grad():
        machine.weights.weight.zero_()
    expected = softplus(machine.visible_bias).sum() + softplus(machine.weights.bias).sum()
    assert math.isclose(log_partition(machine, "exact").value, float(expected.detach()), rel_tol=1e-12)


def test_gaussian_units_without_weights_are_a_normal_law_and_with_them_a_mixture():
    machine = drawn(3, 2, visible_units="gaussian")
    x = torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    h = states(2)
    component = torch.distributions.Normal(machine.visible_bias + h @ machine.weights.weight, 1.0)
    log_joint = -machine.energy(x[:, None].expand(5, 4, 3).reshape(-1, 3), h.repeat(5, 1)).reshape(5, 4)
    log_z = log_partition(machine, "exact").value
    prior = log_joint - component.log_prob(x[:, None]).sum(2)  # of h, whatever x
    torch.testing.assert_close(prior, prior[:1].expand(5, 4))
    torch.testing.assert_close(float(prior[0].logsumexp(0).detach()), log_z)
    torch.testing.assert_close(log_joint.logsumexp(1) - log_z, log_likelihood(machine, x).each)
    with torch.no_grad():
        machine.weights.weight.zero_()
    plain = 1.5 * math.log(2 * math.pi) + float(softplus(machine.weights.bias).sum().detach())
    assert math.isclose(log_partition(machine).value, plain, rel_tol=1e-12)


@pytest.mark.parametrize("units", ["binary", "gaussian"])
def test_label_probabilities_are_those_of_free_energies(units):
    machine = drawn(5, 4, visible_units=units, num_labels=3)
    x = states(5)[:9] if units == "binary" else torch.randn(9, 5, dtype=torch.float64, generator=seeded())
    each = torch.stack([-machine.free_energy(machine.join(x, torch.full((9,), y))) for y in range(3)], 1)
    torch.testing.assert_close(machine.label_logits(x).log_softmax(1), each.log_softmax(1))
    if units == "binary":
        v = torch.cat([machine.join(states(5), torch.full((32,), y)) for y in range(3)])
        total = (-machine.free_energy(v)).logsumexp(0)
        assert math.isclose(log_partition(machine).value, float(total.detach()), rel_tol=1e-10)


def exact_gradient(machine, data):
    """Autograd through the enumerated likelihood."""
    v = states(machine.visible)
    loss = machine.free_energy(data).mean() + (-machine.free_energy(v)).logsumexp(0)
    return torch.autograd.grad(loss, list(machine.parameters()))


def test_long_chains_give_the_gradient_of_the_likelihood():
    machine, data = drawn(4, 3), states(4)[[1, 3, 6, 15]]
    for persistent in (0, 40_000):
        machine.zero_grad()
        rows = data.repeat(10_000, 1)
        rule = ContrastiveDivergence(machine, 40, persistent=persistent, mean_field=False, generator=seeded())
        rule.assign_credit(rows)
        for p, exact in zip(machine.parameters(), exact_gradient(machine, data), strict=True):
            torch.testing.assert_close(p.grad, exact, atol=1.5e-2, rtol=0)


def test_the_gradient_is_the_positive_less_the_negative_phase():
    machine, v = drawn(5, 3), states(5)[[1, 7, 30]]
    machine.assign_credit(v, 1, seeded())
    model = machine.gibbs(v, 1, seeded())
    phases = [machine.hidden_probabilities(x).T @ x / 3 for x in (v, model)]
    torch.testing.assert_close(machine.weights.weight.grad, (phases[1] - phases[0]).detach())
    torch.testing.assert_close(machine.visible_bias.grad, (model - v).mean(0))


def test_gibbs_sampling_leaves_the_machines_law_as_it_is():
    machine = drawn(3, 4, scale=1.0)
    v, log_p = joint(machine)
    count = 40_000
    expected = log_p.detach().exp() * count
    start = v[torch.multinomial(log_p.detach().exp(), count, replacement=True, generator=seeded())]
    after = machine.gibbs(start, 1, seeded(1), mean_field=False)
    found = torch.bincount((after @ torch.tensor([1.0, 2, 4], dtype=torch.float64)).long(), minlength=8)
    chi_square = float(((found - expected).square() / expected).sum())
    assert chi_square < 24.3  # one in a thousand, with 7 degrees of freedom
    still = machine.gibbs(v, 400, seeded(1), mean_field=False)
    assert set(still.flatten().tolist()) <= {0.0, 1.0}


def test_annealing_finds_the_exact_constant():
    for options in ({}, {"visible_units": "gaussian"}, {"num_labels": 3}):
        machine = drawn(12, 10, scale=0.6, **options)
        exact = log_partition(machine, "exact").value
        base = torch.zeros_like(machine.visible_bias)
        found = log_partition(machine, "ais", chains=300, temperatures=200, base_bias=base, generator=seeded())
        low, high = found.interval
        assert low < exact < high
        assert abs(found.value - exact) < 0.1
        assert found.standard_error < 0.08


@pytest.mark.untyped
def test_bars_and_stripes_are_learned():
    rows = states(3)
    bars = torch.cat([rows.repeat_interleave(3, 1), rows.repeat(1, 3)]).unique(dim=0).float()
    assert len(bars) == 14
    machine = RBM(9, 12, generator=seeded())
    for rate in (0.5, 0.1):
        fit_rbm(
            machine, [bars] * 80, epochs=5, learning_rate=rate, momentum=(0, 0), weight_decay=0, persistent=100,
            generator=seeded(),
        )  # fmt: skip
    assert -4 < log_likelihood(machine, bars).mean < -math.log(14)


def test_scikit_learn_agrees_on_the_pseudo_likelihood():
    from sklearn.neural_network import BernoulliRBM

    generator = seeded()
    prototypes = torch.rand(4, 20, generator=generator) < 0.5
    x = (prototypes[torch.arange(400) % 4] ^ (torch.rand(400, 20, generator=generator) < 0.1)).float()
    peer = BernoulliRBM(10, learning_rate=0.05, batch_size=20, n_iter=20, random_state=0).fit(x.numpy())
    ours = RBM(20, 10)
    with torch.no_grad():
        ours.weights.weight.copy_(torch.from_numpy(peer.components_))
        ours.weights.bias.copy_(torch.from_numpy(peer.intercept_hidden_))
        ours.visible_bias.copy_(torch.from_numpy(peer.intercept_visible_))
    mine = sum(pseudo_likelihood(ours, x, seeded(i)) for i in range(20)) / 20
    theirs = sum(float(peer.set_params(random_state=i).score_samples(x.numpy()).mean()) for i in range(20)) / 20
    assert math.isclose(mine, theirs, abs_tol=0.3)
    trained = fit_rbm(
        RBM(20, 10, generator=seeded()), list(x.split(20)), epochs=10, learning_rate=0.1, momentum=(0.5, 0.5),
        persistent=20, generator=seeded(),
    )  # fmt: skip
    assert pseudo_likelihood(trained, x, seeded()) > theirs - 0.5


def test_a_sparse_machine_keeps_its_pattern():
    machine = RBM(30, 20, density=0.1, generator=seeded())
    before = machine.weights.col.clone()
    fit_rbm(machine, [(torch.rand(50, 30, generator=seeded()) < 0.3).float()], epochs=3, generator=seeded())
    assert isinstance(machine.weights, SparseLinear)
    assert torch.equal(before, machine.weights.col)
    assert log_partition(machine).value > 0


def test_persistent_chains_are_part_of_the_state():
    rule = ContrastiveDivergence(drawn(5, 3), persistent=7, generator=seeded())
    rule.assign_credit(states(5))
    other = ContrastiveDivergence(drawn(5, 3, seed=4), persistent=7, generator=seeded())
    other.load_state_dict(rule.state_dict())
    assert torch.equal(rule.chains, other.chains)


@pytest.mark.untyped
def test_unknown_units_are_refused():
    with pytest.raises(ValueError, match="visible_units"):
        RBM(3, 2, visible_units="real")


def test_refusals():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        fit_rbm(RBM(3, 2), [torch.randn(5, 3)])
    with pytest.raises(ValueError, match="standardise"):
        fit_rbm(RBM(3, 2, visible_units="gaussian"), [255 * torch.rand(5, 3)])
    with pytest.raises(ValueError, match=r"2\^30 states"):
        log_partition(RBM(40, 30), "exact")
    with pytest.raises(ValueError, match="label"):
        fit_rbm(RBM(3, 2, num_labels=2), [torch.rand(5, 3)])
    with pytest.raises(ValueError, match="num_labels"):
        RBM(3, 2).label_logits(torch.rand(5, 3))
    with pytest.raises(ValueError, match="steps"):
        ContrastiveDivergence(RBM(3, 2), 0)
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit_rbm(
            RBM(3, 2, visible_units="gaussian"), [torch.randn(50, 3, generator=seeded())], epochs=300, learning_rate=1e3
        )
