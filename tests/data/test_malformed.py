"""Every way we could think of in which data can be bad, each refused with one sentence that names what is wrong."""

import io
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from neurarium.data import DataError, load

GOOD_X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
GOOD_Y = np.arange(30) % 3


def rows(n=30, target="label"):
    """Lines of a good CSV."""
    return [f"width,count,colour,{target}"] + [f"{i}.5,{i},{'ab'[i % 2]},{'yes' if i % 3 else 'no'}" for i in range(n)]


def changed(line, text, n=30):
    """A good CSV with one line replaced."""
    lines = rows(n)
    lines[line] = text
    return "\n".join(lines) + "\n"


def csv(text, name="bad.csv", target="label", **options):
    """A case that writes text and loads it."""

    def run(folder):
        content = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(content)
        load(folder / name, target=target, **options)

    return run


def parquet(columns, target="y", **options):
    def run(folder):
        table = pyarrow.table(columns) if isinstance(columns, dict) else pyarrow.Table.from_arrays(*columns)
        pyarrow.parquet.write_table(table, folder / "bad.parquet")
        load(folder / "bad.parquet", target=target, **options)

    return run


def npz(target=None, split=None, **arrays):
    def run(folder):
        np.savez(folder / "bad.npz", **arrays)
        load(folder / "bad.npz", target=target, split=split)

    return run


def npy(x, y, name="y.npy"):
    def run(folder):
        np.save(folder / "x.npy", x, allow_pickle=True)
        np.save(folder / "y.npy", y, allow_pickle=True)
        load(folder / "x.npy", target=str(folder / name))

    return run


def saved(content, name="bad.pt", target=None, **options):
    def run(folder):
        torch.save(content, folder / name, **options)
        load(folder / name, target=target)

    return run


def raw(name, content, target=None):
    def run(folder):
        (folder / name).write_bytes(content)
        load(folder / name, target=target)

    return run


def good_npz():
    stream = io.BytesIO()
    np.savez(stream, x=GOOD_X, y=GOOD_Y)
    return stream.getvalue()


def good_pt():
    stream = io.BytesIO()
    torch.save({"x": torch.from_numpy(GOOD_X), "y": torch.from_numpy(GOOD_Y)}, stream)
    return stream.getvalue()


def good_parquet():
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"x": [1.0, 2.0] * 20, "y": [0, 1] * 20}), stream)
    return stream.getvalue()


def zipped(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice is what one case is about
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(text):
    """An NPY file whose header is ``text`` and that holds eight bytes."""
    content = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content + bytes(8)


def claiming(shape):
    """An NPY file of eight bytes that claims a shape."""
    return header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}")


class Hostile:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def images(files, target=None, split=None):
    """A case that draws images (name, size, mode) or writes bytes (name, bytes) below a folder."""

    def run(folder):
        top = folder / "pictures"
        top.mkdir()
        for name, content, *mode in files:
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                Image.new(mode[0] if mode else "L", content).save(path)
            else:
                path.mkdir(exist_ok=True)
        load(top, target=target, split=split)

    return run


def png():
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def huge_png():
    """A PNG of a few bytes that claims 100,000 x 100,000 pixels."""
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


SIX = [(f"{c}/{i}.png", (4, 4)) for c in ("cat", "dog") for i in range(3)]
T = torch.tensor
X, Y = torch.from_numpy(GOOD_X), torch.from_numpy(GOOD_Y)


def arguments(*args, **kwargs):
    """A case about the arguments of ``load`` alone."""
    return lambda folder: load(*args, **kwargs)


def with_test_file(train, test, target="label", names=("train.csv", "test.csv")):
    def run(folder):
        for name, text in zip(names, (train, test)):
            (folder / name).write_text(text)
        load(folder / names[0], target=target, split=folder / names[1])

    return run


GOOD = "\n".join(rows()) + "\n"

