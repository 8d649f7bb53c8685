"""A thousand unusual files: each is read, or refused with one sentence; never a traceback, never a number that is none.

Every kind of column that pandas can hold goes through every format that it can write, as an input and as the target.
Then files of every format are damaged at random.
"""

import datetime
import decimal
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from neurarium.data import DataError, load, load_audio

N = 40
RNG = np.random.default_rng(0)
KINDS = {
    "float": RNG.normal(size=N),
    "int": RNG.integers(0, 3, N),
    "int8": RNG.integers(0, 3, N).astype("int8"),
    "uint64": RNG.integers(0, 2**63, N).astype("uint64") * 2,
    "long": RNG.integers(-(2**62), 2**62, N),
    "half": RNG.normal(size=N).astype("float16"),
    "tiny": RNG.normal(size=N) * 1e-308,
    "huge": RNG.normal(size=N) * 1e307,
    "bool": RNG.random(N) < 0.5,
    "nullable int": pd.array([None if i % 5 == 0 else i % 3 for i in range(N)], dtype="Int64"),
    "nullable bool": pd.array([None if i % 5 == 0 else i % 2 == 0 for i in range(N)], dtype="boolean"),
    "text": RNG.choice(["a", "b"], N),
    "text with gaps": pd.Series(RNG.choice(["a", "b", None], N)),
    "gaps": np.where(RNG.random(N) < 0.3, np.nan, RNG.normal(size=N)),
    "only gaps": np.full(N, np.nan),
    "constant": np.ones(N),
    "infinity": np.where(np.arange(N) == 3, np.inf, RNG.normal(size=N)),
    "dates": pd.date_range("2020", periods=N, freq="h"),
    "dates with gaps": pd.Series(pd.date_range("1900", periods=N, freq="7D")).where(pd.Series(RNG.random(N) < 0.7)),
    "dates of a zone": pd.date_range("2020", periods=N, tz="Europe/Berlin"),
    "dates of Python": [datetime.date(2020, 1, 1)] * (N - 1) + [datetime.date(1700, 1, 1)],
    "far dates": ["9999-12-31"] * 3 + ["2020-01-01"] * (N - 3),
    "dates of MySQL": ["0000-00-00"] * 3 + [f"2020-01-{i % 28 + 1:02d}" for i in range(N - 3)],
    "periods": pd.period_range("2020", periods=N, freq="M"),
    "durations": pd.to_timedelta(RNG.integers(0, 10**6, N), unit="s"),
    "times": pd.Series(pd.date_range("2020", periods=N, freq="7min")).dt.time,
    "money": [f"${value:,.2f}" for value in RNG.uniform(0, 1e5, N)],
    "per cent": [f"{value:.1f}%" for value in RNG.uniform(0, 100, N)],
    "decimals": [decimal.Decimal(int(value)) / 7 for value in RNG.integers(0, 9, N)],
    "categories": pd.Categorical(RNG.choice(["x", "y"], N)),
    "categories of numbers": pd.Categorical(RNG.choice([3, 7], N)),
    "intervals": pd.cut(RNG.normal(size=N), 3),
    "sparse": pd.arrays.SparseArray(RNG.integers(0, 2, N)),
    "identifiers": [f"{i:08x}" for i in range(N)],
    "emoji": RNG.choice(["😀", "é", "漢字"], N),
    "essays": ["word " * int(count) for count in RNG.integers(1, 200, N)],
    "numbers and text": [("a" if i % 2 else i) for i in range(N)],
    "newlines": RNG.choice(["a\nb", "c"], N),
    "quotes": RNG.choice(['a"b', "c,d;e\tf"], N),
    "complex": RNG.normal(size=N) + 1j,
    "lists": [[1, 2]] * N,
    "bytes": [b"a", b"b"] * (N // 2),
}
WRITERS = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "index.csv": lambda frame, path: frame.to_csv(path),
    "continental.csv": lambda frame, path: frame.to_csv(path, index=False, sep=";", decimal=",", encoding="utf-8-sig"),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t", encoding="utf-16"),
    "csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "csv.zip": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "feather": lambda frame, path: frame.to_feather(path),
    "xlsx": lambda frame, path: frame.to_excel(path, index=False),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
}


