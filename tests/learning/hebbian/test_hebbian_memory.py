"""The Hebbian memory against brute force over all index tuples, Boltzmann weights, and itself learned in other ways."""

import itertools
import math

import pytest
import torch

from neurarium.learning import HebbianMemory, glauber

N = 7


def signs(*shape, seed=0, blanks=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(2, shape, generator=generator, dtype=dtype) * 2 - 1
    return values * (torch.rand(shape, generator=generator) >= blanks)


def brute_energy(rows, spins, order, distinct, c=1.0):
    """The P-fold sum, index tuple by index tuple."""
    n = rows.shape[1]
    pick = itertools.permutations if distinct else lambda items, times: itertools.product(items, repeat=times)
    total = sum(
        float(torch.stack([row[i] * spins[i] for i in at]).prod()) for row in rows for at in pick(range(n), order)
    )
    return -total / (order * n ** (order - 1)) / c


CASES = [(2, "all"), (2, "distinct"), (4, "all"), (4, "distinct"), (6, "distinct")]


@pytest.mark.parametrize(("order", "contact"), CASES)
@pytest.mark.parametrize("kind", ["signs", "blanks", "means"])
def test_energy_and_every_flip_against_loops(order, contact, kind):
    n = N if order < 6 else 6
    if order == 6 and kind == "blanks":
        n = 7
    memory = HebbianMemory(n, order, contact=contact, dtype=torch.float64)
    if kind == "means":
        memory.learn(signs(6, n, seed=3), torch.tensor([0, 0, 0, 1, 1, 1]))
    else:
        memory.store(signs(2, n, seed=1, blanks=0.3 if kind == "blanks" else 0.0))
    spins = signs(n, seed=2)
    rows = memory.effective_rows()
    expected = brute_energy(rows, spins, order, contact == "distinct")
    assert float(memory.energy(spins)) == pytest.approx(expected, abs=1e-10)
    field = memory.field(spins)
    for i in range(n):
        flipped = spins.clone()
        flipped[i] = -flipped[i]
        cost = float(memory.energy(flipped) - memory.energy(spins))
        assert float(2 * spins[i] * field[i]) == pytest.approx(cost, abs=1e-10)


def test_sixth_order_with_coinciding_indices():
    memory = HebbianMemory(N, 6, dtype=torch.float64).learn(signs(5, N), torch.tensor([0, 0, 1, 1, 1]))
    spins = signs(N, seed=2)
    sums = memory.effective_rows() @ spins
    assert float(memory.energy(spins)) == pytest.approx(float(-(sums**6).sum() / (6 * N**5)), rel=1e-12)
    flipped = spins * torch.where(torch.arange(N) == 3, -1.0, 1.0)
    cost = float(memory.energy(flipped) - memory.energy(spins))
    assert float(2 * spins[3] * memory.field(spins)[3]) == pytest.approx(cost, abs=1e-12)


def test_pairs_are_the_classic_hopfield_network():
    patterns, spins = signs(5, 30, blanks=0.2), signs(3, 30, seed=4)
    coupling = patterns.T @ patterns / 30
    without = coupling - coupling.diag().diag()
    memory = HebbianMemory(30, contact="distinct", dtype=torch.float64).store(patterns)
    assert torch.allclose(memory.field(spins), spins @ without, atol=1e-14)
    assert torch.allclose(memory.energy(spins), -0.5 * ((spins @ without) * spins).sum(1), atol=1e-13)
    plain = HebbianMemory(30, dtype=torch.float64).store(patterns)
    overlaps = plain.overlaps(spins)
    assert torch.allclose(plain.energy(spins), -15 * (overlaps**2).sum(1), atol=1e-13)
    assert torch.equal(plain.field(spins), memory.field(spins))


def test_the_third_symmetric_polynomial_against_a_triple_loop():
    row, spins = signs(1, 9), signs(9, seed=1)
    memory = HebbianMemory(9, 4, contact="distinct", dtype=torch.float64).store(row)
    y = row[0] * spins
    others = [
        sum(float(y[j] * y[k] * y[m]) for j, k, m in itertools.permutations(set(range(9)) - {i}, 3)) for i in range(9)
    ]
    assert torch.allclose(memory.field(spins), row[0] * torch.tensor(others, dtype=torch.float64) / 9**3, atol=1e-13)


@pytest.mark.parametrize(("order", "contact", "temperature"), [(2, "all", 0.9), (4, "distinct", 0.15)])
def test_small_networks_visit_states_as_boltzmann_says(order, contact, temperature):
    n, replicas = 8, 30_000
    memory = HebbianMemory(n, order, contact=contact, dtype=torch.float64).store(signs(3, n, seed=5, blanks=0.2))
    states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=n)), dtype=torch.float64)
    expected = torch.softmax(-memory.energy(states) / temperature, 0)
    generator = torch.Generator().manual_seed(0)
    spins = memory.relax(signs(replicas, n, seed=6), temperature, 40, generator, block_size=1)
    places = 2.0 ** torch.arange(n - 1, -1, -1, dtype=torch.float64)
    counts = torch.bincount(((spins + 1) / 2 @ places).long(), minlength=2**n)
    chi_squared = float(((counts - counts.sum() * expected) ** 2 / (counts.sum() * expected)).sum())
    assert chi_squared < 255 + 4 * math.sqrt(2 * 255)
    assert float((expected - 1 / 256).abs().sum()) > 0.3  # far from uniform


