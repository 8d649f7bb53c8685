"""Dense Hebbian networks with a teacher: published limits, identities, and simulations of the network itself."""

import math

import pytest
import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory
from neurarium.theory import (
    critical_load,
    crosstalk,
    dataset_entropy,
    one_step_overlap,
    phase_diagram,
    replica_symmetric,
)


def simulated_step(neurons, patterns, order, contact, quality, examples):
    """Overlap with 200 hidden patterns after one parallel step from each, in a network taught by labelled examples."""
    generator = torch.Generator().manual_seed(0)
    hidden = diluted_patterns(patterns, neurons, generator=generator)
    memory = HebbianMemory(neurons, order, contact=contact, quality=quality)
    for part, number in zip(hidden.split(5000), torch.arange(patterns).split(5000), strict=True):
        labels = number.unsqueeze(1).expand(-1, examples)
        memory.learn(noisy_examples(part, quality, examples, generator), labels)
    start = hidden[:: max(1, patterns // 200)]
    return float((memory.field(start).sign() * start).mean())


@pytest.mark.parametrize(
    ("size", "order", "contact", "quality", "examples", "expected"),
    [
        ((100, 20_000), 4, "all", 0.7, 20, 0.877),
        ((100, 20_000), 4, "distinct", 0.7, 20, 0.975),
        ((300, 60), 2, "all", 0.5, 10, 0.789),
    ],
)
def test_one_step_of_theory_and_of_the_network(size, order, contact, quality, examples, expected):
    neurons, patterns = size
    load = patterns / neurons ** (order - 1)
    assert float(one_step_overlap(order, load, quality, examples, contact=contact)) == pytest.approx(expected, abs=6e-4)
    assert simulated_step(neurons, patterns, order, contact, quality, examples) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("neurons", "order", "contact", "load", "heat", "tolerance"),
    [(1000, 2, "all", 0.05, 0.4, 0.01), (100, 4, "all", 0.003, 0.3, 0.02), (80, 4, "distinct", 0.01, 0.3, 0.02)],
)
def test_the_network_settles_where_theory_says(neurons, order, contact, load, heat, tolerance):
    generator = torch.Generator().manual_seed(1)
    patterns = diluted_patterns(round(load * neurons ** (order - 1)), neurons, generator=generator)
    memory = HebbianMemory(neurons, order, contact=contact).store(patterns)
    start = patterns[:32]
    state = memory.relax(start, heat, 15, generator)
    theory = float(replica_symmetric(order, load, heat, contact=contact).m)
    assert 0.8 < theory < 0.999
    assert float((state * start).mean()) == pytest.approx(theory, abs=tolerance)


def test_hot_or_crowded_networks_forget_as_theory_says():
    generator = torch.Generator().manual_seed(2)
    for load, heat in ((0.002, 1.2), (0.03, 0.3)):
        assert float(replica_symmetric(4, load, heat).m) < 1e-3
        patterns = diluted_patterns(round(load * 80**3), 80, generator=generator)
        state = HebbianMemory(80, 4).store(patterns).relax(patterns[:16], heat, 60, generator)
        assert float((state * patterns[:16]).mean()) < 0.35


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


def test_zero_temperature_is_that_of_amit_gutfreund_and_sompolinsky():
    load, heat = 0.1, 1e-5
    solution = replica_symmetric(2, load, heat)
    m, response = float(solution.m), float((1 - solution.q) / heat)
    deviation = math.sqrt(load) / (1 - response)
    assert m == pytest.approx(math.erf(m / deviation / math.sqrt(2)), abs=1e-6)
    assert response == pytest.approx(
        math.sqrt(2 / math.pi) / deviation * math.exp(-((m / deviation) ** 2) / 2), abs=1e-5
    )


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


def test_phase_diagram():
    phases = phase_diagram(4, torch.tensor([0.001, 0.03]), torch.tensor([0.05, 0.9]))
    assert phases.tolist() == [[2, 1], [0, 0]]


@pytest.mark.untyped
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
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
