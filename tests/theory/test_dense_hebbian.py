"""Dense Hebbian networks: published limits, identities, and simulations of the network itself."""

import math

import pytest
import torch

from neurarium.theory import (
    critical_load,
    crosstalk,
    dataset_entropy,
    examples_needed,
    loss_from_overlap,
    one_step_overlap,
    overlap_from_loss,
    phase_diagram,
    replica_symmetric,
)


@pytest.mark.parametrize(
    ("order", "load", "quality", "examples", "training", "contact", "expected"),
    [
        (4, 0.02, 0.7, 20, "supervised", "all", 0.877),
        (4, 0.02, 0.7, 20, "supervised", "distinct", 0.975),
        (2, 0.2, 0.5, 10, "supervised", "all", 0.789),
        (2, 0.2, 0.5, 10, "unsupervised", "all", 0.736),
        (2, 0.2, 0.3, 20, "unsupervised", "distinct", 0.528),
        (4, 0.02, 0.7, 20, "unsupervised", "distinct", 0.946),
        (4, 6000 / 60**3, 0.6, 40, "unsupervised", "distinct", 0.862),
        (4, 0.02, 0.7, 20, "unsupervised", "all", 0.651),
    ],
)
def test_one_step(order, load, quality, examples, training, contact, expected):
    overlap = one_step_overlap(order, load, quality, examples, training=training, contact=contact)
    assert float(overlap) == pytest.approx(expected, abs=6e-4)


def test_crosstalk_of_a_simulated_field():
    # rows of other patterns, P = 4, all indices: the variance of sum x^3 eta over the signal's scale r^4
    generator = torch.Generator().manual_seed(0)
    size, patterns, examples, quality = 60, 4000, 4, 0.8
    hidden = torch.randint(0, 2, (patterns, 1, size), generator=generator) * 2.0 - 1
    keep = (torch.rand(patterns, examples, size, generator=generator) < (1 + quality) / 2) * 2.0 - 1
    rows = hidden * keep
    overlaps = (rows[..., 1:].sum(-1) / math.sqrt(size)) ** 3  # neuron 0 is left out of its own field
    field = (rows[..., 0] * overlaps).mean(1) / quality**4
    expected = float(crosstalk(4, 1.0, quality, examples, "unsupervised", "all"))
    assert float(field.square().mean()) == pytest.approx(expected, rel=0.25)
    means = rows.mean(1)
    supervised = means[:, 0] * (means[:, 1:].sum(-1) / math.sqrt(size)) ** 3 / quality**4
    assert float(supervised.square().mean()) == pytest.approx(
        float(crosstalk(4, 1.0, quality, examples, "supervised", "all")), rel=0.3
    )


def test_replica_symmetric_values():
    solution = replica_symmetric(4, torch.tensor([0.002, 0.005, 0.01, 0.02]), 0.25)
    torch.testing.assert_close(solution.m, torch.tensor([0.998, 0.993, 0.957, 0.0]).double(), atol=6e-4, rtol=0)
    assert solution.phase.tolist() == [2, 2, 2, 1]
    assert float(replica_symmetric(2, 0.0, 1 / 1.5).m) == pytest.approx(0.858560, abs=1e-6)
    assert abs(float(replica_symmetric(4, 0.002, 0.25, start="zero").m)) < 1e-12


def test_sharp_and_soft_averages_meet():
    # the two branches of the Gaussian average at a temperature on either side of the switch
    below, above = (replica_symmetric(4, 0.01, t, 0.8, 20) for t in (0.0290 * 0.5, 0.0310 * 0.5))
    assert float((below.m - above.m).abs()) < 1e-4
    assert float((below.q - above.q).abs()) < 1e-3