@pytest.mark.parametrize(("order", "contact"), [(2, "all"), (4, "all"), (4, "distinct")])
def test_perfect_examples_give_the_stored_memory_bit_for_bit(order, contact):
    patterns, spins = signs(3, 20, blanks=0.25, dtype=torch.float32), signs(4, 20, seed=3, dtype=torch.float32)
    make = lambda **more: HebbianMemory(20, order, contact=contact, normalization="entropy", **more)  # noqa: E731
    examples = patterns.unsqueeze(1).expand(3, 7, 20)
    labels = torch.arange(3).unsqueeze(1).expand(3, 7)
    stored = make().store(patterns)
    for other in (make().learn(examples, labels), make(num_patterns=3).learn(examples)):
        assert torch.equal(other.field(spins), stored.field(spins))
        run = [m.relax(spins, 0.5, 20, torch.Generator().manual_seed(1)) for m in (stored, other)]
        assert torch.equal(*run)


@pytest.mark.parametrize("order", [2, 4])
def test_one_example_each_needs_no_teacher(order):
    examples = signs(5, 16, seed=2)
    make = lambda: HebbianMemory(16, order, quality=0.4, normalization="entropy", num_patterns=5, dtype=torch.float64)  # noqa: E731
    taught, alone = make().learn(examples, torch.arange(5)), make().learn(examples)
    spins = signs(3, 16)
    assert torch.allclose(taught.field(spins), alone.field(spins), rtol=1e-12)
    stored = HebbianMemory(16, order, dtype=torch.float64).store(examples)
    assert torch.allclose(taught.energy(spins), stored.energy(spins), rtol=1e-12)  # c = 1 for M = 1


def test_order_of_arrival_does_not_matter():
    examples, labels = signs(60, 12, seed=1), torch.arange(60) % 4
    whole = HebbianMemory(12, 4, quality=0.5, normalization="entropy", dtype=torch.float64).learn(examples, labels)
    pieces = HebbianMemory(12, 4, quality=0.5, normalization="entropy", dtype=torch.float64)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for part in order.split(7):
        pieces.learn(examples[part], labels[part])
    spins = signs(5, 12, seed=9)
    assert torch.equal(whole.field(spins), pieces.field(spins))
    shuffled = HebbianMemory(12, 4, dtype=torch.float64).learn(examples[order])
    straight = HebbianMemory(12, 4, dtype=torch.float64).learn(examples)
    assert torch.equal(shuffled.field(spins), straight.field(spins))
    draws = [m.relax(spins, 0.3, 5, torch.Generator().manual_seed(2)) for m in (shuffled, straight)]
    assert torch.equal(*draws)


