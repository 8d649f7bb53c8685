"""Time series in the formats of the archives, against small files whose values are known."""

import numpy as np
import pytest
import torch

from neurarium.data import DataError, load_time_series

TRAIN = """# a comment
@problemName Toy
@timeStamps false
@univariate true
@classLabel true a b
@data
1.5,2.5,3.5:a
4,5,6:b
"""


@pytest.fixture
def toy(tmp_path, no_network):
    def write(train=TRAIN, test=TRAIN, suffix="ts"):
        for part, text in (("TRAIN", train), ("TEST", test)):
            (tmp_path / f"Toy_{part}.{suffix}").write_text(text)
        return tmp_path / f"Toy_TRAIN.{suffix}"

    return write


def test_one_channel(toy):
    split = load_time_series(toy())
    assert split.train.x.tolist() == [[[1.5, 2.5, 3.5]], [[4, 5, 6]]]
    assert split.train.y.tolist() == [0, 1]
    assert split.classes == ("a", "b")
    assert len(split.validation) == 0
    assert split.lengths["train"].tolist() == [3, 3]


def test_several_channels_of_unequal_length_are_filled_up_behind(toy):
    train = TRAIN.replace("1.5,2.5,3.5:a", "1,2:3,4:a").replace("4,5,6:b", "5,6,7:8,9,10:b")
    split = load_time_series(toy(train, train.replace("5,6,7:8,9,10:b", "1:1:b")))
    assert split.train.x.tolist() == [[[1, 2, 0], [3, 4, 0]], [[5, 6, 7], [8, 9, 10]]]
    assert split.test.x.shape == (2, 2, 3)
    assert split.lengths["train"].tolist() == [2, 3]
    assert split.lengths["test"].tolist() == [2, 1]


def test_quantities(toy):
    text = TRAIN.replace("@classLabel true a b", "@targetLabel true").replace(":a", ":0.5").replace(":b", ":-2")
    split = load_time_series(toy(text, text))
    assert split.classes == ()
    assert split.train.y.tolist() == [0.5, -2.0]


@pytest.mark.parametrize("separator", ["\t", ",", "  "])
def test_the_ucr_archive(toy, separator):
    lines = [["2", "1.5", "2.5", "NaN"], ["-1", "3", "4", "5"], ["1e1", "3", "4", "5"]]
    text = "\n".join(separator.join(line) for line in lines)
    split = load_time_series(toy(text, text, "tsv"))
    assert split.classes == ("-1", "2", "10")
    assert split.train.y.tolist() == [1, 0, 2]
    assert split.train.x[0].tolist() == [[1.5, 2.5, 0]]
    assert split.lengths["train"].tolist() == [2, 3, 3]


def test_npz(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 5, 2))
    np.savez(tmp_path / "a.npz", X_train=x, y_train=np.arange(6) % 2 + 1, X_test=x, y_test=np.arange(6) % 2 + 1)
    split = load_time_series(tmp_path / "a.npz")
    assert torch.equal(split.train.x, torch.from_numpy(x.transpose(0, 2, 1).astype(np.float32)))
    assert split.classes == ("1", "2")


REFUSED = {
    "missing value": (TRAIN.replace("2.5", "?"), TRAIN, "series 1 has no finite value at step 2; fill it in"),
    "unequal channels": (TRAIN.replace("4,5,6:b", "4,5:6:b"), TRAIN, "series 2 has 2 channels, the first has 1"),
    "new class": (TRAIN, TRAIN.replace("6:b", "6:c"), "series 2 is of class 'c', which training lacks"),
    "one class": (TRAIN.replace("6:b", "6:a"), TRAIN, "one class 'a' only"),
    "no data": ("@classLabel true a b\n", TRAIN, "no line @data"),
    "no series": (TRAIN.split("1.5")[0], TRAIN, "holds no series"),
    "no targets": (TRAIN.replace("@classLabel true a b\n", ""), TRAIN, "neither @classLabel nor @targetLabel"),
    "time stamps": (TRAIN.replace("@timeStamps false", "@timeStamps true"), TRAIN, "time stamps"),
    "no colon": (TRAIN.replace(":a", ""), TRAIN, "line 7: a series and its target are separated by a colon"),
    "text": (TRAIN.replace("2.5", "x"), TRAIN, "line 7: could not convert"),
    "quantity of text": (TRAIN.replace("@classLabel true a b", "@targetLabel true"), TRAIN, "'a', not a number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused(name, toy):
    train, test, words = REFUSED[name]
    with pytest.raises(DataError) as refusal:
        load_time_series(toy(train, test))
    assert words in str(refusal.value)
    assert "Toy_" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_that_are_not_there(toy, tmp_path):
    path = toy()
    (tmp_path / "Toy_TEST.ts").unlink()
    with pytest.raises(DataError, match=r"name the test file of .*Toy_TRAIN\.ts with test=.* does not exist"):
        load_time_series(path)
    with pytest.raises(DataError, match="did you mean 'gunpoint'"):
        load_time_series("gunpiont")
    with pytest.raises(DataError, match="takes no test file"):
        load_time_series("gunpoint", test=path)
    with pytest.raises(DataError, match=r"forbids fetching; put GunPoint_TRAIN\.ts, GunPoint_TEST\.ts"):
        load_time_series("gunpoint")