def test_stein_identity_of_examples():
    # n from its own definition, E (1 + sqrt(rho) z') tanh, by a two-dimensional quadrature
    order, load, heat, quality, examples = 4, 0.004, 0.3, 0.7, 15
    solution = replica_symmetric(order, load, heat, quality, examples)
    rho = float(dataset_entropy(quality, examples))
    u = torch.linspace(-7, 7, 401, dtype=torch.float64)
    weight = torch.softmax(-u.square() / 2, 0)
    noise = (load * crosstalk(order, solution.q, quality, examples, "supervised", "all")).sqrt()
    own = 1 + math.sqrt(rho) * u
    tanh = torch.tanh((solution.n ** (order - 1) * own[:, None] + noise * u[None]) / heat)
    assert float(((own * weight)[:, None] * weight * tanh).sum()) == pytest.approx(float(solution.n), abs=1e-6)


def test_critical_loads():
    assert critical_load(2) == pytest.approx(0.1379, abs=5e-4)  # Amit, Gutfreund and Sompolinsky
    assert 0.011 < critical_load(4) < 0.014
    assert critical_load(4, contact="distinct") > 2 * critical_load(4)
    assert critical_load(2, temperature=1.2) == 0


def test_hopfield_without_a_teacher_feels_every_mode():
    # response-free part is 1 + rho_2; with quality 1 the modes are those of stored patterns
    rho, rho2 = float(dataset_entropy(0.5, 10)), float(dataset_entropy(0.5, 10, 2))
    assert (1 + rho) ** 2 + 9 * rho**2 == pytest.approx(1 + rho2)
    stored = replica_symmetric(2, 0.1, 0.2)
    learnt = replica_symmetric(2, 0.1, 0.2, 1.0, 5, training="unsupervised")
    torch.testing.assert_close(stored.m, learnt.m)


def test_one_example_needs_no_teacher():
    arguments = (4, 0.003, 0.2, 0.9, 1)
    torch.testing.assert_close(
        replica_symmetric(*arguments).m, replica_symmetric(*arguments, training="unsupervised").m
    )
    warmer = replica_symmetric(*arguments, normalization="entropy")
    assert float(warmer.m) < float(replica_symmetric(*arguments).m)


def test_teacher_changes_how_examples_scale():
    def slope(training):
        few, many = (examples_needed(2, 0.1, r, 0.9, training=training) for r in (0.5, 0.3))
        return math.log(many / few) / math.log(0.5 / 0.3)

    assert slope("supervised") == pytest.approx(2.4, abs=0.05)
    assert slope("unsupervised") == pytest.approx(3.1, abs=0.05)
    for training in ("supervised", "unsupervised"):
        assert examples_needed(4, 0, 0.5, training=training) == pytest.approx(0.75 / (0.26 * 0.25), rel=0.01)
    with pytest.raises(ValueError, match="however many"):
        examples_needed(4, 0.5, 0.5)


def test_losses_are_overlaps():
    generator = torch.Generator().manual_seed(1)
    pattern, state = (torch.randint(0, 2, (50,), generator=generator).double() * 2 - 1 for _ in range(2))
    overlap = (pattern * state).mean()
    below, above = ((pattern - s * state).square().sum() / 100 for s in (1, -1))
    assert float(loss_from_overlap(overlap) - below * above) == pytest.approx(0, abs=1e-12)
    assert float(overlap_from_loss(below * above)) == pytest.approx(abs(float(overlap)), abs=1e-12)


def test_phase_diagram():
    phases = phase_diagram(4, torch.tensor([0.001, 0.03]), torch.tensor([0.05, 0.9]))
    assert phases.tolist() == [[2, 1], [0, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replica_symmetric(3, 0.1, 0.1), "order must be even"),
        (lambda: replica_symmetric(4, -0.1, 0.1), "must not be negative"),
        (lambda: replica_symmetric(4, 0.1, 0.1, training="semi"), "training must be"),
        (lambda: replica_symmetric(4, 0.1, 0.1, contact="some"), "contact must be"),
        (lambda: replica_symmetric(4, 0.1, 0.1, start="one"), "start must be"),
        (lambda: dataset_entropy(0.0, 3), "quality"),
        (lambda: dataset_entropy(0.5, 0), "examples"),
        (lambda: overlap_from_loss(1.2), "loss must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
