"""From columns to inputs: what is left out and named, what a gap becomes, and that only training rows decide."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from neurarium.data import DataError, load

RNG = np.random.default_rng(0)
N = 80


@pytest.fixture
def written(tmp_path):
    """Write columns as a CSV; there is a target ``y`` of two classes."""

    def write(name="f.csv", rows=N, **columns):
        frame = pd.DataFrame({"y": np.arange(rows) % 2, "x": RNG.normal(size=rows)} | columns)
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def column(split, name):
    """An input of all parts by its name."""
    position = split.encoder.columns.index(name)
    return torch.cat([part.x[:, position] for part in (split.train, split.validation, split.test)])


def test_gaps_are_filled_with_the_training_median_and_marked(written):
    values = RNG.normal(size=N)
    values[::9] = np.nan
    split = load(written(g=values, c=np.where(np.arange(N) % 7 == 0, None, "red")), target="y")
    assert split.encoder.columns == ("x", "g", "g is missing", "c red", "c nan")
    marked = split.train.x[:, 2] == 1
    present = split.train.x[~marked, 1]
    low, high = present.sort().values[(len(present) - 1) // 2], present.sort().values[len(present) // 2]
    assert torch.allclose(split.train.x[marked, 1], (low + high) / 2)
    assert int(column(split, "g is missing").sum()) == 9
    gaps = int(marked.sum())
    assert split.notes["g"] == f"numbers; {gaps} gap(s) in training, filled with the median and marked"
    assert torch.equal(split.train.x[:, 3] + split.train.x[:, 4], torch.ones(len(split.train)))
    with pytest.raises(DataError, match=r"f\.csv: column 'g' has no value in row 1; fill it in"):
        load(written(g=values), target="y", missing="refuse")


def test_rows_without_a_target_are_left_out_or_refused(written):
    path = written(t=np.where(np.arange(N) % 10 == 3, np.nan, np.arange(N) % 3))
    split = load(path, target="t", drop="y")
    assert sum(len(part) for part in (split.train, split.validation, split.test)) == N - 8
    assert split.classes == ("0", "1", "2")  # the gaps had turned whole numbers into others
    assert split.notes["f.csv"] == "8 row(s) without a target left out, the first is row 4"
    with pytest.raises(DataError, match="column 't' has no value in row 4"):
        load(path, target="t", missing="refuse")


IDENTIFIERS = {
    "id": np.arange(N)[::-1] * 3 + 1000,
    "customer_id": RNG.permutation(10**6)[:N],
    "PassengerId": np.arange(5, 5 + N),
    "anything": np.arange(1, N + 1),
    "shuffled": RNG.permutation(N),
    "code": [f"K{i:05d}" for i in range(N)],
    "uuid": [f"{i:x}-{i * 7:x}" for i in range(N)],
}


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_identifiers_are_left_out_and_named_and_can_be_kept(name, written):
    path = written(**{name: IDENTIFIERS[name]})
    split = load(path, target="y")
    assert split.encoder.columns == ("x",)
    assert split.notes[name].startswith("left out: ")
    assert f"keep={name!r}" in split.notes[name]
    assert load(path, target="y", keep=[name]).train.x.shape[1] > 1


ALL_DIFFERENT = {
    "income": RNG.permutation(10**5)[:N],
    "share": RNG.random(N),
    "paid": np.arange(N) * 7 + 3,
    "time": 1_600_000_000 + np.arange(N),
    "review": [f"a text of some words, number {i}" for i in range(N)],
    "when": pd.date_range("2020-01-01", periods=N).astype(str),
    "price": [f"${i}.50" for i in range(N)],
}


@pytest.mark.parametrize("name", ALL_DIFFERENT)
def test_quantities_dates_and_sentences_that_all_differ_are_inputs(name, written):
    split = load(written(**{name: ALL_DIFFERENT[name]}), target="y")
    assert not split.notes[name].startswith("left out")
    assert split.train.x.shape[1] > 1


def test_the_last_input_is_never_left_out(tmp_path):
    pd.DataFrame({"n": np.arange(N), "y": np.arange(N) % 2}).to_csv(tmp_path / "f.csv", index=False)
    assert load(tmp_path / "f.csv", target="y").encoder.columns == ("n",)


def test_unix_times_a_second_apart_and_long_identifiers_stay_apart(written, tmp_path):
    times = 1_600_000_000 + RNG.permutation(N)
    long = 10**15 + RNG.permutation(10**6)[:N]
    split = load(written(time=times, number=long, moment=pd.to_datetime(times, unit="s")), target="y")
    for part in (split, split.scaled()):
        for name in ("time", "number", "moment days"):
            assert len(column(part, name).unique()) == N
    seconds = column(split.scaled(), "time").sort().values
    assert torch.allclose(seconds.diff(), seconds.diff().mean(), rtol=1e-4)
    assert split.notes["time"].endswith("standardised here, for float32 could not tell its values apart")
    assert torch.allclose(split.scaled().train.x.std(0), torch.ones(1), atol=1e-3)

    np.savez(tmp_path / "f.npz", x=np.c_[times, long, np.ones(N)].astype(np.int64), y=np.arange(N) % 2)
    split = load(tmp_path / "f.npz")
    for position in (0, 1):
        parts = [part.x[:, position] for part in (split.train, split.validation, split.test)]
        assert len(torch.cat(parts).unique()) == N
    assert split.train.x.dtype == torch.float32
    assert bool((split.scaled().train.x[:, 2] == 0).all())


def test_huge_and_tiny_numbers(written):
    split = load(written(huge=RNG.normal(size=N) * 1e300, tiny=RNG.normal(size=N) * 1e-300), target="y").scaled()
    assert bool(split.test.x.isfinite().all())
    assert torch.allclose(split.train.x.std(0), torch.ones(3), atol=1e-2)


def test_dates_become_days_and_parts(written):
    when = pd.to_datetime("2020-02-28 12:00") + pd.to_timedelta(RNG.permutation(N), unit="D")
    split = load(written(when=when), target="y")
    days = column(split, "when days")
    assert sorted((days - days.min()).tolist()) == list(range(N))
    assert float(days.min()) == (pd.Timestamp("2020-02-28 12:00") - pd.Timestamp(0)) / pd.Timedelta(days=1)
    circle = [name for name in split.encoder.columns if "weekday" in name]
    assert len(circle) == 2
    assert len(torch.stack([column(split, name) for name in circle], 1).round(decimals=4).unique(dim=0)) == 7


def test_hundreds_of_categories_become_few_numbers(written):
    words = ["north", "south", "east", "west"]
    texts = [f"{words[i % 4]}-{i // 4 % 150:03d}" for i in range(1200)]
    split = load(written(rows=1200, place=texts), target="y")
    assert split.train.x.shape[1] == 1 + 30
    assert "different texts, as 30 numbers by their letters" in split.notes["place"]
    again = load(written(rows=1200, place=texts), target="y")
    assert torch.equal(split.train.x[:, 1:], again.train.x[:, 1:])


def test_only_training_rows_decide(written):
    columns = {"c": np.where(np.arange(N) % 2, "a", "b"), "g": RNG.normal(size=N)}
    split = load(written("train.csv", **columns), target="y", split=written("test.csv", **columns))
    poisoned = {"c": ["other"] * N, "g": [None] * N}
    spoilt = load(written("train.csv", **columns), target="y", split=written("test.csv", **poisoned))
    assert torch.equal(split.train.x[:, 1:], spoilt.train.x[:, 1:])
    assert split.encoder.columns == spoilt.encoder.columns == ("x", "c a", "c b", "g")
    assert spoilt.test.x[:, 1:3].abs().sum() == 0  # a category that no training row has
    assert torch.allclose(spoilt.test.x[:, 3], split.train.x[:, 3].median(), atol=0.5)


def test_new_rows_become_inputs_as_those_of_the_split_did(written, tmp_path):
    path = written(c=np.where(np.arange(N) % 3, "a", "b"), money=[f"${i % 9},000.5" for i in range(1, N + 1)])
    split = load(path, target="y", split=path).scaled()
    frame = pd.read_csv(path)
    assert torch.equal(split.inputs(path), split.train.x)
    assert torch.equal(split.inputs(frame), split.train.x)
    assert torch.equal(split.inputs(frame.drop(columns="y").iloc[[5, 7]]), split.train.x[[5, 7]])
    assert torch.equal(split.flat().inputs(frame), split.train.x)
    assert torch.equal(pickle.loads(pickle.dumps(split)).inputs(frame), split.train.x)
    with pytest.raises(DataError, match="the given rows has no column 'c'"):
        split.inputs(frame.drop(columns="c"))
    with pytest.raises(DataError, match="column 'x' is 'abc' in row 1, where the training rows have numbers"):
        split.inputs(frame.astype({"x": object}).assign(x="abc"))
    with pytest.raises(ValueError, match="iris does not come from a table"):
        load("iris").inputs(frame)


TARGETS = {
    "whole numbers": (np.arange(N) % 3, ("0", "1", "2")),
    "gaps between": (np.array([2, 5, 9])[np.arange(N) % 3], ("2", "5", "9")),
    "text": (np.array(["no", "yes"])[np.arange(N) % 2], ("no", "yes")),
    "trailing blanks": (np.array(["no ", "yes", "no", " yes"])[np.arange(N) % 4], ("no", "yes")),
    "truth values": (np.arange(N) % 2 == 0, ("False", "True")),
    "quantity": (RNG.normal(size=N), ()),
    "many whole numbers": (RNG.permutation(10**4)[:N], ()),
    "money": (np.array(["$1,500.50", "$20.25"])[np.arange(N) % 2], ()),
    "decimal commas": ([f"{i},5" for i in range(N)], ()),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_is_a_class_or_a_quantity(name, written):
    values, classes = TARGETS[name]
    split = load(written(t=values), target="t")
    assert split.classes == classes
    assert split.train.y.dtype == (torch.int64 if classes else torch.float32)
    assert split.notes["t"].startswith("the target, " + (f"of {len(classes)} classes" if classes else "a quantity"))


def test_a_counting_target_of_few_values_per_class_is_a_quantity_in_its_own_units(written):
    split = load(written(t=np.arange(N) * 10), target="t")
    assert sorted(torch.cat([split.train.y, split.validation.y, split.test.y]).tolist()) == [i * 10.0 for i in range(N)]


REFUSED = {
    "drop is unknown": ({"drop": "z"}, "drop: f.csv has no column 'z'"),
    "keep is unknown": ({"keep": ["xx"]}, "keep: f.csv has no column 'xx'; did you mean 'x'?"),
    "drop names the target": ({"drop": ["y"]}, "drop names the target 'y'"),
    "both": ({"drop": "x", "keep": "x"}, "drop and keep both name 'x'"),
    "everything dropped": ({"drop": ["x", "c"]}, "no column but the target 'y' when x, c is left out"),
    "drop is a number": ({"drop": 3}, "drop must be the names of columns, not 3"),
    "keep holds numbers": ({"keep": [1]}, "keep must be the names of columns"),
    "missing": ({"missing": "drop"}, "missing must be 'impute' or 'refuse', not 'drop'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused(name, written):
    options, words = REFUSED[name]
    with pytest.raises(DataError) as refusal:
        load(written(c=np.where(np.arange(N) % 3, "a", "b")), target="y", **options)
    assert words in str(refusal.value)


def test_drop_and_keep_are_for_tables(tmp_path):
    np.savez(tmp_path / "f.npz", x=np.eye(3), y=np.arange(3))
    with pytest.raises(DataError, match="drop is for columns of a table"):
        load(tmp_path / "f.npz", drop="x")
    with pytest.raises(DataError, match="iris is a known set"):
        load("iris", keep="x")
