"""Tables of labels as people have them, batches of them, and simulated annotators."""

import numpy as np
import pandas as pd
import pytest
import torch

from neurarium.data import (
    CrowdBatches,
    DataError,
    crowd_matrix,
    crowd_table,
    mask_annotations,
    simulate_annotators,
)


def table():
    return pd.DataFrame(
        {"page": ["b", "a", "b", "c"], "who": [7, 7, 9, 9], "says": ["cat", "dog", "dog", None], "when": range(4)}
    )


NAMES = {"item": "page", "annotator": "who", "label": "says"}


def test_a_table_of_names(tmp_path):
    crowd = crowd_table(table(), **NAMES)
    assert (crowd.item_names, crowd.worker_names, crowd.classes) == (("b", "a"), ("7", "9"), ("cat", "dog"))
    assert (crowd.items.tolist(), crowd.workers.tolist(), crowd.labels.tolist()) == ([0, 1, 0], [0, 0, 1], [0, 1, 1])
    listed = crowd_table(table(), **NAMES, items=["a", "b", "c"], classes=["dog", "cat"])
    assert (listed.items.tolist(), listed.labels.tolist()) == ([1, 0, 1], [1, 0, 0])
    assert listed.item_names == ("a", "b", "c")
    table().to_csv(tmp_path / "labels.csv", index=False)
    again = crowd_table(tmp_path / "labels.csv", **NAMES)
    assert again.items.tolist() == crowd.items.tolist()
    assert again.classes == crowd.classes


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda t: t, {"item": "pages"}, "no column 'pages'.*'page'"),
        (lambda t: t.assign(page=["b", None, "b", "c"]), {}, "'page' has a gap"),
        (lambda t: t.assign(who=7), {}, "who 7 labelled page 'b' more than once"),
        (lambda t: t, {"items": ["a"]}, "items does not list 'b'"),
        (lambda t: t, {"classes": ["dog"]}, "classes does not list 'cat'"),
        (lambda t: t, {"items": ["a", "b", "b"]}, "lists 'b' twice"),
        (lambda t: t[:0], {}, "no labels"),
        (lambda t: t, {"repeated": "first"}, "repeated must be"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(change, options, sentence):
    with pytest.raises(DataError, match=sentence):
        crowd_table(change(table()), **{**NAMES, **options})


def test_a_label_given_twice():
    twice = table().assign(who=7)
    assert crowd_table(twice, **NAMES, repeated="last").labels.tolist() == [1, 1]
    assert crowd_table(twice, **NAMES, repeated="keep").labels.tolist() == [0, 1, 1]


def test_a_matrix_and_a_warning_of_idle_annotators():
    said = torch.tensor([[0, -1, 2], [-1, -1, 1]])
    with pytest.warns(UserWarning, match="annotators 1 labelled nothing"):
        crowd = crowd_matrix(said)
    assert (crowd.items.tolist(), crowd.workers.tolist(), crowd.labels.tolist()) == ([0, 0, 1], [0, 2, 2], [0, 2, 1])
    with pytest.raises(DataError, match="from 0 to 1"):
        crowd_matrix(said, num_classes=2)


def test_batches_hold_all_labels_of_their_items():
    g = torch.Generator().manual_seed(0)
    said = torch.randint(0, 3, (50, 6), generator=g)
    said[torch.rand(50, 6, generator=g) < 0.6] = -1
    said[7] = -1  # nobody
    x = torch.arange(50.0)[:, None]
    loader = CrowdBatches(x, crowd_matrix(said), 8, shuffle=True)
    for _ in range(2):
        rebuilt = torch.full_like(said, -1)
        seen = []
        for inputs, (rows, annotators, labels) in loader:
            items = inputs[:, 0].long()
            seen += items.tolist()
            rebuilt[items[rows], annotators] = labels
        assert torch.equal(rebuilt, said)
        assert sorted(seen) == [i for i in range(50) if int(said[i].max()) >= 0]
    again = CrowdBatches(x, crowd_matrix(said), 8, shuffle=True)
    assert torch.equal(next(iter(again))[0], next(iter(CrowdBatches(x, crowd_matrix(said), 8, shuffle=True)))[0])
    with pytest.raises(ValueError, match="one row per item, 50, not 49"):
        CrowdBatches(x[1:], crowd_matrix(said), 8)


def test_a_million_rows():
    rng = np.random.default_rng(0)
    items = np.repeat(np.arange(250_000), 4)
    frame = pd.DataFrame(
        {"item": items, "annotator": (rng.integers(0, 500, 250_000)[items] * 4 + np.tile(np.arange(4), 250_000)),
         "label": rng.integers(0, 5, len(items))}
    )  # fmt: skip
    crowd = crowd_table(frame)
    assert len(crowd.labels) == 1_000_000
    assert len(crowd.worker_names) == 2000
    x, (rows, annotators, labels) = next(iter(CrowdBatches(torch.zeros(250_000, 1), crowd, 256, shuffle=True)))
    assert len(x) == 256
    assert len(rows) == len(annotators) == len(labels) == 1024


def test_simulated_annotators_are_as_good_as_said():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(4000) % 8
    x = torch.randn(4000, 3, generator=g)
    crowd = simulate_annotators(x, y, generator=g)
    right = (crowd.annotations == y[:, None]).double()
    assert crowd.types == ("adversarial", "cluster", "cluster", "class", *["common"] * 6)
    assert float(right[:, 0].mean()) == pytest.approx(0.05, abs=0.02)
    by_class = torch.stack([right[y == k, 3].mean() for k in range(8)]).sort().values
    torch.testing.assert_close(by_class[:4], torch.full((4,), 0.05, dtype=torch.float64), atol=0.04, rtol=0)
    torch.testing.assert_close(by_class[4:], torch.full((4,), 0.95, dtype=torch.float64), atol=0.04, rtol=0)
    assert 0.2 < float(right[:, 1].mean()) < 0.8
    wrong = crowd.annotations[:, 0][y == 2]
    assert torch.bincount(wrong, minlength=8)[torch.arange(8) != 2].min() > 40  # errors go everywhere
    assert crowd.attributes.shape == (10, 5 + 8 + 10)


@pytest.mark.parametrize(
    ("kind", "count", "different"),
    [
        ("interdependent", 40, 10),
        ("random-interdependent", 100, 11),
        ("random-independent", 100, 100),
        ("inductive", 100, 100),
    ],
)
def test_copies_say_the_same(kind, count, different):
    g = torch.Generator().manual_seed(0)
    crowd = simulate_annotators(torch.randn(300, 3, generator=g), torch.arange(300) % 4, kind, generator=g)
    assert crowd.annotations.shape == (300, count)
    assert torch.equal(crowd.annotations, crowd.annotations[:, crowd.original])
    assert len(crowd.annotations.unique(dim=1).T) == different
    assert len(crowd.original.unique()) == different


def test_masking():
    said = torch.arange(200).view(20, 10)
    masked = mask_annotations(said, 0.8, torch.Generator().manual_seed(0))
    assert int((masked >= 0).sum()) == 40
    assert torch.equal(masked[masked >= 0], said[masked >= 0])
    with pytest.raises(ValueError, match="fraction"):
        mask_annotations(said, 2.0)
    with pytest.raises(ValueError, match="kind must be one of"):
        simulate_annotators(torch.randn(9, 2), torch.arange(9) % 3, "lazy")
