import hashlib
import inspect
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

import neurarium.data
from neurarium.data import (
    DataError,
    catalogue,
    describe,
    fetch,
    load,
    load_audio,
    load_crowd,
    load_graph,
    load_omniglot,
    load_pairs,
    load_text,
    load_triples,
)
from neurarium.data.known._sets import LOADERS, known, table
from neurarium.data.known._split_sets import CIFAR10, decode_cifar, decode_cifar_jpeg


def test_the_bundled_slice_is_the_published_images(no_network):
    split = load("mnist-small")
    assert split.train.x.shape == (12_000, 28, 28)
    assert split.test.x.shape == (5_000, 28, 28)
    assert len(split.validation) == 0
    assert split.train.x.dtype == torch.uint8
    assert split.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert split.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # Counts and hash of the slice, computed from the official IDX files.
    assert split.train.y.bincount().tolist() == TRAIN_COUNTS
    assert split.test.y.bincount().tolist() == TEST_COUNTS
    assert hashlib.sha256(split.train.x.numpy().tobytes()).hexdigest() == TRAIN_SHA


TRAIN_COUNTS = [1206, 1351, 1176, 1228, 1184, 1048, 1208, 1279, 1127, 1193]
TEST_COUNTS = [460, 571, 530, 500, 500, 456, 462, 512, 489, 520]
TRAIN_SHA = "f4a0e5dc2ae49490a67998ae36b95959935eacc6cb14eabc4cd73ed4ae0e493f"


def test_scaled_images_use_the_training_statistics():
    split = load("mnist-small").scaled()
    assert abs(float(split.train.x.mean())) < 1e-3
    assert abs(float(split.train.x.std()) - 1) < 1e-3
    assert abs(float(split.test.x.mean())) > 1e-3


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast-cancer"])
def test_a_random_split_is_stratified_seeded_and_without_overlap(name):
    split = load(name, seed=3)
    loader = getattr(datasets, f"load_{name.replace('-', '_')}")
    total = np.bincount(loader().target)
    parts = (split.train, split.validation, split.test)
    counts = torch.stack([part.y.bincount(minlength=len(split.classes)) for part in parts])
    assert counts.sum(0).tolist() == total.tolist()
    assert np.abs(counts.numpy() - np.outer([0.7, 0.15, 0.15], total)).max() <= 1
    rows = torch.cat([part.x.flatten(1).double() for part in parts])
    assert torch.equal(rows.sort(0).values, torch.from_numpy(loader().data).float().double().sort(0).values)
    again, other = load(name, seed=3), load(name, seed=4)
    assert torch.equal(again.test.x, split.test.x)
    assert not torch.equal(other.test.x, split.test.x)


def test_fractions_are_taken():
    split = load("digits", split=(0.5, 0.0, 0.5))
    assert len(split.validation) == 0
    assert abs(len(split.train) - len(split.test)) <= 10


def test_diabetes_is_a_regression():
    split = load("diabetes")
    assert split.classes == ()
    assert split.train.y.dtype == torch.float32
    assert len(split.train) + len(split.validation) + len(split.test) == 442


def test_every_set_has_a_row_a_loader_and_a_description(no_network):
    rows = catalogue()
    assert len(rows) == len(table()) >= 25
    for row in rows:
        assert set(row) == {"name", "kind", "size", "licence", "source", "cached"}
        assert callable(getattr(neurarium.data, LOADERS[row["kind"]]))
        assert row["name"] in describe(row["name"])["load with"]
    assert [row["name"] for row in rows if row["cached"]] == [
        "mnist-small", "digits", "iris", "wine", "breast-cancer", "diabetes",
    ]  # fmt: skip


def test_every_file_of_the_table_has_a_hash():
    for entry in table().values():
        for source in entry.sources:
            for name, sha in source.files.items():
                assert len(sha.removeprefix("tree:")) == 64, (entry.name, name)
                assert ".." not in Path(name).parts
                assert not Path(name).is_absolute()


def test_fetch_gives_the_file(no_network):
    assert fetch("mnist-small").name == "mnist-small.npz"
    assert fetch("iris").is_dir()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: load("cora"), r"load_graph\('cora'\)"),
        (lambda: load("mr"), r"load_text\('mr'\)"),
        (lambda: load_text("mnist"), r"load\('mnist'\)"),
        (lambda: load_text("mrr"), "'mr'"),
        (lambda: load_graph("citesear"), "'citeseer'"),
        (lambda: load_triples("wn18"), "'wn18rr'"),
        (lambda: load_pairs("scan", "jumpp"), "'jump'"),
        (lambda: load_pairs("nl-rx", None), "'synth', 'turk'"),
        (lambda: load_crowd("crowd-mturk", "adult2"), "'adult-2'"),
        (lambda: load_text("trec", split=(0.7, 0.15, 0.15)), "published split"),
        (lambda: load_text("mr", split=(0.7, 0.3)), "three fractions"),
        (lambda: describe("minst"), "'mnist'"),
        (lambda: fetch("cifar-10"), "'cifar10'"),
        (lambda: known(3), "string"),
        (lambda: load_audio("mnist"), r"load\('mnist'\)"),
        (lambda: load_omniglot("omniglot"), "'omniglot-part'"),
    ],
)
def test_wrong_requests(no_network, call, words):
    with pytest.raises(DataError, match=words) as refusal:
        call()
    assert "\n" not in str(refusal.value)