def test_units_of_temperature():
    examples = signs(2, 10, 12, seed=1).reshape(20, 12)
    labels = torch.arange(2).repeat_interleave(10)
    r, m, p = 0.5, 10, 4
    spins = signs(12)
    raw = {True: HebbianMemory(12, p, dtype=torch.float64).learn(examples, labels)}
    raw[False] = HebbianMemory(12, p, num_patterns=2, dtype=torch.float64).learn(examples)
    rho, rho_p = (1 - r**2) / (m * r**2), (1 - r ** (2 * p)) / (m * r ** (2 * p))
    norms = {True: (r**2 * (1 + rho)) ** (p / 2), False: r**p * math.sqrt(1 + rho_p)}
    for taught in (True, False):
        for kind, norm in (("signal", r**p), ("entropy", norms[taught])):
            memory = HebbianMemory(12, p, quality=r, normalization=kind, num_patterns=2, dtype=torch.float64)
            memory.learn(examples, labels if taught else None)
            assert torch.allclose(memory.energy(spins) * norm, raw[taught].energy(spins), rtol=1e-12)


def test_curie_weiss():
    memory = HebbianMemory(4000).store(torch.ones(1, 4000))
    spins = memory.relax(torch.ones(4, 4000), 1 / 1.5, 60, torch.Generator().manual_seed(0))
    assert float(spins.mean()) == pytest.approx(0.858560, abs=0.012)


