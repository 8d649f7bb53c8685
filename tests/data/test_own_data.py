"""Your own data by path, against files whose contents are known."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from neurarium.data import DataError, load

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 4


def together(split):
    parts = (split.train, split.validation, split.test)
    return torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])


def pairs(x, y):
    return sorted((*row, label) for row, label in zip(x.flatten(1).tolist(), y.tolist()))


def test_csv(table):
    split = load(table, target="label")
    assert split.classes == ("no", "yes")
    assert split.name == "table.csv"
    assert [len(part) for part in (split.train, split.validation, split.test)] == [28, 6, 6]
    x, y = together(split)
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    wanted = [
        (np.float32(w), float(k == "blue"), float(k == "red"), float(label == "yes"))
        for w, _, k, label in lines  # the count counts the rows
    ]
    assert pairs(x, y) == sorted(tuple(map(float, row)) for row in wanted)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64


def test_a_path_as_text_and_a_tsv(table, tmp_path):
    (tmp_path / "table.tsv").write_text(table.read_text().replace(",", "\t"))
    first, second = load(str(table), target="label"), load(tmp_path / "table.tsv", target="label")
    assert torch.equal(first.train.x, second.train.x)


def test_parquet_gives_what_csv_gives(table, tmp_path):
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(table), tmp_path / "table.parquet")
    first, second = load(table, target="label"), load(tmp_path / "table.parquet", target="label")
    assert torch.equal(first.train.x, second.train.x)
    assert torch.equal(first.test.y, second.test.y)


def test_parquet_types(tmp_path):
    columns = {
        "flag": [True, False] * 10,
        "small": pyarrow.array(range(20, 40), "uint8"),
        "half": pyarrow.array(np.arange(20, dtype=np.float16)),
        "word": pyarrow.array(["a", "b"] * 10).dictionary_encode(),
        "y": np.arange(20) / 7,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "types.parquet")
    split = load(tmp_path / "types.parquet", target="y")
    assert split.train.x.shape[1] == 5
    assert split.classes == ()
    assert split.train.y.dtype == torch.float32


def test_integers_and_truth_values_are_classes_and_floats_are_not(write):
    lines = "".join(f"{i}.5,{i % 3 - 1},{i % 2 == 0},{i}.25\n" for i in range(30)).replace("True", "true")
    path = write("kinds.csv", "x,sign,flag,amount\n" + lines.replace("False", "false"))
    assert load(path, target="sign").classes == ("-1", "0", "1")
    assert load(path, target="flag").classes == ("False", "True")
    assert load(path, target="amount").classes == ()


def test_integer_classes_sort_as_numbers(write):
    path = write("tens.csv", "x,y\n" + "".join(f"{i}.5,{(9, 10, 100)[i % 3]}\n" for i in range(30)))
    assert load(path, target="y").classes == ("9", "10", "100")


def test_vocabulary_and_statistics_come_from_training_rows_alone(write):
    train = write("train.csv", "x,word,y\n" + "1.0,a,0\n3.0,b,1\n" * 5)
    test = write("test.csv", "x,word,y\n" + "100.0,c,0\n100.0,a,1\n")
    split = load(train, target="y", split=test)
    assert len(split.validation) == 0
    assert split.train.x.shape[1] == 3
    assert split.test.x[:, 1:].tolist() == [[0, 0], [1, 0]]  # "c" is in no training row
    scaled = split.scaled()
    mean, deviation = split.train.x.mean(0), split.train.x.std(0)
    assert torch.allclose(scaled.test.x, (split.test.x - mean) / deviation, atol=1e-5)
    assert torch.allclose(scaled.train.x.mean(0), torch.zeros(3), atol=1e-6)


def test_columns_of_the_test_file_may_be_in_another_order(write):
    train = write("train.csv", "x,z,y\n" + "1.5,9.5,0\n3.5,8.5,1\n" * 5)
    test = write("test.csv", "y,z,x\n0,9.5,1.5\n1,8.5,3.5\n")
    split = load(train, target="y", split=test)
    assert torch.equal(split.test.x, split.train.x[:2])


def test_a_type_is_read_from_the_whole_file(write):
    lines = "".join(f"{i},{i % 2}\n" for i in range(200_000)) + "0.5,1\n"
    split = load(write("long.csv", "x,y\n" + lines), target="y")
    assert 0.5 in together(split)[0]


def test_npz_is_split_by_class(tmp_path):
    np.savez(tmp_path / "all.npz", x=X, y=Y)
    split = load(tmp_path / "all.npz", seed=1)
    assert split.classes == ("0", "1", "2", "3")
    assert pairs(*together(split)) == pairs(torch.from_numpy(X), torch.from_numpy(Y))
    assert torch.equal(split.test.x, load(tmp_path / "all.npz", seed=1).test.x)
    assert split.test.y.bincount().tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("form", ["{}_{}", "{1}_{0}"])
def test_npz_that_is_split_keeps_its_split(tmp_path, form):
    arrays = {form.format(part, k): v for part in ("train", "test") for k, v in (("x", X), ("y", Y))}
    np.savez_compressed(tmp_path / "parts.npz", **arrays)
    split = load(tmp_path / "parts.npz")
    assert torch.equal(split.train.x, torch.from_numpy(X))
    assert torch.equal(split.test.y, torch.from_numpy(Y))
    assert len(split.validation) == 0


def test_npz_images_stay_bytes(tmp_path):
    images = RNG.integers(0, 255, (40, 3, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images, labels=Y[:, None].astype(np.uint8))
    split = load(tmp_path / "images.npz", target="labels")
    assert split.train.x.dtype == torch.uint8
    assert split.train.y.dtype == torch.int64
    assert split.scaled().train.x.mean((0, 2, 3)).abs().max() < 1e-5


def test_arrays_of_other_orders_and_types(tmp_path):
    np.savez(tmp_path / "odd.npz", x=np.asfortranarray(X.astype(">f8")), y=Y.astype(np.int8))
    x, y = together(load(tmp_path / "odd.npz"))
    assert pairs(x, y) == pairs(torch.from_numpy(X), torch.from_numpy(Y))


CLASSES = {
    "from one": (Y + 1, ("1", "2", "3", "4")),
    "with gaps": (Y * 3 - 2, ("-2", "1", "4", "7")),
    "int32": (Y.astype(np.int32), ("0", "1", "2", "3")),
    "uint64": (Y.astype(np.uint64), ("0", "1", "2", "3")),
    "huge": (np.where(Y == 2, 2**60, Y), ("0", "1", "3", str(2**60))),
    "truth values": (Y > 1, ("0", "1")),
    "one-hot": (np.eye(4, dtype=int)[Y], ("0", "1", "2", "3")),
    "one-hot, floating": (np.eye(4, dtype=np.float32)[Y], ("0", "1", "2", "3")),
    "a column": (Y[:, None], ("0", "1", "2", "3")),
    "names": (np.array(["cat ", "dog", "ox", "ape"])[Y], ("ape", "cat", "dog", "ox")),
    "bytes": (np.array([b"a", b"b", b"c", b"d"])[Y], ("a", "b", "c", "d")),
}


@pytest.mark.parametrize("name", CLASSES)
def test_class_labels_of_every_kind(name, tmp_path):
    y, classes = CLASSES[name]
    np.savez(tmp_path / "x.npz", x=X, y=y)
    split = load(tmp_path / "x.npz")
    assert split.classes == classes
    assert split.train.y.dtype == torch.int64
    x, labels = together(split)
    known = {row.tobytes(): i for i, row in enumerate(X)}
    flat = y.argmax(1) if y.ndim == 2 and y.shape[1] > 1 else y.ravel()
    for row, label in zip(x.numpy(), labels.tolist()):
        value = flat[known[row.tobytes()]]
        value = value.decode() if isinstance(value, bytes) else value
        assert classes[label] == str(int(value) if y.dtype.kind in "biuf" else value).strip()


def test_a_split_file_numbers_its_classes_by_the_training_part(tmp_path):
    np.savez(tmp_path / "x.npz", train_x=X, train_y=Y.astype(np.uint8) * 2, test_x=X, test_y=Y.astype(np.int64) * 2)
    split = load(tmp_path / "x.npz")
    assert split.classes == ("0", "2", "4", "6")
    assert torch.equal(split.train.y, split.test.y)


def test_regression_with_several_targets(tmp_path):
    np.savez(tmp_path / "many.npz", x=X, y=X[:, :2] * 2)
    split = load(tmp_path / "many.npz")
    assert split.classes == ()
    assert torch.equal(split.train.y, split.train.x[:, :2] * 2)


def test_two_npz_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    np.savez(tmp_path / "b.npz", x=X + 1, y=Y)
    split = load(tmp_path / "a.npz", split=tmp_path / "b.npz")
    assert torch.equal(split.test.x, split.train.x + 1)


def test_npy(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    split = load(tmp_path / "x.npy", target=str(tmp_path / "y.npy"))
    assert pairs(*together(split)) == pairs(torch.from_numpy(X), torch.from_numpy(Y))


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_files(tmp_path, pair, dtype):
    x, y = torch.from_numpy(X).to(dtype), torch.from_numpy(Y)
    torch.save((x, y) if pair else {"x": x, "y": y}, tmp_path / "data.pt")
    split = load(tmp_path / "data.pt")
    assert pairs(*together(split)) == pairs(x.float(), y)


def test_image_folder(draw, tmp_path):
    for kind, colour in (("dark", 10), ("light", 200)):
        for i in range(10):
            draw(f"pictures/{kind}/{i}.png", (6, 4), colour + i)
    (tmp_path / "pictures/dark/notes.txt").write_text("not an image")
    split = load(tmp_path / "pictures")
    assert split.classes == ("dark", "light")
    assert split.train.x.shape == (12, 4, 6)
    assert split.train.x.dtype == torch.uint8
    for part in (split.train, split.validation, split.test):
        assert torch.equal((part.x.amax((1, 2)) > 100).long(), part.y)


def test_image_folder_in_parts_and_colour(draw, tmp_path):
    for part in ("train", "val", "test"):
        for kind, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0))):
            for i in range(2):
                draw(f"pictures/{part}/{kind}/{i}.png", (4, 4), colour, "RGB")
    draw("pictures/train/red/grey.png", (4, 4), 7)
    split = load(tmp_path / "pictures")
    assert split.classes == ("green", "red")
    assert split.train.x.shape == (5, 3, 4, 4)
    assert len(split.validation) == len(split.test) == 4
    assert split.test.x[split.test.y == 1].unique(dim=0).flatten(2)[0].T[0].tolist() == [255, 0, 0]


def test_a_known_name_goes_before_a_file_and_a_path_reaches_the_file(tmp_path, monkeypatch, draw):
    monkeypatch.chdir(tmp_path)
    draw("iris/a/0.png")
    assert load("iris").train.x.shape[1] == 4
    with pytest.raises(DataError, match="'a' only"):
        load("./iris")
