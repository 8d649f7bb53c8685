"""Coverage against hand cases, loops over all pairs, an explicit graph, and the known growth of the data it needs."""

import itertools

import networkx
import pytest
import torch

from neurarium.data import CompositionTask, non_tree, parallel_two_hop, three_hop, two_hop
from neurarium.models import CausalTransformer, HopMLP
from neurarium.probes import cluster_gap, coverage, coverage_curve, patch_effect, required_data

A, B, C, D = 10, 11, 12, 13


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def triples(*rows):
    table = torch.tensor(rows)
    return table[:, :3], table[:, 3]


def levels(train, test, **options):
    return coverage(*triples(*train), *triples(*test), **options).levels.tolist()


BASE = [(A, B, 1, 5), (C, D, 1, 5), (A, B, 2, 6)]
ASKED = [(C, D, 2, 6)]


def test_a_case_by_hand():
    assert levels(BASE, ASKED) == [1]
    found = coverage(*triples(*BASE), *triples(*ASKED))
    (swap,) = found.explain(0)
    assert swap.positions == (0, 1)
    assert (swap.before, swap.after) == ((A, B, 2), (C, D, 2))
    assert levels([*BASE, (C, D, 3, 7), (A, B, 3, 8)], ASKED) == [0]  # one context shows them to differ
    assert levels([*BASE, (C, D, 3, 7), (A, B, 3, 7)], ASKED) == [2]
    assert levels(BASE, [(C, D, 2, 5)]) == [0]  # the wrong answer is not covered
    with pytest.raises(ValueError, match="not covered"):
        coverage(*triples(*BASE), *triples((C, D, 4, 6))).explain(0)


def brute_force(train_x, train_y, test_x, test_y, level):
    """All pairs of fragments and of inputs, in loops, with a graph of networkx."""
    items = {tuple(x): y for x, y in zip(train_x.tolist(), train_y.tolist(), strict=True)}
    nodes = items | {tuple(x): y for x, y in zip(test_x.tolist(), test_y.tolist(), strict=True)}
    graph = networkx.Graph()
    graph.add_nodes_from(nodes)
    places = range(train_x.shape[1])
    for size in range(1, train_x.shape[1]):
        for subset in itertools.combinations(places, size):
            rest = [i for i in places if i not in subset]
            behaviour = {}
            for x, y in items.items():
                behaviour.setdefault(tuple(x[i] for i in subset), {})[tuple(x[i] for i in rest)] = y
            alike = networkx.Graph()
            alike.add_nodes_from(behaviour)
            for u, v in itertools.combinations(behaviour, 2):
                shared = behaviour[u].keys() & behaviour[v].keys()
                if len(shared) >= level and all(behaviour[u][c] == behaviour[v][c] for c in shared):
                    alike.add_edge(u, v)
            number = {u: i for i, part in enumerate(networkx.connected_components(alike)) for u in part}
            for p, q in itertools.combinations(nodes, 2):
                u, v = (tuple(x[i] for i in subset) for x in (p, q))
                context = all(p[i] == q[i] for i in rest)
                if context and nodes[p] == nodes[q] and number.get(u, -1) == number.get(v, -2):
                    graph.add_edge(p, q)
    reached = set().union(*(part for part in networkx.connected_components(graph) if part & items.keys()))
    return [tuple(x) in reached for x in test_x.tolist()]


@pytest.mark.parametrize(("make", "n", "count"), [(two_hop, 4, 28), (three_hop, 3, 14)])
def test_sparse_products_equal_loops_over_all_pairs(make, n, count):
    task = make(n, draw(1))
    split = task.sample(count, draw(2), 12)
    test = torch.cat([part.x for part in split.tests.values()])
    found = coverage(split.train.x, split.train.y, test, task.answers(test))
    for level in (1, 2, 3):
        expected = brute_force(split.train.x, split.train.y, test, task.answers(test), level)
        assert found.covered(level).tolist() == expected
    assert 0 < found.covered(1).sum() < len(test)