SIZES = {
    "mr": (7462, 1600, 1600, [5331, 5331]),
    "subj": (7000, 1500, 1500, [5000, 5000]),
    "cr": (2643, 566, 566, [1368, 2407]),
    "mpqa": (7424, 1591, 1591, [7294, 3312]),
    "trec": (5452, 0, 500, [1300, 1344, 95, 1288, 916, 1009]),
    "sst2": (6920, 872, 1821, [4650, 4963]),
    "sst5": (8544, 1101, 2210, [1510, 3140, 2242, 3111, 1852]),
}


@pytest.mark.parametrize("name", SIZES)
def test_sentences(or_skip, name):
    split = or_skip(load_text, name)
    *sizes, counts = SIZES[name]
    assert [len(split.train), len(split.validation), len(split.test)] == sizes
    everything = split.train + split.validation + split.test
    assert np.bincount([label for _, label in everything]).tolist() == counts
    assert sum(not text for text, _ in everything) == {"cr": 4, "mpqa": 3}.get(name, 0)
    assert len(split.classes) == len(counts)


def test_trec_labels_are_the_question_types(or_skip):
    split = or_skip(load_text, "trec")
    by_text = dict(split.test)
    assert split.classes[by_text["How far is it from Denver to Aspen ?"]] == "number"
    assert split.classes[by_text["Who was Galileo ?"]] == "human"
    assert split.classes[by_text["What is an atom ?"]] == "description"


@pytest.mark.parametrize(
    ("name", "variant", "sizes"),
    [
        ("scan", "simple", (16728, 0, 4182)),
        ("scan", "length", (16990, 0, 3920)),
        ("scan", "jump", (14670, 0, 7706)),
        ("scan", "turn-left", (21890, 0, 1208)),
        ("nl-rx", "synth", (6500, 1000, 2500)),
        ("nl-rx", "turk", (6500, 1000, 2500)),
    ],
)
def test_pairs(or_skip, name, variant, sizes):
    split = or_skip(load_pairs, name, variant)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    assert all(len(pair) == 2 and all(pair) for pair in split.train[:200])


def test_scan_length_split_trains_on_short_and_tests_on_long(or_skip):
    split = or_skip(load_pairs, "scan", "length")
    assert max(len(actions.split()) for _, actions in split.train) == 22
    assert min(len(actions.split()) for _, actions in split.test) == 24


def test_spoken_digits(or_skip):
    split = or_skip(load_audio)
    assert (len(split.train), len(split.test)) == (2700, 300)
    assert split.test.labels.bincount().tolist() == [30] * 10
    assert len(set(split.train.speakers)) == 6
    assert max(float(wave.abs().max()) for wave in split.train.waves) <= 1


def test_omniglot(or_skip):
    first = or_skip(load_omniglot)
    assert first.images.shape == (4840, 105, 105)
    assert len(first.names) == 242
    assert first.characters.bincount().tolist() == [20] * 242
    assert 0.02 < float(first.images.float().mean()) < 0.2  # ink is 1
    assert first.run_answers.sort(1).values.tolist() == [list(range(20))] * 20
    assert torch.equal(load_omniglot().images, first.images)  # from the decoded cache


@pytest.mark.parametrize(
    ("name", "nodes", "features", "edges", "parts"),
    [("cora", 2708, 1433, 5278, (140, 500, 1000)), ("citeseer", 3327, 3703, 4552, (120, 500, 1000))],
)
def test_citations(or_skip, name, nodes, features, edges, parts):
    graph = or_skip(load_graph, name)
    assert graph.features.shape == (nodes, features)
    assert graph.features.unique().tolist() == [0, 1]
    assert graph.edges.shape == (2, 2 * edges)
    assert set(map(tuple, graph.edges.T.tolist())) == set(map(tuple, graph.edges.flip(0).T.tolist()))
    assert tuple(int(part.sum()) for part in (graph.train, graph.validation, graph.test)) == parts
    assert not bool((graph.train & graph.test).any())
    assert graph.labels[graph.train].bincount().tolist() == [20] * graph.classes


@pytest.mark.parametrize(
    ("name", "sizes", "relations"),
    [("wn18rr", (86835, 3034, 3134), 11), ("fb15k-237", (272115, 17535, 20466), 237)],
)
def test_triples(or_skip, name, sizes, relations):
    facts = or_skip(load_triples, name)
    parts = (facts.train, facts.validation, facts.test)
    assert tuple(len(part) for part in parts) == sizes
    every = torch.cat(parts)
    assert len(facts.relations) == relations == len(every[:, 1].unique())
    assert int(every[:, [0, 2]].max()) < len(facts.entities)


