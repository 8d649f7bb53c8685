"""Visual memory: votes against scikit-learn and by hand, exact unlearning, pruning, editing, other indexes."""

import math
import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from neurarium.continual import VisualMemory
from neurarium.data import load
from neurarium.probes.neighbours._neighbours import Vote, nearest, tally, unit


@pytest.fixture(scope="module")
def digits():
    split = load("digits")
    x, y = split.train.x.float().flatten(1), split.train.y
    return x[:600], y[:600], split.test.x.float().flatten(1)[:200], split.test.y[:200]


def winner(labels, vote):
    similarities = torch.linspace(0.9, 0.8, len(labels))[None]
    return int(tally(torch.tensor([labels]), vote.weights(similarities), 5)[1][0, -1])


def test_votes_by_hand():
    assert winner([0, 1, 1], Vote("plurality")) == 1
    assert winner([0, 1, 1], Vote("rank")) == 1  # 0.5 against 0.333 + 0.25
    assert winner([0, 1], Vote("plurality")) == 0  # a tie goes to the nearer
    assert winner([2, 3, 3, 1, 1], Vote("plurality")) == 3
    assert winner([0, 1, 1], Vote("rank", alpha=0.1)) == 0
    assert winner([0, 1, 1, 1], Vote("rank", alpha=1e9)) == winner([0, 1, 1, 1], Vote("plurality"))
    assert winner([0, 1, 1], Vote("softmax", temperature=1e-3)) == 0
    assert winner([0, 1, 1], Vote("softmax", temperature=1e6)) == 1


@pytest.mark.parametrize("vote", ["rank", "plurality", "distance", "softmax"])
def test_one_neighbour_is_scikit_learns(digits, vote):
    x, y, queries, _ = digits
    memory = VisualMemory(vote=vote, k=1)
    memory.add(x, y)
    peer = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(x.numpy(), y.numpy())
    assert np.array_equal(memory.classify(queries).numpy(), peer.predict(queries.numpy()))


@pytest.mark.parametrize(("vote", "weights"), [("plurality", "uniform"), ("distance", lambda d: np.exp(-d))])
def test_scores_of_k_neighbours_are_scikit_learns(digits, vote, weights):
    x, y, queries, _ = digits
    memory = VisualMemory(vote=vote, k=15)
    memory.add(x, y)
    peer = KNeighborsClassifier(15, metric="cosine", algorithm="brute", weights=weights).fit(x.numpy(), y.numpy())
    scores = memory.scores(queries)
    assert np.allclose(scores / scores.sum(1, keepdim=True), peer.predict_proba(queries.numpy()), atol=1e-6)


def test_search_is_brute_force_across_blocks_and_breaks_ties_by_row(monkeypatch):
    monkeypatch.setattr("neurarium.probes.neighbours._neighbours._BLOCK", 64)
    generator = torch.Generator().manual_seed(0)
    items = unit(torch.randn(300, 8, generator=generator))
    items = torch.cat([items, items])  # every item twice: each neighbour is a tie
    queries = unit(torch.randn(20, 8, generator=generator))
    rows = nearest(queries, items, 11)[1]
    order = torch.sort(queries @ items.T, dim=1, descending=True, stable=True)
    assert torch.equal(rows, order.indices[:, :11])
    hidden = torch.zeros(600, dtype=torch.bool)
    hidden[rows[:, 0]] = True
    assert not torch.isin(nearest(queries, items, 11, hidden)[1], rows[:, 0]).any()


def test_all_k_in_one_pass_is_one_k_at_a_time(digits):
    x, y, queries, _ = digits
    memory = VisualMemory(k=30)
    memory.add(x, y)
    together = memory.classify(queries, at_all_k=True)
    for k in (1, 2, 7, 30):
        assert torch.equal(together[:, k - 1], memory.classify(queries, k))
    assert torch.equal(memory.predict(queries).argmax(1), together[:, -1])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["ids", "labels", "where"])