ARGUMENTS = {
    "unknown name": (arguments("minst"), "did you mean 'mnist'"),
    "unknown name, nothing near": (arguments("zzzzzz"), "'zzzzzz'"),
    "name in capitals": (arguments("MNIST-Small"), "'mnist-small'"),
    "empty name": (arguments(""), "name_or_path"),
    "name is None": (arguments(None), "name_or_path"),
    "name is a number": (arguments(3), "name_or_path"),
    "name is bytes": (arguments(b"mnist"), "name_or_path"),
    "seed is a float": (arguments("iris", seed=0.5), "seed"),
    "seed is text": (arguments("iris", seed="0"), "seed"),
    "seed is a truth value": (arguments("iris", seed=True), "seed"),
    "target of a known set": (arguments("iris", target="species"), "target"),
    "test file of a known set": (lambda f: csv(GOOD)(f) or load("iris", split=f / "bad.csv"), "test file"),
    "two fractions": (arguments("iris", split=(0.7, 0.3)), "three fractions"),
    "no fractions": (arguments("iris", split=()), "three fractions"),
    "fractions above one": (arguments("iris", split=(0.7, 0.3, 0.3)), "add up to 1"),
    "fractions below one": (arguments("iris", split=(0.2, 0.2, 0.2)), "add up to 1"),
    "negative fraction": (arguments("iris", split=(1.2, -0.1, -0.1)), "at least 0"),
    "no training": (arguments("iris", split=(0.0, 0.5, 0.5)), "training"),
    "no test": (arguments("iris", split=(0.5, 0.5, 0.0)), "test"),
    "fraction is nan": (arguments("iris", split=(float("nan"), 0.5, 0.5)), "split"),
    "fraction is infinite": (arguments("iris", split=(float("inf"), 0.5, 0.5)), "split"),
    "fraction is text": (arguments("iris", split=("a", "b", "c")), "split"),
    "split is a number": (arguments("iris", split=0.7), "split"),
    "split names no file": (arguments("iris", split="nowhere.csv"), "nowhere.csv"),
    "fractions for a published split": (arguments("mnist-small", split=(0.7, 0.15, 0.15)), "published split"),
    "a graph": (arguments("cora"), "load_graph"),
    "sentences": (arguments("mr"), "load_text"),
}

FILES = {
    "missing file": (lambda f: load(f / "none.csv", target="y"), "none.csv"),
    "missing file, near one": (lambda f: csv(GOOD)(f) or load(f / "bat.csv", target="y"), "'bad.csv'"),
    "missing folder": (lambda f: load(f / "no" / "where.csv", target="y"), "where.csv"),
    "missing file given as text": (arguments("nowhere.csv", target="y"), "nowhere.csv"),
    "unknown extension": (raw("data.xlsx", b"PK"), "data.xlsx"),
    "pickle by name": (raw("data.pkl", pickle.dumps(Hostile())), "data.pkl"),
    "no extension": (raw("data", b"1,2"), "no kind"),
    "empty csv": (raw("empty.csv", b"", "y"), "empty.csv is empty"),
    "empty parquet": (raw("empty.parquet", b"", "y"), "empty.parquet is empty"),
    "empty npz": (raw("empty.npz", b""), "empty.npz is empty"),
    "empty npy": (raw("empty.npy", b"", "y.npy"), "empty.npy is empty"),
    "empty pt": (raw("empty.pt", b""), "empty.pt is empty"),
}

