"""The theory of diluted networks against closed forms, its own identities, and a large simulated network."""

import math

import pytest
import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory
from neurarium.theory import (
    critical_dilution,
    energy_from_losses,
    multitasking_overlaps,
    multitasking_step,
    phase_of,
    retrieval_losses,
)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_critical_dilution():
    assert critical_dilution(3) == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-12)
    for k, known in ((4, 0.5437), (5, 0.5188), (8, 0.5020)):
        root = critical_dilution(k)
        assert root == pytest.approx(known, abs=5e-5)
        assert abs(1 - 2 * root + root**k) < 1e-12
    assert critical_dilution(2) == 1.0
    with pytest.raises(ValueError, match="at least 1"):
        critical_dilution(0)


def test_the_hierarchical_state_is_a_fixed_point_up_to_there():
    assert multitasking_overlaps(3, 0.2, 0.0).patterns.tolist() == pytest.approx([0.8, 0.16, 0.032], abs=1e-12)
    for dilution, holds in ((0.60, True), (0.63, False)):
        m = (1 - dilution) * dilution ** torch.arange(3, dtype=torch.float64)
        after = multitasking_step(m, dilution, 0.0)[0]
        assert torch.allclose(after, m, atol=1e-12) is holds


@pytest.mark.parametrize(("entropy", "expected"), [(0.0, 0.858560), (0.4, None)])
def test_one_pattern_without_blanks(entropy, expected):
    found = multitasking_overlaps(1, 0.0, 1 / 1.5, entropy)
    if expected:
        assert float(found.patterns) == pytest.approx(expected, abs=1e-6)  # Curie and Weiss
    m, n = float(found.patterns), float(found.examples)
    assert m > 0.7  # below the critical temperature 1 + rho, so not the trivial solution
    # By Stein's lemma n = m + rho beta n (1 - q), q = E tanh^2: integrate both sides by brute force.
    z = torch.randn(2_000_000, generator=draw(), dtype=torch.float64)
    response = torch.tanh(1.5 * n * (1 + math.sqrt(entropy) * z))
    assert m == pytest.approx(float(response.mean()), abs=2e-3)
    assert n == pytest.approx(m + entropy * 1.5 * n * float(1 - response.square().mean()), abs=3e-3)


def test_zero_noise_accuracy_of_one_pattern():
    for entropy in (0.1, 0.26, 1.0):
        m, _ = multitasking_step(torch.ones(1, dtype=torch.float64), 0.0, 0.0, entropy)
        assert float(m) == pytest.approx(math.erf(1 / math.sqrt(2 * entropy)), abs=1e-12)
        near, _ = multitasking_step(torch.ones(1, dtype=torch.float64), 0.0, 1e-2, entropy)
        assert float(near) == pytest.approx(float(m), abs=2e-3)


def test_known_states_of_three_patterns():
    parallel = multitasking_overlaps(3, 0.8, 0.3 * 0.2)
    assert (parallel.patterns / 0.2).tolist() == pytest.approx([0.814] * 3, abs=1e-3)
    assert parallel.phase == "parallel"
    assert parallel.stable
    ranked = multitasking_overlaps(3, 0.8, 0.02 * 0.2)
    assert (ranked.patterns / 0.2).tolist() == pytest.approx([0.980, 0.820, 0.660], abs=1e-3)
    pure = multitasking_overlaps(3, 0.3, 0.5 * 0.7)
    assert (pure.patterns / 0.7).tolist() == pytest.approx([0.958, 0, 0], abs=1e-3)
    assert pure.phase == "pure"
    assert multitasking_overlaps(3, 0.3, 1.01 * 0.7).phase == "ergodic"
    assert not multitasking_overlaps(3, 0.1, 0.01, start="parallel").stable


@pytest.mark.parametrize(("temperature", "stable"), [(0.69, False), (0.71, True)])
def test_growth_at_zero_crosses_one_at_the_critical_temperature(temperature, stable):
    found = multitasking_overlaps(3, 0.3, temperature, max_iterations=1)
    zero = torch.zeros(3, dtype=torch.float64)
    slope = torch.func.jacrev(lambda n: multitasking_step(n, 0.3, temperature)[0])(zero)
    assert torch.allclose(slope, torch.eye(3, dtype=torch.float64) * 0.7 / temperature)
    assert bool(slope[0, 0] < 1) is stable
    assert found.iterations == 1


def test_many_patterns_by_sobol_points():
    listed = multitasking_overlaps(8, 0.4, 0.1, start="pure").patterns
    sampled = multitasking_overlaps(9, 0.4, 0.1, start="pure").patterns
    assert float(sampled[0]) == pytest.approx(float(listed[0]), abs=0.01)