def test_removal_is_as_if_never_added(digits, tmp_path, how):
    x, y, queries, _ = digits
    first, second = VisualMemory(k=20), VisualMemory(k=20)
    kept = y != 9
    first.add(x[kept], y[kept], [f"image {i}" for i in range(int(kept.sum()))])
    names = [f"nine {i}" for i in range(int((~kept).sum()))]
    second.add(x[kept][:100], y[kept][:100], [f"image {i}" for i in range(100)])
    second.add(x[~kept], y[~kept], names)
    second.add(x[kept][100:], y[kept][100:], [f"image {i}" for i in range(100, int(kept.sum()))])
    for memory in (first, second):
        memory.prune("soft")
    assert (second.classify(queries) == 9).any()
    given = {"ids": names, "labels": [9], "where": lambda name, label: name.startswith("nine")}[how]
    assert second.remove(**{how: given}) == len(names)
    assert torch.equal(first.scores(queries), second.scores(queries))
    assert first.explain(queries) == second.explain(queries)
    first.save(tmp_path / "first")
    second.save(tmp_path / "second")
    assert files(tmp_path / "first") == files(tmp_path / "second")


def test_soft_factors_and_who_was_wrong():
    angles = torch.tensor([0.0, 0.011, 0.02, 0.5, 0.51, 0.52])
    x = torch.stack([angles.cos(), angles.sin()], 1)
    memory = VisualMemory(k=2)
    memory.add(x, torch.tensor([0, 0, 1, 1, 1, 1]))
    assert memory.reliability(1).tolist() == [0, 1, 1, 0, 0, 0]  # 1 and 2 are each other's nearest
    assert memory.reliability(2).tolist() == [1, 1, 2, 0, 0, 0]
    assert memory.prune("soft", k=2).tolist() == pytest.approx([0.875, 0.875, 1.75 / 3, 1, 1, 1])
    assert memory.prune("hard", k=2, threshold=2).tolist() == [1, 1, 0, 1, 1, 1]
    assert memory.explain(x[2:3], 1)[0].ids == (1,)
    memory.unprune()
    assert memory.explain(x[2:3], 1)[0].ids == (2,)
    memory.prune("hard", k=2, threshold=0)  # everything is unreliable, so everything is asked
    assert memory.explain(x[2:3], 1)[0].ids == (2,)


def test_an_exact_copy_may_stand_in_for_the_item_left_out():
    memory = VisualMemory(k=1)
    memory.add(torch.eye(2)[[0, 0, 0, 1]], torch.tensor([0, 0, 1, 1]))
    assert memory.reliability(1).tolist() == [2, 0, 0, 0]  # row 0 is the first of what is left for rows 2 and 3


def test_decisions_are_explained_and_edited(digits):
    x, y, queries, _ = digits
    memory = VisualMemory(k=5)
    memory.add(x, y)
    before = memory.explain(queries[:1])[0]
    assert sum(before.shares) == pytest.approx(1)
    assert list(before.distances) == sorted(before.distances)
    assert before.shares[0] == pytest.approx(0.5 / sum(1 / (i + 2) for i in range(5)))
    memory.block(before.ids[:2])
    after = memory.explain(queries[:1])[0]
    assert after.ids[:3] == before.ids[2:]
    memory.reset()
    memory.reweight(before.ids[:1], 0.0)
    assert memory.explain(queries[:1])[0].shares[0] == 0
    memory.reset()
    other = (before.labels[0] + 1) % 10
    for name in before.ids:
        memory.relabel(name, other)
    assert memory.classify(queries[:1]).item() == other
    spoken = memory.classify(queries[:2], rerank=lambda embedding, reason: len(reason.ids))
    assert spoken.tolist() == [5, 5]


def test_a_second_granularity_without_embedding_again(digits):
    x, y, queries, _ = digits
    memory = VisualMemory(k=5)
    memory.add(x[:300], y[:300], levels={"parity": y[:300] % 2})
    fine, coarse = memory.classify(queries), memory.classify(queries, level="parity")
    assert ((fine % 2) == coarse).float().mean() > 0.95
    with pytest.raises(ValueError, match="parity"):
        memory.classify(queries, level="shape")


def test_confidence_is_the_share_that_agrees():
    x = torch.eye(4)[[0, 0, 0, 1]] + 0.01 * torch.arange(4.0)[:, None]
    memory = VisualMemory()
    memory.add(x, torch.tensor([0, 0, 1, 1]))
    assert memory.confidence(torch.eye(4)[:1], k=3).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_approximate_indexes_find_what_is_there_and_not_what_was_removed(digits, index):
    x, y, queries, _ = digits
    exact, fast = VisualMemory(k=10), VisualMemory(k=10, index=index)
    for memory in (exact, fast):
        memory.add(x[:400], y[:400])
        memory.classify(queries)
        memory.add(x[400:], y[400:])
    shared = [set(a.ids) & set(b.ids) for a, b in zip(exact.explain(queries), fast.explain(queries), strict=True)]
    assert sum(map(len, shared)) / (10 * len(queries)) >= 0.9
    gone = {name for reason in fast.explain(queries[:20]) for name in reason.ids}
    fast.remove(gone)
    assert fast.index._index.ntotal == 600 - len(gone) * (index == "ivf")  # a graph cannot lose a node
    assert not gone & {name for reason in fast.explain(queries) for name in reason.ids}