TABLES = {
    "no target named": (csv(GOOD, target=None), "target=..."),
    "missing target": (csv(GOOD, target="lable"), "did you mean 'label'"),
    "missing target, nothing near": (csv(GOOD, target="zzz"), "'width'"),
    "empty target": (csv(GOOD, target=""), "no column ''"),
    "header only": (csv("a,b,label\n"), "no rows"),
    "blank lines only": (csv("\n\n\n"), "empty"),
    "no header": (csv("1,2,0\n3,4,1\n" * 10), "no header"),
    "two columns of a name": (csv(GOOD.replace("count", "width")), "two columns called 'width'"),
    "column without a name": (csv(GOOD.replace("count", "")), "column 2 has no name"),
    "column named by a blank": (csv(GOOD.replace("count", " ")), "column 2 has no name"),
    "row too short": (csv(changed(5, "1.0,2,a")), "ragged"),
    "row too long": (csv(changed(5, "1.0,2,a,yes,more")), "ragged"),
    "missing number": (csv(changed(5, "1.0,,a,yes"), missing="refuse"), "column 'count' has no value in row 5"),
    "missing text": (csv(changed(6, "1.0,2,,yes"), missing="refuse"), "column 'colour' has no value in row 6"),
    "missing target value": (csv(changed(7, "1.0,2,a,"), missing="refuse"), "column 'label' has no value in row 7"),
    "nan": (csv(changed(5, "nan,2,a,yes"), missing="refuse"), "column 'width' has no value in row 5"),
    "NA": (csv(changed(5, "1.0,NA,a,yes"), missing="refuse"), "column 'count' has no value in row 5"),
    "infinity": (csv(changed(5, "inf,2,a,yes")), "column 'width' is inf in row 5"),
    "minus infinity": (csv(changed(5, "-inf,2,a,yes")), "column 'width' is -inf in row 5"),
    "a slip in a column of numbers": (csv(changed(9, "1o.5,2,a,yes")), "'1o.5' in row 9"),
    "constant target": (csv(GOOD.replace("yes", "no")), "'no' in every row"),
    "constant number as target": (csv("x,y\n" + "1.5,2.5\n2.5,2.5\n" * 5, target="y"), "2.5 in every row"),
    "class of one row": (csv(GOOD + "1.0,2,a,perhaps\n"), "class 'perhaps'"),
    "class of two rows": (csv(GOOD + "1.0,2,a,perhaps\n" * 2), "has 2 row(s)"),
    "text as target with as many classes as rows": (
        csv("x,y\n" + "".join(f"{i}.5,name{i}\n" for i in range(20)), target="y"), "too few",
    ),
    "one row": (csv("x,y\n1.5,2.5\n", target="y"), "2.5 in every row"),
    "two rows": (csv("x,y\n1.5,2.5\n2.5,3.5\n", target="y"), "2 row(s)"),
    "only the target": (csv("y\n" + "1.5\n2.5\n" * 9, target="y"), "no column but the target"),
    "utf-16 without its mark": (csv(GOOD.encode("utf-16-le")), "is not text"),
    "binary in a csv": (csv(bytes(range(256)) * 10), "bad.csv"),
    "open quote": (csv(changed(5, '1.0,2,"a,yes')), "bad.csv"),
    "a zip named csv": (csv(good_npz()), "bad.csv"),
    "truncated parquet": (raw("bad.parquet", good_parquet()[:-20], "y"), "bad.parquet is not a readable Parquet"),
    "parquet without its head": (raw("bad.parquet", good_parquet()[30:], "y"), "bad.parquet"),
    "text named parquet": (raw("bad.parquet", GOOD.encode(), "y"), "bad.parquet is not a readable Parquet"),
    "damaged parquet": (raw("bad.parquet", flipped(good_parquet(), 4), "y"), "bad.parquet"),
    "parquet null": (
        parquet({"x": [1.0, None] * 9, "y": [0, 1] * 9}, missing="refuse"), "column 'x' has no value in row 2",
    ),
    "parquet nan": (
        parquet({"x": [1.0, float("nan")] * 9, "y": [0, 1] * 9}, missing="refuse"), "column 'x' has no value in row 2",
    ),
    "parquet list": (parquet({"x": [[1.0]] * 18, "y": [0, 1] * 9}), "column 'x' is of type list"),
    "parquet struct": (parquet({"x": [{"a": 1}] * 18, "y": [0, 1] * 9}), "column 'x' is of type struct"),
    "parquet bytes": (parquet({"x": [b"a"] * 18, "y": [0, 1] * 9}), "column 'x' is of type binary"),
    "parquet nothing": (parquet({"x": pyarrow.nulls(18), "y": [0, 1] * 9}), "no training row has a value"),
    "parquet target missing": (parquet({"x": [1.0], "z": [0]}), "no column 'y'"),
    "parquet no rows": (parquet({"x": pyarrow.array([], "float64"), "y": pyarrow.array([], "int64")}), "no rows"),
    "parquet no columns": (parquet({}), "no columns"),
    "parquet names twice": (
        parquet(([pyarrow.array([1.0]), pyarrow.array([2.0])], ["y", "y"])), "two columns called 'y'",
    ),
    "test file lacks a column": (with_test_file(GOOD, GOOD.replace("colour", "color")), "no column 'colour'"),
    "test file has a column more": (
        with_test_file("x,label\n1.5,a\n2.5,b\n", "x,z,label\n1.5,1.5,a\n2.5,2.5,b\n"), "a column 'z'",
    ),
    "test file has a new class": (with_test_file(GOOD, GOOD.replace("yes", "perhaps")), "'perhaps' in row 2"),
    "test file has text for numbers": (
        with_test_file("x,label\n1.5,a\n2.5,b\n", "x,label\nc,a\nd,b\n"), "test.csv: column 'x' is 'c' in row 1, where",
    ),
    "test file is empty": (with_test_file(GOOD, ""), "test.csv is empty"),
}  # fmt: skip

