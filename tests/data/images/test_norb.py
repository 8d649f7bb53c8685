"""The matrix files of small NORB, made small."""

import numpy as np
import pytest

from neurarium.data import DataError, small_norb
from neurarium.data.images._norb import STEMS


def write(path, array, magic):
    sizes = list(array.shape) + [1] * (3 - array.ndim)
    path.write_bytes(np.array([magic, array.ndim, *sizes], "<i4").tobytes() + array.tobytes())


def test_files_become_pairs_of_images_with_their_kinds(tmp_path):
    rng = np.random.default_rng(0)
    kept = {}
    for part, stem in STEMS.items():
        x, y = rng.integers(0, 256, (4, 2, 6, 6), dtype=np.uint8), np.arange(4, dtype="<i4")
        write(tmp_path / f"{stem}-dat.mat", x, 0x1E3D4C55)
        write(tmp_path / f"{stem}-cat.mat", y, 0x1E3D4C54)
        kept[part] = x
    split = small_norb(tmp_path)
    assert np.array_equal(split.train.x.numpy(), kept["train"])
    assert np.array_equal(split.test.x.numpy(), kept["test"])
    assert split.test.y.tolist() == [0, 1, 2, 3]
    broken = tmp_path / f"{STEMS['test']}-dat.mat"
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(DataError, match="bytes of entries"):
        small_norb(tmp_path)
    broken.write_bytes(b"nothing of the kind, but long enough")
    with pytest.raises(DataError, match="no matrix file of a known type"):
        small_norb(tmp_path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="unpack small NORB there"):
        small_norb(tmp_path)