def attempt(path, read):
    """Whether it was read; if not, the refusal is one sentence that names the file."""
    refusal = None
    try:
        split = read()
    except DataError as error:
        refusal = error
    if refusal is not None:
        message = str(refusal)
        assert path.name in message, message
        assert "\n" not in message
        assert len(message) < 500
        assert refusal.__suppress_context__ or refusal.__context__ is None
        return False
    inputs = split.train.x if hasattr(split.train, "x") else torch.cat(split.train.waves)
    assert bool(inputs.float().isfinite().all())
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("written_as", WRITERS)
def test_every_kind_of_column_in_every_format(written_as, tmp_path, no_network):
    read = {}
    for kind, column in KINDS.items():
        frame = pd.DataFrame({"x": RNG.normal(size=N), "c": column, "y": np.arange(N) % 2})
        path = tmp_path / f"a.{written_as}"
        try:
            WRITERS[written_as](frame, path)
        except Exception:  # the format has no such type
            continue
        for target in ("y", "c"):
            read[kind, target] = attempt(path, lambda path=path, target=target: load(path, target=target))
    refused = {kind for (kind, target), done in read.items() if target == "y" and not done}
    assert refused <= {"infinity", "numbers and text", "lists", "bytes", "complex", "intervals", "periods"}
    assert len(read) > 60


def damaged(content, rng):
    """Bytes cut off, changed, put in, taken out or doubled."""
    content = bytearray(content)
    place = int(rng.integers(len(content)))
    match rng.integers(5):
        case 0:
            del content[place:]
        case 1:
            for position in rng.integers(len(content), size=1 + rng.integers(6)):
                content[position] = rng.integers(256)
        case 2:
            content[place:place] = rng.bytes(1 + rng.integers(30))
        case 3:
            del content[place : place + 1 + rng.integers(50)]
        case 4:
            content[place:place] = content[max(0, place - 100) : place]
    return bytes(content)


def a_table(path):
    frame = pd.DataFrame(
        {
            "x": RNG.normal(size=N),
            "t": RNG.choice(["a", "b"], N),
            "d": pd.date_range("2020", periods=N).astype(str),
            "y": np.arange(N) % 2,
        }
    )
    WRITERS[path.name.partition(".")[2]](frame, path)
    return path, lambda: load(path, target="y")


def some_arrays(path):
    x, y = RNG.normal(size=(N, 3)).astype(np.float32), np.arange(N) % 2
    target = None
    match path.suffix:
        case ".npz":
            np.savez_compressed(path, x=x, y=y)
        case ".npy":
            np.save(path, x)
            np.save(path.with_name("y.npy"), y)
            target = str(path.with_name("y.npy"))
        case ".pt":
            torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
        case ".safetensors":
            save_file({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
    return path, lambda: load(path, target=target)


def some_pictures(path):
    for kind in ("a", "b"):
        (path.parent / "pictures" / kind).mkdir(parents=True)
        for i in range(3):
            pixels = RNG.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path.parent / "pictures" / kind / f"{i}{path.suffix}")
    return path.parent / "pictures" / "a" / f"0{path.suffix}", lambda: load(path.parent / "pictures")


def some_sounds(path):
    for kind in ("a", "b"):
        (path.parent / "sounds" / kind).mkdir(parents=True)
        for i in range(3):
            soundfile.write(path.parent / "sounds" / kind / f"{i}{path.suffix}", RNG.uniform(-0.5, 0.5, 900), 8000)
    return path.parent / "sounds" / "a" / f"0{path.suffix}", lambda: load_audio(path.parent / "sounds")


DAMAGED = {
    **{f"a.{name}": a_table for name in ("csv", "tsv", "csv.gz", "csv.zip", "parquet", "feather", "xlsx", "jsonl")},
    **{f"a{suffix}": some_arrays for suffix in (".npz", ".npy", ".pt", ".safetensors")},
    **{f"a.{name}": some_pictures for name in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm")},
    **{f"a.{name}": some_sounds for name in ("wav", "flac", "ogg", "aiff")},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused_or_harmless(name, tmp_path, capfd, no_network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, read = DAMAGED[name](tmp_path / name)
        content = path.read_bytes()
        assert attempt(path, read)
        rng = np.random.default_rng(1)
        for _trial in range(25):
            path.write_bytes(damaged(content, rng))
            attempt(path, read)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