def test_the_encoder_is_never_trained_and_runs_in_evaluation_mode():
    encoder = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5)).train()
    memory = VisualMemory(encoder, k=3)
    assert not any(p.requires_grad for p in memory.parameters())
    x = torch.randn(9, 4)
    memory.train()
    memory.observe(x, torch.arange(9) % 3)
    assert encoder.training
    assert torch.equal(memory.classify(x, 1), torch.arange(9) % 3)
    assert VisualMemory(lambda batch: batch[:, :2]).embed(x).shape == (9, 2)


def test_wrong_input_is_said():
    memory = VisualMemory(k=50)
    with pytest.raises(ValueError, match="memory is empty"):
        memory.classify(torch.ones(1, 4))
    memory.add(torch.eye(4), torch.arange(4), ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="'b' is there already"):
        memory.add(torch.eye(4)[:2], torch.arange(2), ["e", "b"])
    with pytest.raises(ValueError, match="'e' is there already"):
        memory.add(torch.eye(4)[:2], torch.arange(2), ["e", "e"])
    with pytest.raises(ValueError, match=r"row 1 .* is zero"):
        memory.add(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]), torch.arange(2))
    with pytest.raises(ValueError, match="not finite"):
        memory.add(torch.full((1, 4), math.nan), torch.arange(1))
    with pytest.raises(ValueError, match="3 features"):
        memory.classify(torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"\[items, 4\]"):
        memory.add(torch.ones(1, 3), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels must be 1 integers"):
        memory.add(torch.ones(1, 4), torch.tensor([-1]))
    with pytest.raises(ValueError, match="no item with id 'aa'; nearest: a"):
        memory.remove(["aa"])
    with pytest.raises(ValueError, match="exactly one"):
        memory.remove()
    with pytest.raises(ValueError, match="exactly one"):
        memory.remove(labels=[0], where=lambda name, label: True)
    for arguments in ({"k": 0}, {"vote": "loudest"}, {"alpha": 0.0}, {"index": "tree"}, {"dtype": "int8"}):
        with pytest.raises(ValueError, match="must be"):
            VisualMemory(**arguments)
    assert len(memory) == 4
    with pytest.warns(UserWarning, match="k is 50 but the memory holds 4"):
        memory.classify(torch.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory.classify(torch.eye(4))


@pytest.mark.parametrize("disk", [False, True])
def test_threads_ask_while_others_add_and_remove(digits, tmp_path, disk):
    """Every answer is that of a whole state: an item and its twin of another class come and go together."""
    x, y, queries, _ = digits
    memory = VisualMemory(k=5, path=tmp_path / "memory" if disk else None)
    memory.add(x[:200], y[:200])
    wrong: list[Exception] = []
    done = threading.Event()

    def ask():
        try:
            while not done.is_set():
                reason = memory.explain(queries[:4])[1]
                assert len(reason.ids) == 5
                twins = [name for name in reason.ids if isinstance(name, str)]
                assert len(twins) in (0, 2), twins
                memory.confidence(queries[:4])
                assert len(memory.classify(queries[:4])) == 4
        except Exception as error:
            wrong.append(error)

    def edit():
        try:
            for _ in range(25):
                memory.add(queries[[1, 1]], torch.tensor([10, 11]), ["one", "other"])
                memory.block([3])
                memory.reset()
                memory.remove(["one", "other"])
        except Exception as error:
            wrong.append(error)

    readers, writer = [threading.Thread(target=ask) for _ in range(3)], threading.Thread(target=edit)
    for thread in (*readers, writer):
        thread.start()
    writer.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not wrong, wrong[0]
    assert len(memory) == 200


def test_what_another_process_removed_is_blocked_and_weighed_no_more(digits, tmp_path):
    x, y, queries, _ = digits
    here, there = VisualMemory(k=5, path=tmp_path), VisualMemory(k=5, path=tmp_path)
    here.add(x, y)
    here.prune("soft")
    names = here.explain(queries[:1])[0].ids
    here.block(names[:1])
    here.reweight(names[1:2], 2.0)
    there.remove(names)
    fresh = VisualMemory(k=5, path=tmp_path)
    fresh.prune("soft")
    assert not set(names) & set(here.explain(queries[:1])[0].ids)
    assert torch.equal(here.scores(queries), fresh.scores(queries))
    there.relabel(50, 3 if int(y[50]) != 3 else 4)
    fresh.prune("soft")
    assert torch.equal(here.scores(queries), fresh.scores(queries))


def test_an_inverted_file_is_laid_out_again_when_it_was_outgrown(digits):
    x, y, queries, _ = digits
    memory = VisualMemory(k=5, index="ivf")
    memory.add(x[:50], y[:50])
    memory.classify(queries)
    assert memory.index._index.nlist == 7
    memory.remove([0])
    memory.add(x[50:], y[50:])
    memory.classify(queries)
    assert memory.index._index.nlist == 24
    assert memory.index._index.ntotal == 599


def test_no_vote_at_all_and_no_neighbours_at_all():
    memory = VisualMemory(k=2)
    memory.add(torch.eye(2), torch.arange(2))
    memory.reweight([0, 1], 0.0)
    assert memory.explain(torch.eye(2))[0].shares == (0, 0)
    assert memory.classify(torch.eye(2)).tolist() == [-1, -1]
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        memory.classify(torch.eye(2), 0)


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_an_approximate_index_that_has_become_too_empty_falls_back_on_all(index):
    centres = 3 * torch.randn(100, 16, generator=torch.Generator().manual_seed(0))
    y = torch.arange(4000) % 100
    x = centres[y] + torch.randn(4000, 16, generator=torch.Generator().manual_seed(1))
    exact, fast = VisualMemory(k=5), VisualMemory(k=5, index=index)
    for memory in (exact, fast):
        memory.add(x, y)
        memory.classify(x[:10])
        memory.remove(labels=range(1, 100))
    assert bool((fast.classify(x[:400]) == 0).all())
    assert torch.equal(fast.scores(x[:400]), exact.scores(x[:400]))
    assert fast.predict(x[:400]).shape == (400, 1)
    assert [reason.label for reason in fast.explain(x[:400])] == [0] * 400


def test_where_pruning_leaves_no_neighbour_they_vote_without_it():
    x = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.98, 0.15], [0.0, 1.0], [0.1, 0.99]])
    memory = VisualMemory(k=3)
    memory.add(x, torch.tensor([0, 1, 0, 2, 2]))
    unpruned = memory.explain(x[:1])[0]
    memory.prune("hard", k=4, threshold=1)  # each of the five was wrong once
    assert memory.explain(x[:1])[0] == unpruned
    assert memory.classify(x[:1]).tolist() == [unpruned.label]
    assert int(memory.predict(x[:1]).argmax()) == unpruned.label
    memory.block(range(5))
    with pytest.raises(ValueError, match="every item is blocked"):
        memory.classify(x)


@pytest.mark.parametrize("disk", [False, True])
def test_blocks_weights_and_pruning_are_saved(digits, tmp_path, disk):
    x, y, queries, _ = digits
    memory = VisualMemory(k=5, path=tmp_path / "live" if disk else None)
    memory.add(x[:200], y[:200], ids=[*range(100), *(f"item {i}" for i in range(100, 200))])
    plain = memory.scores(queries)
    memory.block([3, "item 150"])
    memory.reweight([7, "item 160"], 0.25)
    memory.prune("soft")
    wanted = memory.scores(queries)
    assert not torch.equal(wanted, plain)
    memory.save(tmp_path / "saved")
    opened = VisualMemory(k=5, path=tmp_path / "saved")
    loaded = VisualMemory(k=5)
    loaded.load_state_dict(memory.state_dict())
    for other in (opened, loaded):
        assert torch.equal(other.scores(queries), wanted)
        other.reset()
        other.unprune()
        assert torch.equal(other.scores(queries), plain)
    assert torch.equal(VisualMemory(k=5, path=tmp_path / "saved").scores(queries), plain)
    if disk:
        assert torch.equal(VisualMemory(k=5, path=tmp_path / "live").scores(queries), wanted)