def test_every_explanation_is_a_chain_of_neighbours():
    task = two_hop(6, draw(3))
    split = task.sample(70, draw(4), 30)
    new = split.tests["all seen"]
    found = coverage(split.train.x, split.train.y, new.x, new.y)
    train = {tuple(x) for x in split.train.x.tolist()}
    for i in found.covered().nonzero().flatten().tolist():
        chain = found.explain(i)
        assert chain[0].before in train
        assert chain[-1].after == tuple(new.x[i].tolist())
        for swap, following in itertools.pairwise(chain):
            assert swap.after == following.before
        for swap in chain:
            assert [k for k in range(3) if swap.before[k] != swap.after[k]] == [
                k for k in swap.positions if swap.before[k] != swap.after[k]
            ]
            answers = task.answers(torch.tensor([swap.before, swap.after]))
            assert answers[0] == answers[1]


def test_names_of_tokens_do_not_matter_and_evidence_only_takes_away():
    task = two_hop(8, draw(5))
    split = task.sample(150, draw(6), 50)
    new = split.tests["all seen"]
    found = coverage(split.train.x, split.train.y, new.x, new.y)
    names = torch.randperm(8, generator=draw(7)) + 100
    renamed = coverage(names[split.train.x], names[split.train.y], names[new.x], names[new.y])
    assert torch.equal(found.levels, renamed.levels)
    shares = [int(found.covered(k).sum()) for k in range(1, 21)]
    assert shares == sorted(shares, reverse=True)
    few = coverage(split.train.x[:75], split.train.y[:75], new.x, new.y, evidence=1)
    assert int(few.covered().sum()) < int(found.covered().sum())


def test_true_classes_cover_at_least_what_is_truly_alike():
    task = two_hop(8, draw(5))
    split = task.sample(150, draw(6), 50)
    new = split.tests["all seen"]
    data = (split.train.x, split.train.y, new.x, new.y)

    def bridge(pairs):
        return task.trace(torch.cat([pairs, torch.zeros(len(pairs), 1, dtype=torch.int64)], 1))[:, 0]

    true = coverage(*data, truth={(0, 1): bridge})
    found = coverage(*data, subsets=[(0, 1)])
    assert found.false_merges((0, 1), bridge, 1) > found.false_merges((0, 1), bridge, 3)
    sure = next(k for k in range(1, 20) if found.false_merges((0, 1), bridge, k) == 0)
    assert not bool((found.covered(sure) & ~true.covered()).any())
    assert true.covered().double().mean() > 0.9


@pytest.mark.parametrize(("n", "known"), [(16, 505)])
def test_half_is_covered_where_it_is_known_to_be(n, known):
    found = [required_data(two_hop(n, draw(seed)), 2, generator=draw(10 + seed)) for seed in range(3)]
    assert sum(found) / 3 == pytest.approx(known, rel=0.12)


def test_curves_interpolate():
    curve = coverage_curve(two_hop(8, draw()), [15, 30, 60, 120, 240], tests=60, generator=draw())
    assert curve.shares.shape == (5, 3)
    assert bool((curve.shares[:, 0] >= curve.shares[:, 1]).all())
    assert 15 < curve.required(1) < curve.required(2) < 240
    assert "half covered at" in curve.summary()


@pytest.mark.parametrize("make", [two_hop, parallel_two_hop, three_hop, non_tree])
def test_tests_are_of_the_kind_they_say(make):
    task = make(5, draw(1))
    split = task.sample(60, draw(2), 40)
    train = {tuple(x) for x in split.train.x.tolist()}
    assert len(train) == 60

    def arguments(x):
        values = list(x.unbind(1))
        for hop, value in zip(task.hops, task.trace(x).unbind(1), strict=True):
            yield (
                {tuple(int(values[p][i]) for p in hop) for i in range(len(x))},
                [tuple(int(values[p][i]) for p in hop) for i in range(len(x))],
            )
            values.append(value)

    seen = [known for known, _ in arguments(split.train.x)]
    for kind, part in split.tests.items():
        assert torch.equal(part.y, task.answers(part.x))
        for i, (_, used) in enumerate(arguments(part.x)):
            assert all((a in seen[i]) != (f"f{i + 1}" in kind) for a in used)
        assert not train & {tuple(x) for x in part.x.tolist()}