def test_losses_and_energy():
    patterns = diluted_patterns(4, 50, 0.4, generator=draw()).double()
    states = torch.randint(2, (6, 50), generator=draw(1)).double() * 2 - 1
    blank = (patterns == 0).double().mean(1)
    m = states @ patterns.T / 50
    below, above = retrieval_losses(patterns, states.unsqueeze(1))
    assert torch.allclose(below, 1 - blank / 2 - m, atol=1e-12)
    assert torch.allclose(below * above, (1 - blank / 2) ** 2 - m**2, atol=1e-12)
    memory = HebbianMemory(50, dtype=torch.float64).store(patterns)
    assert torch.allclose(energy_from_losses(patterns, states), memory.energy(states), atol=1e-11)


@pytest.mark.parametrize(("examples", "supervised"), [(80, True), (80, False), (300, True)])
def test_learning_against_theory(examples, supervised):
    n, dilution, quality = 8000, 0.3, 0.3
    generator = draw(3)
    patterns = diluted_patterns(3, n, dilution, sampling="columns", generator=generator)
    memory = HebbianMemory(n, quality=quality, num_patterns=3)
    labels = torch.arange(3).unsqueeze(1).expand(3, examples) if supervised else None
    memory.learn(noisy_examples(patterns, quality, examples, generator), labels)
    start = torch.where(patterns[0] == 0, torch.where(patterns[1] == 0, torch.ones(()), patterns[1]), patterns[0])
    state = memory.relax(start.expand(2, -1), 0.1, 15, generator)
    found = float((state @ patterns[0] / n).mean())
    theory = multitasking_overlaps(3, dilution, 0.1, (1 - quality**2) / (examples * quality**2)).patterns[0]
    assert found == pytest.approx(float(theory), abs=0.02)
    assert float(theory) == pytest.approx({80: 0.676, 300: 0.703}[examples], abs=0.005)


def test_phase_names():
    assert phase_of(torch.tensor([0.0, 0.001])) == "ergodic"
    assert phase_of(torch.tensor([0.5, 0.2, 0.0])) == "hierarchical"
    assert phase_of(torch.tensor([0.9])) == "parallel"


@pytest.mark.parametrize("arguments", [(3, 1.0, 0.1), (3, 0.5, -0.1), (0, 0.5, 0.1), (3, 0.5, 0.1, -1.0)])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="need num_patterns"):
        multitasking_overlaps(*arguments)


def test_bad_start():
    with pytest.raises(ValueError, match="start must be one of"):
        multitasking_overlaps(3, 0.5, 0.1, start="spurious")


@pytest.mark.parametrize("dilution", [0.0, 0.9, 0.99, 0.9999])
def test_a_phase_is_named_by_shares_of_what_an_overlap_can_be(dilution):
    found = multitasking_overlaps(3, dilution, 0.3 * (1 - dilution), start="parallel")
    assert float(found.patterns.min() / (1 - dilution)) > 0.3
    assert found.phase in ("parallel", "hierarchical")
    assert multitasking_overlaps(3, 0.99, 0.003).phase in ("parallel", "hierarchical")
    assert multitasking_overlaps(3, dilution, 2.0 * (1 - dilution)).phase == "ergodic"


def test_the_columns_that_were_drawn_take_the_place_of_the_expectation():
    exact = diluted_patterns(3, 27_000, 1 / 3, sampling="columns", generator=draw())  # every column a thousand times
    for temperature, entropy in ((0.05, 0.0), (0.2, 0.0), (0.1, 0.3)):
        limit = multitasking_overlaps(3, 1 / 3, temperature, entropy, max_iterations=40)
        counted = multitasking_overlaps(3, 1 / 3, temperature, entropy, patterns=exact, max_iterations=40)
        assert torch.allclose(counted.patterns, limit.patterns, atol=1e-9)
        assert counted.growth == pytest.approx(limit.growth, abs=1e-6)
    patterns = diluted_patterns(4, 30, 0.4, generator=draw(2)).double()
    m = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    by_neuron = torch.tanh(m @ patterns / 0.3) @ patterns.T / 30  # a parallel update, neuron by neuron
    assert torch.allclose(multitasking_step(m, 0.4, 0.3, patterns=patterns)[0], by_neuron, atol=1e-12)


def test_a_finite_network_follows_the_theory_of_its_own_columns():
    patterns = diluted_patterns(3, 1_000, 0.5, generator=draw(4))
    memory = HebbianMemory(1_000).store(patterns)
    start = torch.where(patterns[0] == 0, torch.where(patterns[1] == 0, torch.ones(()), patterns[1]), patterns[0])
    generator = draw(5)
    state = memory.relax(start.expand(16, -1), 0.15, 30, generator)
    found = torch.zeros(3)
    for _ in range(20):
        state = memory.relax(state, 0.15, 1, generator)
        found += (state @ patterns.T / 1_000).mean(0) / 20
    own = multitasking_overlaps(3, 0.5, 0.15, patterns=patterns).patterns.float()
    limit = multitasking_overlaps(3, 0.5, 0.15).patterns.float()
    assert float((found - own).abs().max()) < 0.01
    assert float((found - limit).abs().max()) > 0.03


def test_patterns_of_another_number_are_refused():
    with pytest.raises(ValueError, match="num_patterns = 3"):
        multitasking_overlaps(3, 0.5, 0.1, patterns=torch.ones(2, 10))