ARRAYS = {
    "text named npz": (raw("bad.npz", b"hello"), "bad.npz is not a readable zip"),
    "truncated npz": (raw("bad.npz", good_npz()[:-30]), "bad.npz is not a readable zip"),
    "damaged npz": (raw("bad.npz", flipped(good_npz(), 300)), "damaged"),
    "npz with no arrays": (raw("bad.npz", zipped([])), "no arrays"),
    "npz with a text file": (raw("bad.npz", zipped([("readme.txt", b"hi")])), "'readme.txt'"),
    "npz with an array twice": (
        raw("bad.npz", zipped([("x.npy", npy_bytes(GOOD_X)), ("x.npy", npy_bytes(GOOD_X))])), "'x' twice",
    ),
    "npz bomb": (
        raw("bad.npz", zipped([("x.npy", bytes(80 << 20))], zipfile.ZIP_DEFLATED)), "decompression bomb",
    ),
    "npz with pickle inside": (npz(x=np.array([Hostile()] * 3, object), y=GOOD_Y[:3]), "Python objects"),
    "npz with pickled labels": (npz(x=GOOD_X, y=np.array(["a"] * 30, object)), "Python objects"),
    "npz lacks y": (npz(x=GOOD_X), "no array 'y'"),
    "npz lacks x": (npz(y=GOOD_Y), "no array 'x'"),
    "npz names nothing known": (npz(images=GOOD_X, labels=GOOD_Y), "must hold x and y"),
    "npz target missing": (npz(target="labls", x=GOOD_X, labels=GOOD_Y), "did you mean 'labels'"),
    "npz lacks test": (npz(train_x=GOOD_X, train_y=GOOD_Y), "both train and test"),
    "npz lacks train": (npz(test_x=GOOD_X, test_y=GOOD_Y), "both train and test"),
    "npz lacks test_y": (npz(train_x=GOOD_X, train_y=GOOD_Y, test_x=GOOD_X), "no array 'test_y'"),
    "npz is split already": (
        npz(split=(0.7, 0.15, 0.15), train_x=GOOD_X, train_y=GOOD_Y, test_x=GOOD_X, test_y=GOOD_Y), "already split",
    ),
    "npz lengths differ": (npz(x=GOOD_X, y=GOOD_Y[:-1]), "30 examples but"),
    "npz vectors": (npz(x=GOOD_X[:, 0], y=GOOD_Y), "a row per example"),
    "npz single number": (npz(x=np.float32(1), y=GOOD_Y), "a row per example"),
    "npz no rows": (npz(x=GOOD_X[:0], y=GOOD_Y[:0]), "'x' is empty"),
    "npz no features": (npz(x=GOOD_X[:, :0], y=GOOD_Y), "'x' is empty"),
    "npz nan": (npz(x=np.where(np.eye(30, 4) == 1, np.nan, GOOD_X), y=GOOD_Y), "'x' is nan in row 1"),
    "npz infinity": (npz(x=np.where(np.eye(30, 4, -2) == 1, np.inf, GOOD_X), y=GOOD_Y), "'x' is inf in row 3"),
    "npz complex": (npz(x=GOOD_X.astype(complex), y=GOOD_Y), "must hold numbers, not complex128"),
    "npz text": (npz(x=GOOD_X.astype(str), y=GOOD_Y), "must hold numbers"),
    "npz dates": (npz(x=np.zeros((30, 2), "M8[s]"), y=GOOD_Y), "must hold numbers"),
    "npz channels last": (npz(x=np.zeros((30, 8, 8, 3), np.uint8), y=GOOD_Y), "channels last"),
    "npz one class": (npz(x=GOOD_X, y=GOOD_Y * 0), "0 in every row"),
    "npz constant target": (npz(x=GOOD_X, y=np.full(30, 2.5)), "2.5 in every row"),
    "npz rare class": (npz(x=GOOD_X, y=np.where(np.arange(30) == 4, 3, GOOD_Y)), "class '3'"),
    "npz nan target": (npz(x=GOOD_X, y=np.where(GOOD_Y == 0, np.nan, 1.0)), "'y' is nan in row 1"),
    "npz complex target": (npz(x=GOOD_X, y=GOOD_Y.astype(complex)), "class indices, names or numbers"),
    "npz parts differ in shape": (
        npz(train_x=GOOD_X, train_y=GOOD_Y, test_x=GOOD_X[:, :2], test_y=GOOD_Y), "test inputs are",
    ),
    "npz parts differ in kind": (
        npz(train_x=GOOD_X, train_y=GOOD_Y, test_x=GOOD_X, test_y=GOOD_Y * 0.5), "test targets differ",
    ),
    "npz new class in test": (
        npz(train_x=GOOD_X, train_y=GOOD_Y, test_x=GOOD_X, test_y=GOOD_Y + 1), "is 3 in row 3, a class that no",
    ),
    "npy without targets": (lambda f: np.save(f / "x.npy", GOOD_X) or load(f / "x.npy"), "target=..."),
    "npy targets missing": (npy(GOOD_X, GOOD_Y, "z.npy"), "z.npy"),
    "npy targets of another kind": (lambda f: csv(GOOD)(f) or npy(GOOD_X, GOOD_Y, "bad.csv")(f), "bad.csv"),
    "npy with objects": (npy(np.array([[Hostile()]] * 3, object), GOOD_Y[:3]), "x.npy holds Python objects"),
    "npy targets with objects": (npy(GOOD_X, np.array([Hostile()] * 30, object)), "y.npy holds Python objects"),
    "npy lengths differ": (npy(GOOD_X, GOOD_Y[:9]), "has 9"),
    "npy truncated": (lambda f: npy(GOOD_X, GOOD_Y)(f) or raw("x.npy", npy_bytes(GOOD_X)[:-9], str(f / "y.npy"))(f),
                      "cut off"),
    "npy with more bytes": (
        lambda f: npy(GOOD_X, GOOD_Y)(f) or raw("x.npy", npy_bytes(GOOD_X) + b"more", str(f / "y.npy"))(f), "claims",
    ),
    "npy claims terabytes": (
        raw("bad.npz", zipped([("x.npy", claiming((9999999, 99999)))])),
        "claims 7,999,919,200,008",
    ),
    "npy negative shape": (
        raw("bad.npz", zipped([("x.npy", claiming((-1, -1)))])),
        "claims",
    ),
    "npy header with code": (
        raw("bad.npz", zipped([("x.npy", header("__import__('os').system('true')"))])), "not a readable NPY",
    ),
    "npy header not text": (raw("bad.npz", zipped([("x.npy", b"\x93NUMPY\x01\x00\xff\x00" + bytes(300))])), "'x'"),
    "npy unknown version": (raw("bad.npz", zipped([("x.npy", b"\x93NUMPY\x09\x00" + bytes(200))])), "'x'"),
    "npy without its magic": (raw("bad.npz", zipped([("x.npy", bytes(200))])), "not a readable NPY"),
    "text named pt": (raw("bad.pt", b"hello"), "bad.pt is not a readable zip"),
    "bare pickle named pt": (raw("bad.pt", pickle.dumps(Hostile())), "bad.pt is not a readable zip"),
    "truncated pt": (raw("bad.pt", good_pt()[:-40]), "bad.pt is not a readable zip"),
    "an npz named pt": (raw("bad.pt", good_npz()), "bad.pt is not a readable torch file"),
    "pt with code": (saved({"x": Hostile(), "y": Y}), "Python objects"),
    "pt with a module": (saved(torch.nn.Linear(2, 2)), "Python objects"),
    "pt of the old format": (saved({"x": X, "y": Y}, _use_new_zipfile_serialization=False), "not a readable zip"),
    "pt with one tensor": (saved(X), "dictionary of tensors"),
    "pt with three tensors": (saved((X, X, Y)), "dictionary of tensors"),
    "pt with a number": (saved(3), "dictionary of tensors"),
    "pt with text for x": (saved({"x": "a", "y": Y}), "'x' must be a tensor"),
    "pt lacks y": (saved({"x": X, "z": Y}), "no array 'y'"),
    "pt lengths differ": (saved((X, Y[:5])), "5"),
    "pt nan": (saved((X * float("nan"), Y)), "nan in row 1"),
    "pt sparse": (saved((X.to_sparse(), Y)), "dense"),
    "pt expanded to terabytes": (saved((torch.zeros(1).expand(10**12).reshape(10**6, 10**6), Y)), "fewer values"),
    "pt complex": (saved((X.to(torch.complex64), Y)), "must hold numbers"),
}  # fmt: skip