def test_wordnet_names_are_kept(or_skip):
    facts = or_skip(load_triples, "wn18rr")
    head, relation, tail = facts.train[0].tolist()
    names = (facts.entities[head], facts.relations[relation], facts.entities[tail])
    assert names == ("land_reform.n.01", "_hypernym", "reform.n.01")


@pytest.mark.parametrize(
    ("variant", "rows", "workers", "items", "gold"),
    [
        ("adult-2", 92721, 825, 11040, 333),
        ("adult-3", 44373, 338, 496, 0),
        ("tweets", 5000, 83, 1000, 1000),
        ("spam-crowdflower", 42762, 153, 5380, 100),
        ("spam-mturk", 28354, 135, 5840, 0),
    ],
)
def test_crowds(or_skip, variant, rows, workers, items, gold):
    crowd = or_skip(load_crowd, "crowd-mturk", variant)
    assert len(crowd.labels) == len(crowd.workers) == len(crowd.items) == rows
    assert (len(crowd.worker_names), len(crowd.item_names)) == (workers, items)
    assert int((crowd.gold >= 0).sum()) == gold
    assert int(crowd.labels.max()) == len(crowd.classes) - 1


def test_the_majority_of_workers_is_mostly_right(or_skip):
    crowd = or_skip(load_crowd, "crowd-mturk", "tweets")
    votes = torch.zeros(len(crowd.item_names), 2).index_put_((crowd.items, crowd.labels), torch.tensor(1.0), True)
    assert float((votes.argmax(1) == crowd.gold).float().mean()) > 0.6


def test_public_names_are_not_hidden_by_modules():
    import neurarium.data._loading
    import neurarium.data.known._cache
    import neurarium.data.known._sets

    for name in neurarium.data.__all__:
        assert not inspect.ismodule(getattr(neurarium.data, name)), name


def test_cifar_binary_and_jpeg_copies_decode_alike():
    rng = np.random.default_rng(0)
    images = np.repeat(np.repeat(rng.integers(0, 255, (60, 3, 4, 4), dtype=np.uint8), 8, 2), 8, 3)  # smooth for JPEG
    labels = np.arange(60, dtype=np.uint8) % 10
    binary, copy = {}, {}
    for part in range(6):
        rows = slice(10 * part, 10 * part + 10)
        name = f"data_batch_{part + 1}.bin" if part < 5 else "test_batch.bin"
        content = np.concatenate([labels[rows, None], images[rows].reshape(10, -1)], 1)
        binary[f"cifar-10-batches-bin/{name}"] = content.tobytes()
    for i, (image, label) in enumerate(zip(images, labels)):
        stream = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG", quality=98, subsampling=0)
        copy[f"{'train' if i < 50 else 'test'}/{CIFAR10[label]}/{i:04d}.jpg"] = stream.getvalue()
    exact, lossy = decode_cifar(binary), decode_cifar_jpeg(copy)
    for part, n in (("train", 50), ("test", 10)):
        assert exact[f"{part}_x"].shape == lossy[f"{part}_x"].shape == (n, 3, 32, 32)
        assert lossy[f"{part}_y"].bincount().tolist() == exact[f"{part}_y"].bincount().tolist()
        # The copy is in another order: match each image with the nearest one and compare label and pixels.
        distances = torch.cdist(lossy[f"{part}_x"].flatten(1).float(), exact[f"{part}_x"].flatten(1).float())
        nearest = distances.argmin(1)
        assert nearest.sort().values.tolist() == list(range(n))
        assert torch.equal(exact[f"{part}_y"][nearest], lossy[f"{part}_y"])
        assert float(distances.min(1).values.max()) / 3072**0.5 < 8


def test_adult_rows(monkeypatch):
    row = "{}, {}, 77516, Bachelors, 13, Never-married, Sales, Not-in-family, White, Male, 0, 0, 40, {}, {}"
    train = "\n".join([row.format(39, "Private", "Cuba", "<=50K"), row.format(50, "?", "Peru", ">50K"), ""])
    test = "|1x3 Cross validator\n" + row.format(28, "Private", "Laos", ">50K") + ".\n"
    files = {"adult.data": train.encode(), "adult.test": test.encode()}
    monkeypatch.setattr("neurarium.data.known._split_sets.members", lambda entry: files)
    split = load("adult")
    assert split.classes == ("<=50K", ">50K")
    assert (split.train.y.tolist(), split.test.y.tolist()) == ([0, 1], [1])
    assert split.train.x[:, :4].tolist() == [[39, 0, 1, 77516], [50, 1, 0, 77516]]  # age, "?", "Private", fnlwgt
    assert split.test.x[0, -2:].tolist() == [0, 0]  # Laos is in no training row
