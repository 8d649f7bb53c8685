"""Files that common tools write by default are simply read, whatever they do to delimiters, encodings and indices."""

import bz2
import gzip
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from neurarium.data import DataError, load

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "width": RNG.normal(size=60).round(3),
        "price": RNG.uniform(0, 9e3, 60).round(2),
        "colour": np.where(RNG.random(60) < 0.5, "Grün", "Café"),
        "kind": np.where(np.arange(60) % 3 > 0, "yes", "no"),
    }
)


def reference(tmp_path):
    FRAME.to_csv(tmp_path / "reference.csv", index=False)
    return load(tmp_path / "reference.csv", target="kind")


def same(first, second):
    return (
        first.classes == second.classes
        and torch.allclose(first.train.x, second.train.x, rtol=1e-6)
        and torch.equal(first.test.y, second.test.y)
    )


def excel_text(frame, **options):
    """What Excel saves as "Unicode text": UTF-16 with a mark, tabs, DOS line ends."""
    return frame.to_csv(index=False, sep="\t", lineterminator="\r\n", **options).encode("utf-16")


PLAIN = FRAME.to_csv(index=False)
WRITTEN = {
    "pandas": ("f.csv", PLAIN.encode()),
    "pandas, index": ("f.csv", FRAME.to_csv().encode()),
    "pandas, shuffled index": ("f.csv", FRAME.set_axis(RNG.permutation(60) * 3).to_csv().encode()),
    "pandas, index written twice": ("f.csv", FRAME.rename_axis("Unnamed: 0").to_csv().encode()),
    "pandas, sep=;, decimal comma": ("f.csv", FRAME.to_csv(index=False, sep=";", decimal=",").encode()),
    "pandas, decimal comma in quotes": ("f.csv", FRAME.to_csv(index=False, decimal=",").encode()),
    "pandas, tabs": ("f.csv", FRAME.to_csv(index=False, sep="\t").encode()),
    "pandas, bars": ("f.txt", FRAME.to_csv(index=False, sep="|").encode()),
    "commas in a tsv": ("f.tsv", PLAIN.encode()),
    "R, write.csv": ("f.csv", FRAME.set_axis(range(1, 61)).to_csv(quoting=2).encode()),
    "R, write.table": ("f.txt", FRAME.to_csv(sep="\t").encode().replace(b"\twidth", b"width", 1)),
    "Excel, UTF-8": ("f.csv", PLAIN.replace("\n", "\r\n").encode("utf-8-sig")),
    "Excel, ANSI": ("f.csv", FRAME.to_csv(index=False, sep=";", decimal=",").encode("cp1252")),
    "Excel, sep=": ("f.csv", b"sep=;\r\n" + FRAME.to_csv(index=False, sep=";").encode()),
    "Excel, Unicode text": ("f.txt", excel_text(FRAME)),
    "Excel, empty rows below": ("f.csv", (PLAIN + ",,,\n" * 3).encode()),
    "Excel, an empty column": ("f.csv", "\n".join(line + "," for line in PLAIN.splitlines()).encode()),
    "old Mac line ends": ("f.csv", PLAIN.replace("\n", "\r").encode()),
    "blanks around fields": ("f.csv", PLAIN.replace(",", ", ").replace("\n", " \n").encode()),
    "quoted fields": ("f.csv", FRAME.to_csv(index=False, quoting=1).encode()),
    "gzip": ("f.csv.gz", gzip.compress(PLAIN.encode())),
    "bzip2": ("f.csv.bz2", bz2.compress(PLAIN.encode())),
    "xz": ("f.csv.xz", lzma.compress(PLAIN.encode())),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_read_as_the_plain_file_is(name, tmp_path):
    file, content = WRITTEN[name]
    (tmp_path / file).write_bytes(content)
    assert same(load(tmp_path / file, target="kind"), reference(tmp_path)), name


def test_a_zip_of_a_mac(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.csv.zip", "w") as archive:
        archive.writestr("f.csv", PLAIN)
        archive.writestr("__MACOSX/._f.csv", b"resource fork")
    assert same(load(tmp_path / "f.csv.zip", target="kind"), reference(tmp_path))
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("a.csv", PLAIN)
        archive.writestr("b.csv", PLAIN)
    with pytest.raises(DataError, match="must hold one table, not 2 files"):
        load(tmp_path / "two.csv.zip", target="kind")


def test_excel(tmp_path):
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "f.xlsx") as book:
        FRAME.to_excel(book, sheet_name="data", index=False)
        FRAME.to_excel(book, sheet_name="more", index=False)
    split = load(tmp_path / "f.xlsx", target="kind")
    assert same(split, reference(tmp_path))
    assert split.notes["f.xlsx"] == "read from the first sheet, 'data', of 2"


def test_the_index_that_pandas_writes_into_parquet_is_left_out_and_named(tmp_path):
    noise = pd.DataFrame({"x": RNG.normal(size=60), "kind": np.arange(60) // 30})
    for index in (None, RNG.permutation(60) + 7, pd.Index(np.arange(60.0), name="when")):
        frame = noise if index is None else noise.set_axis(index)
        frame.sort_values("kind").to_parquet(tmp_path / "f.parquet")
        split = load(tmp_path / "f.parquet", target="kind")
        assert split.train.x.shape[1] == 1
        assert split.encoder.columns == ("x",)
    assert split.notes["when"] == "left out: pandas' index, by the file's metadata; keep='when' makes it an input"
    assert load(tmp_path / "f.parquet", target="kind", keep="when").train.x.shape[1] == 2


def test_names_0_1_2_are_what_pandas_calls_the_columns_of_an_array(tmp_path):
    pd.DataFrame(np.c_[RNG.normal(size=(40, 2)), np.arange(40) % 2]).astype({2: int}).to_csv(
        tmp_path / "f.csv", index=False
    )
    assert load(tmp_path / "f.csv", target="2").train.x.shape[1] == 2


def test_quoted_newlines_delimiters_and_names(tmp_path):
    (tmp_path / "f.csv").write_text('"a, b","note\nof two lines",y\n' + '1.5,"one;\ntwo, three",0\n2.5,four,1\n' * 10)
    split = load(tmp_path / "f.csv", target="y")
    assert set(split.notes) == {"a, b", "note\nof two lines", "y"}
    assert split.train.x.shape[1] == 3


def test_two_equal_columns_of_one_name_are_one(tmp_path):
    (tmp_path / "f.csv").write_text("a,a,y\n" + "1.5,1.5,0\n2.5,2.5,1\n" * 10)
    split = load(tmp_path / "f.csv", target="y")
    assert split.train.x.shape[1] == 1
    assert split.notes["f.csv"] == "a second column 'a', equal to the first, is left out"


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("neurarium.data.tables._read.LONGEST", 1000)
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(bytes(100_000)))
    with pytest.raises(DataError, match="unpacks to more than"):
        load(tmp_path / "f.csv.gz", target="y")


def test_a_lone_comma_is_decimal_where_semicolons_separate(tmp_path):
    (tmp_path / "f.csv").write_text("a;y\n" + "1,234;0\n5,678;1\n" * 10)
    split = load(tmp_path / "f.csv", target="y")
    assert split.notes["a"] == "numbers with a decimal comma"
    assert set(split.train.x.flatten().tolist()) == {float(np.float32(1.234)), float(np.float32(5.678))}
    (tmp_path / "f.csv").write_text("a,y\n" + '"1,234",0\n"5,678",1\n' * 10)
    assert set(load(tmp_path / "f.csv", target="y").train.x.flatten().tolist()) == {1234.0, 5678.0}
