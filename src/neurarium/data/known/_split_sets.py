"""The known sets that fit a `Split`: images and tables."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from neurarium.data._archives import read_npz, tar_members
from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError
from neurarium.data._splitting import FRACTIONS, split_arrays
from neurarium.data.known._cache import members, obtain, prepared
from neurarium.data.known._plain_tables import TABLES, plain_table
from neurarium.data.known._sets import DataSet

DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ADULT = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
)


def load_known(entry: DataSet, fractions: Sequence[float] | None, seed: int) -> Split:
    """A set of kind ``images`` or ``table``.

    Args:
        entry: from the table.
        fractions: of train, validation and test, for a set without a published split.
        seed: of that split.

    Raises:
        DataError: ``fractions`` for a set whose split is published, or no source can be reached.
    """
    if entry.sources[0].origin == "scikit-learn":
        return from_scikit_learn(entry.name, FRACTIONS if fractions is None else fractions, seed)
    if entry.name in TABLES:
        return plain_table(entry, FRACTIONS if fractions is None else fractions, seed)
    if fractions is not None:
        raise DataError(f"{entry.name} has a published split; leave split out (Arrays.subset draws fewer examples)")
    loaders: dict[str, Callable[[DataSet], Split]] = {
        "mnist-small": mnist_small,
        "mnist": lambda entry: from_idx(entry, DIGITS),
        "fashion-mnist": lambda entry: from_idx(entry, CLOTHES),
        "cifar10": cifar10,
        "adult": adult,
    }
    return loaders[entry.name](entry)


def published(train: Arrays, test: Arrays, classes: Sequence[str], name: str) -> Split:
    """A split whose test part is published and that has no validation part."""
    return Split(train, train[:0], test, tuple(classes), name)


def mnist_small(entry: DataSet) -> Split:
    """The slice of MNIST that ships with the package."""
    arrays = {name: torch.from_numpy(array) for name, array in read_npz(obtain(entry)["mnist-small.npz"]).items()}
    train, test = (Arrays(arrays[f"{part}_x"], arrays[f"{part}_y"].long()) for part in ("train", "test"))
    return published(train, test, DIGITS, entry.name)


def from_idx(entry: DataSet, classes: Sequence[str]) -> Split:
    """A set in MNIST's format: images uint8 [n, 28, 28]."""
    files = {name: path.read_bytes() for name, path in obtain(entry).items()}
    train, test = (
        Arrays(read_idx(files[f"{part}-images-idx3-ubyte"]), read_idx(files[f"{part}-labels-idx1-ubyte"]).long())
        for part in ("train", "t10k")
    )
    return published(train, test, classes, entry.name)


def read_idx(content: bytes) -> Tensor:
    """The bytes of an IDX file: four bytes of magic, a big-endian size per dimension, the values."""
    dims = content[3]
    sizes = struct.unpack(f">{dims}I", content[4 : 4 + 4 * dims])
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(sizes).copy())


def cifar10(entry: DataSet) -> Split:
    """CIFAR-10 as uint8 [n, 3, 32, 32], from the original binary files or from a JPEG copy of them."""
    files = obtain(entry)
    lossy = "cifar10-jpeg.tar.xz" in files
    path = next(iter(files.values()))
    arrays = prepared(entry, lambda: decode_cifar_jpeg(tar_members(path)) if lossy else decode_cifar(tar_members(path)))
    train, test = (Arrays(arrays[f"{part}_x"], arrays[f"{part}_y"].long()) for part in ("train", "test"))
    return published(train, test, CIFAR10, "cifar10 (JPEG copy)" if lossy else "cifar10")


def decode_cifar(contents: dict[str, bytes]) -> dict[str, Tensor]:
    """The original binary files: one byte of label, then 3,072 of red, green and blue, per image."""
    parts = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    decoded = {}
    for part, names in parts.items():
        content = b"".join(contents[f"cifar-10-batches-bin/{name}"] for name in names)
        rows = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, 3073).copy())
        decoded[f"{part}_x"], decoded[f"{part}_y"] = rows[:, 1:].reshape(-1, 3, 32, 32).clone(), rows[:, 0].clone()
    return decoded


def decode_cifar_jpeg(contents: dict[str, bytes]) -> dict[str, Tensor]:
    """``PART/CLASS/NUMBER.jpg``, put into a fixed random order, for the copy is sorted by class."""
    from PIL import Image

    decoded = {}
    for part, seed in (("train", 0), ("test", 1)):
        names = sorted(name for name in contents if name.startswith(f"{part}/"))
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
        names = [names[i] for i in order]
        images = np.empty((len(names), 32, 32, 3), np.uint8)
        for row, name in enumerate(names):
            images[row] = np.asarray(Image.open(io.BytesIO(contents[name]), formats=("JPEG",)))
        decoded[f"{part}_x"] = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        labels = [CIFAR10.index(PurePosixPath(name).parent.name) for name in names]
        decoded[f"{part}_y"] = torch.tensor(labels, dtype=torch.uint8)
    return decoded


def from_scikit_learn(name: str, fractions: Sequence[float], seed: int) -> Split:
    """One of the sets that scikit-learn carries, split at random."""
    import sklearn.datasets

    if name == "digits":
        raw = sklearn.datasets.load_digits()
        data = Arrays(torch.from_numpy(raw.images).to(torch.uint8), torch.from_numpy(raw.target).long())
        return split_arrays(data, fractions=fractions, seed=seed, classes=DIGITS, name=name)
    if name == "diabetes":
        raw = sklearn.datasets.load_diabetes(scaled=False)
        data = Arrays(torch.from_numpy(raw.data).float(), torch.from_numpy(raw.target).float())
        return split_arrays(data, fractions=fractions, seed=seed, name=name)
    raw = getattr(sklearn.datasets, f"load_{name.replace('-', '_')}")()
    data = Arrays(torch.from_numpy(raw.data).float(), torch.from_numpy(raw.target).long())
    return split_arrays(data, fractions=fractions, seed=seed, classes=tuple(map(str, raw.target_names)), name=name)


def adult(entry: DataSet) -> Split:
    """Census income: numbers as they are, categories one-hot by the training rows."""
    from sklearn.preprocessing import OneHotEncoder

    numeric = {"age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"}
    encoders = {}

    def read(content: bytes) -> Arrays:
        lines = [line for line in content.decode("ascii").splitlines() if line and not line.startswith("|")]
        columns = dict(zip(ADULT, zip(*(line.rstrip(".").split(", ") for line in lines))))
        labels = torch.tensor([value == ">50K" for value in columns.pop("income")]).long()
        inputs = []
        for name, column in columns.items():
            values = np.array(column, np.float32 if name in numeric else object)[:, None]
            if name not in numeric:
                if name not in encoders:
                    encoders[name] = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
                    encoders[name].fit(values)
                values = encoders[name].transform(values)
            inputs.append(values)
        return Arrays(torch.from_numpy(np.concatenate(inputs, 1)), labels)

    contents = members(entry)
    return published(read(contents["adult.data"]), read(contents["adult.test"]), ("<=50K", ">50K"), entry.name)