PICTURES = {
    "empty folder": (images([]), "no sub-folders"),
    "images without classes": (images([("a.png", (4, 4)), ("b.png", (4, 4))]), "no sub-folders"),
    "class without images": (images([*SIX, ("bird", None)]), "bird has no images"),
    "class with text files only": (images([*SIX, ("bird/a.txt", b"hi")]), "bird has no images"),
    "one class": (images(SIX[:3]), "'cat' only"),
    "too few of a class": (images(SIX[:5]), "class 'dog'"),
    "other size": (images([*SIX, ("dog/9.png", (4, 5))]), "9.png is 4 x 5"),
    "text named png": (images([*SIX, ("dog/9.png", b"hello")]), "9.png is not an image"),
    "empty png": (images([*SIX, ("dog/9.png", b"")]), "9.png is not an image"),
    "truncated png": (images([("cat/0.png", png()), ("dog/0.png", png()[:2000])]), "dog/0.png is not a readable"),
    "png that claims too many pixels": (images([("cat/0.png", huge_png()), *SIX[1:]]), "0.png"),
    "postscript named png": (images([*SIX, ("dog/9.png", b"%!PS-Adobe-3.0 EPSF-3.0\n")]), "9.png is not an image"),
    "target for a folder": (images(SIX, target="cat"), "leave target out"),
    "train without test": (images([("train/" + name, size) for name, size in SIX]), "both train and test"),
    "test without train": (images([("test/" + name, size) for name, size in SIX]), "both train and test"),
    "fractions for a split folder": (
        images([(part + name, size) for part in ("train/", "test/") for name, size in SIX], split=(0.7, 0.15, 0.15)),
        "already split",
    ),
    "new class in test": (
        images([*[("train/" + name, size) for name, size in SIX], ("test/bird/0.png", (4, 4))]), "'bird'",
    ),
    "test of another size": (
        images([*[("train/" + name, size) for name, size in SIX], ("test/cat/0.png", (5, 5))]), "5 x 5",
    ),
    "test without images": (images([*[("train/" + name, size) for name, size in SIX], ("test", None)]), "test has no"),
    "test file for a folder": (
        lambda f: csv(GOOD)(f) or images(SIX, split=f / "bad.csv")(f), "below",
    ),
}  # fmt: skip