def test_zero_temperature_never_raises_the_energy_and_ties_stay():
    memory = HebbianMemory(60, 4, dtype=torch.float64).store(signs(8, 60))
    spins = signs(5, 60, seed=8)
    generator = torch.Generator().manual_seed(0)
    energies = [memory.energy(spins)]
    for _ in range(6):
        spins = memory.relax(spins, 0.0, 1, generator, block_size=1)
        energies.append(memory.energy(spins))
    assert all(bool((b <= a + 1e-12).all()) for a, b in itertools.pairwise(energies))
    assert float(energies[-1].mean()) < float(energies[0].mean())
    lonely = HebbianMemory(4).store(torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert lonely(torch.tensor([1.0, 1.0, -1.0, 1.0])).tolist() == [1.0, 1.0, -1.0, 1.0]


def test_annealing_and_bad_schedules():
    memory = HebbianMemory(10).store(signs(1, 10))
    state = signs(2, 3, 10, dtype=torch.float32)
    assert memory.relax(state, [1.0, 0.5, 0.0], 3).shape == (2, 3, 10)
    for arguments, sentence in (
        ({"temperature": [1.0, 0.5]}, "one for each of the 3 sweeps"),
        ({"temperature": -1.0}, "must not be negative"),
        ({"block_size": 0}, "block_size must be at least 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            glauber(memory.coupling(), state, **{"temperature": 1.0, "sweeps": 3} | arguments)


def test_center_subtracts_the_mean_example():
    examples, labels = signs(30, 9, seed=3), torch.arange(30) % 3
    taught = HebbianMemory(9, 4, center=True, dtype=torch.float64).learn(examples[:10], labels[:10])
    taught.learn(examples[10:], labels[10:])
    means = torch.stack([examples[labels == k].mean(0) for k in range(3)]) - examples.mean(0)
    assert torch.allclose(taught.effective_rows(), means)
    alone = HebbianMemory(9, center=True, dtype=torch.float64).learn(examples)
    assert torch.allclose(alone.effective_rows(), examples - examples.mean(0))


def test_a_reservoir_is_a_uniform_sample():
    hits = torch.zeros(40)
    stream = (2.0 ** torch.arange(6).unsqueeze(0) <= torch.arange(40).unsqueeze(1)).double() * 2 - 1
    codes = {tuple(row): [] for row in stream.tolist()}
    for item, row in enumerate(stream.tolist()):
        codes[tuple(row)].append(item)
    for seed in range(400):
        memory = HebbianMemory(6, capacity=10, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        for part in stream.split(8):
            memory.learn(part, generator=generator)
        assert memory.num_rows == 10
        assert int(memory.seen) == 40
        for row in memory.rows.tolist():
            hits[codes[tuple(row)]] += 1 / len(codes[tuple(row)])
    for items in codes.values():
        assert float(hits[items].mean() / 400) == pytest.approx(0.25, abs=0.08)


def test_state_dict_carries_what_was_learned(tmp_path):
    memory = HebbianMemory(10, 4, quality=0.5).learn(signs(12, 10), torch.arange(12) % 3)
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    again = HebbianMemory(10, 4, quality=0.5)
    again.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    state = signs(2, 10, dtype=torch.float32)
    assert torch.equal(memory.field(state), again.field(state))
    memory.learn(signs(4, 10, seed=7), torch.tensor([3, 3, 0, 1]))
    again.learn(signs(4, 10, seed=7), torch.tensor([3, 3, 0, 1]))
    assert torch.equal(memory.field(state), again.field(state))
    assert again.double().field(state).dtype == torch.float64
    assert again.reset().mode == "empty"


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: HebbianMemory(5, 3), "order must be even"),
        (lambda: HebbianMemory(5, quality=0.0), r"quality must lie in \(0, 1\]"),
        (lambda: HebbianMemory(5, contact="some"), "contact must be"),
        (lambda: HebbianMemory(5).store(torch.full((1, 5), 0.5)), "entries of patterns must be -1, 0 or"),
        (lambda: HebbianMemory(5).store(torch.zeros(1, 5)), "blank in every entry"),
        (lambda: HebbianMemory(5).store(torch.ones(1, 4)), "must have 5 entries"),
        (lambda: HebbianMemory(5).field(torch.ones(5)), "the memory is empty"),
        (lambda: HebbianMemory(5).store(torch.ones(1, 5)).field(torch.zeros(5)), "spins of -1 and"),
        (lambda: HebbianMemory(5).store(torch.ones(1, 5)).learn(torch.ones(1, 5)), "is stored and cannot become"),
        (lambda: HebbianMemory(5).learn(torch.ones(2, 5), torch.tensor([0])), "2 examples but 1 labels"),
        (lambda: HebbianMemory(5).learn(torch.ones(1, 5), torch.tensor([-1])), "class indices"),
        (lambda: HebbianMemory(10**5).learn(torch.ones(1, 10**5), torch.tensor([10**6])), "GiB"),
    ],
)
def test_bad_requests(use, sentence):
    with pytest.raises(ValueError, match=sentence):
        use()


@pytest.mark.parametrize("normalization", ["signal", "entropy"])
@pytest.mark.parametrize("center", [False, True])
def test_a_class_without_examples_counts_for_nothing(center, normalization):
    g = torch.Generator().manual_seed(0)
    examples = torch.randint(2, (30, 50), generator=g) * 2.0 - 1
    labels = torch.arange(30) % 2
    options = {"center": center, "normalization": normalization, "quality": 0.8}
    dense = HebbianMemory(50, 4, **options).learn(examples, labels)
    gapped = HebbianMemory(50, 4, **options).learn(examples, (2 * labels).int())
    state = torch.randint(2, (5, 50), generator=g) * 2.0 - 1
    assert torch.allclose(dense.energy(state), gapped.energy(state))
    assert torch.allclose(dense.field(state), gapped.field(state))
    assert torch.allclose(gapped.overlaps(state)[:, [0, 2]], dense.overlaps(state))
    assert not gapped.effective_rows()[1].any()