def test_the_answer_is_what_the_functions_say():
    task = two_hop(7, draw(1), same=True)
    assert torch.equal(task.tables[0], task.tables[1])
    table = task.tables[0].reshape(7, 7)
    x = torch.randint(7, (50, 3), generator=draw(2))
    bridge = table[x[:, 0], x[:, 1]]
    assert torch.equal(task.trace(x), torch.stack([bridge, table[bridge, x[:, 2]]], 1))
    double = non_tree(4, draw(1))
    y = torch.randint(4, (50, 3), generator=draw(2))
    b = double.tables[0].reshape(4, 4)[y[:, 0], y[:, 1]]
    assert torch.equal(double.answers(y), double.tables[1].reshape(4, 4, 4)[b, y[:, 1], y[:, 2]])


def test_states_cluster_by_what_they_hold():
    x = torch.randint(4, (40, 3), generator=draw())
    model = CausalTransformer(4, 16, 2, 2, 32)
    gap = cluster_gap(model, x, x[:, 1], ["layers.0"])
    assert float(gap.gap[0, 1]) > float(gap.gap[0, 0].abs()) + 0.05  # a position knows its own token
    states = []
    handle = model.get_submodule("layers.0").register_forward_hook(lambda m, i, o: states.append(o.detach()))
    model.eval()(x)
    handle.remove()
    cosine = torch.nn.functional.cosine_similarity(states[0][:, None, 1], states[0][None, :, 1], dim=-1)
    pairs = [(i, j) for i in range(40) for j in range(40) if i != j]
    within = [float(cosine[i, j]) for i, j in pairs if x[i, 1] == x[j, 1]]
    assert float(gap.within[0, 1]) == pytest.approx(sum(within) / len(within), abs=1e-5)
    with pytest.raises(ValueError, match="groups"):
        cluster_gap(model, x, torch.zeros(40, dtype=torch.int64), ["layers.0"])


def test_patches():
    x, other = (torch.randint(4, (60, 3), generator=draw(seed)) for seed in (0, 1))
    model = CausalTransformer(4, 16, 2, 2, 32).eval()
    nothing = patch_effect(model, x, x, "layers.0", 1)
    assert not nothing.changed.any()
    assert nothing.shift == pytest.approx(0, abs=1e-6)
    mixed = torch.cat([x[:, :2], other[:, 2:]], 1)
    answers = model(mixed)[:, -1].argmax(-1)
    last = patch_effect(model, mixed, x, "layers.1", 2, expected=model(x)[:, -1].argmax(-1))
    assert last.follows.all()  # the last state decides alone
    assert torch.equal(last.changed, answers != model(x)[:, -1].argmax(-1))


def test_blocks_see_their_arguments_alone():
    model = HopMLP(6, embedding=8, hidden=16)
    x = torch.randint(6, (5, 3), generator=draw())
    changed = x.clone()
    changed[:, 2] = (x[:, 2] + 1) % 6
    assert torch.equal(model.trace(x)[:, 0], model.trace(changed)[:, 0])
    assert not torch.equal(model(x), model(changed))
    assert torch.equal(model(x), model.trace(x)[:, 1])


def test_refusals():
    x, y = triples(*BASE)
    with pytest.raises(ValueError, match="targets 5 and 6"):
        coverage(*triples((1, 2, 3, 5), (1, 2, 3, 6)), x, y)
    with pytest.raises(ValueError, match="name the subsets"):
        coverage(torch.zeros(1, 7, dtype=torch.int64), y[:1], torch.zeros(1, 7, dtype=torch.int64), y[:1])
    with pytest.raises(ValueError, match="evidence"):
        coverage(x, y, x, y, evidence=0)
    with pytest.raises(ValueError, match="only"):
        two_hop(3, draw()).sample(28, draw())
    with pytest.raises(ValueError, match="hops"):
        CompositionTask(4, [(0, 5)], 3, generator=draw())


@pytest.mark.untyped
def test_refusals_of_shapes_and_types():
    x, y = triples(*BASE)
    with pytest.raises(ValueError, match="test_x has 2 items and test_y 1 targets"):
        coverage(torch.zeros(1, 2).long(), torch.zeros(1).long(), torch.zeros(2, 2).long(), torch.zeros(1).long())
    with pytest.raises(ValueError, match="whole numbers"):
        coverage(x.double(), y, x, y)
    with pytest.raises(ValueError, match="one shape"):
        patch_effect(CausalTransformer(20, 16, 2, 1, 32), x, x[:, :2], "layers.0", 1)