CASES = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("arguments", ARGUMENTS),
        ("files", FILES),
        ("tables", TABLES),
        ("arrays", ARRAYS),
        ("pictures", PICTURES),
    )
    for name, case in cases.items()
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_bad_data_is_refused_with_one_sentence(name, tmp_path, capfd, no_network):
    run, words = CASES[name]
    with pytest.raises(DataError) as refusal:
        run(tmp_path)
    message = str(refusal.value)
    assert words in message, message
    assert "\n" not in message
    assert len(message) < 500
    assert "Traceback" not in message
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    out, err = capfd.readouterr()
    assert "never be printed" not in out + err
    cache = tmp_path / "neurarium-home"
    assert not cache.exists() or not any(cache.rglob("*"))


def test_there_are_enough_of_them():
    assert len(CASES) >= 120


FUZZED = {"bad.npz": good_npz, "bad.pt": good_pt, "bad.parquet": good_parquet, "bad.csv": lambda: GOOD.encode()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUZZED)
def test_random_damage_is_refused_or_harmless(name, tmp_path, no_network):
    rng = np.random.default_rng(0)
    content = FUZZED[name]()
    target = {"bad.csv": "label", "bad.parquet": "y"}.get(name)
    path = tmp_path / name
    messages = []
    for trial in range(60):
        damaged = bytearray(content)
        if trial % 3 == 0:
            del damaged[rng.integers(len(content)) :]
        else:
            for position in rng.integers(len(content), size=1 + trial % 4):
                damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            split = load(path, target=target)
        except DataError as refusal:
            messages.append(str(refusal))
        else:
            assert bool(split.train.x.float().isfinite().all())
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)


@pytest.mark.filterwarnings("ignore")
def test_random_damage_to_an_image_is_refused_or_harmless(tmp_path, no_network):
    rng = np.random.default_rng(0)
    content = png()
    for kind in ("cat", "dog"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "pictures" / kind / f"{i}.png").write_bytes(content)
    messages = []
    for _trial in range(60):
        damaged = bytearray(content)
        for position in rng.integers(len(content), size=2):
            damaged[position] = rng.integers(256)
        (tmp_path / "pictures" / "dog" / "0.png").write_bytes(damaged)
        try:
            load(tmp_path / "pictures")
        except DataError as refusal:
            messages.append(str(refusal))
    assert len(messages) > 10
    assert all("0.png" in message for message in messages)
