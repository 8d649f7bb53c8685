"""Dense Hebbian networks without a teacher: identities, limits, and simulations of the network itself."""

import math

import pytest
import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory
from neurarium.theory import (
    crosstalk,
    dataset_entropy,
    examples_needed,
    loss_from_overlap,
    one_step_overlap,
    overlap_from_loss,
    replica_symmetric,
)
from neurarium.theory.hebbian._replica_theory import _hopfield_noise


@pytest.mark.parametrize(
    ("size", "order", "contact", "quality", "examples", "expected", "tolerance"),
    [
        ((300, 60), 2, "all", 0.5, 10, 0.736, 0.03),
        ((300, 60), 2, "distinct", 0.3, 20, 0.528, 0.04),
        ((60, 6000), 4, "distinct", 0.6, 40, 0.862, 0.03),
        ((100, 20_000), 4, "distinct", 0.7, 20, 0.946, None),  # too large to simulate here
        ((100, 20_000), 4, "all", 0.7, 20, 0.651, None),
    ],
)
def test_one_step_of_theory_and_of_the_network(size, order, contact, quality, examples, expected, tolerance):
    neurons, patterns = size
    load = patterns / neurons ** (order - 1)
    theory = one_step_overlap(order, load, quality, examples, training="unsupervised", contact=contact)
    assert float(theory) == pytest.approx(expected, abs=6e-4)
    if tolerance:
        generator = torch.Generator().manual_seed(0)
        hidden = diluted_patterns(patterns, neurons, generator=generator)
        memory = HebbianMemory(neurons, order, contact=contact, quality=quality, num_patterns=patterns)
        memory.learn(noisy_examples(hidden, quality, examples, generator))
        start = hidden[:60]
        found = float((memory.field(start).sign() * start).mean())
        partners = math.perm(neurons - 1, order - 1) if contact == "distinct" else neurons ** (order - 1)
        finite = one_step_overlap(
            order, patterns / partners, quality, examples, training="unsupervised", contact=contact
        )
        assert found == pytest.approx(float(finite), abs=tolerance)


@pytest.mark.parametrize(
    ("neurons", "order", "load", "quality", "examples", "heat"),
    [(1000, 2, 0.03, 0.5, 40, 0.3), (80, 4, 0.002, 0.8, 20, 0.25)],
)
def test_the_network_settles_where_theory_says(neurons, order, load, quality, examples, heat):
    generator = torch.Generator().manual_seed(1)
    patterns = diluted_patterns(round(load * neurons ** (order - 1)), neurons, generator=generator)
    memory = HebbianMemory(
        neurons, order, contact="distinct", quality=quality, normalization="entropy", num_patterns=len(patterns)
    )
    memory.learn(noisy_examples(patterns, quality, examples, generator))
    start = patterns[:24]
    state = memory.relax(start, heat, 15, generator)
    theory = replica_symmetric(
        order, load, heat, quality, examples, training="unsupervised", contact="distinct", normalization="entropy"
    )
    assert 0.8 < float(theory.m) < 0.999
    assert float((state * start).mean()) == pytest.approx(float(theory.m), abs=0.02)


def test_entropy_of_products():
    assert float(dataset_entropy(0.5, 100, 4)) == pytest.approx((1 - 1 / 256) * 256 / 100)
    assert float(dataset_entropy(0.5, 100)) == pytest.approx(0.03)


def test_many_examples_are_as_good_as_the_pattern():
    stored = replica_symmetric(4, 0.004, 0.3, contact="distinct")
    many = replica_symmetric(4, 0.004, 0.3, 0.6, 1e9, training="unsupervised", contact="distinct")
    torch.testing.assert_close(stored.m, many.m)
    plain = replica_symmetric(4, 0.004, 0.3, 0.6, 1e9, training="unsupervised")  # coinciding indices leave a trace
    assert float(plain.m) < float(stored.m) - 1e-3


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


def test_hopfield_without_a_teacher_feels_every_mode():
    # response-free part is 1 + rho_2; with quality 1 the modes are those of stored patterns
    rho, rho2 = float(dataset_entropy(0.5, 10)), float(dataset_entropy(0.5, 10, 2))
    assert (1 + rho) ** 2 + 9 * rho**2 == pytest.approx(1 + rho2)
    stored = replica_symmetric(2, 0.1, 0.2)
    learnt = replica_symmetric(2, 0.1, 0.2, 1.0, 5, training="unsupervised")
    torch.testing.assert_close(stored.m, learnt.m)


@pytest.mark.parametrize("training", ["supervised", "unsupervised"])
def test_noise_of_pairs_is_the_slope_of_the_couplings_r_transform(training):
    # R(x) = z(x) - 1/x with the mean resolvent G(z) = x, so R' = 1/G' + 1/G^2, from the eigenvalues of real couplings
    neurons, patterns, examples, quality = 1200, 120, 4, 0.6
    generator = torch.Generator().manual_seed(0)
    shown = noisy_examples(diluted_patterns(patterns, neurons, generator=generator), quality, examples, generator)
    rows = (shown.mean(1) if training == "supervised" else shown.flatten(0, 1) / math.sqrt(examples)).double() / quality
    levels = torch.linalg.eigvalsh(rows.T @ rows / neurons)
    z = 1.3 * levels.max()
    resolvent, slope = (1 / (z - levels)).mean(), -(1 / (z - levels)).square().mean()
    found = float(1 / slope + 1 / resolvent**2)
    arguments = (torch.ones(()), resolvent, torch.tensor(quality).double(), torch.tensor(examples).double())
    expected = patterns / neurons * float(_hopfield_noise(2, *arguments, training, "all"))
    assert found == pytest.approx(expected, rel=0.03)
    assert expected > 1.5 * patterns / neurons * float(crosstalk(2, 1.0, quality, examples, training, "all"))


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: examples_needed(4, 0.001, 0.5, 1.0), "overlap must be"),
        (lambda: overlap_from_loss(1.2), "loss must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
