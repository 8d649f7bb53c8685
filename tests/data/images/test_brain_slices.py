"""Slices of a brain: which way is up, which code is which region, and what is refused."""

import numpy as np
import pytest
import torch

from neurarium.data import DataError, colin27_slices
from neurarium.data.images import _brain_slices
from neurarium.data.images._brain_slices import HEADER, SHAPE, read_volume


def volume(voxels):
    header = np.zeros(HEADER // 2, "<i2")
    header[20:24], header[35] = (3, *SHAPE[::-1]), 2
    content = bytearray(header.tobytes())
    content[344:348] = b"n+1\0"
    return bytes(content) + voxels.tobytes()


@pytest.fixture
def brain(monkeypatch, tmp_path):
    """A brain with a scan that tells where each voxel is, and regions in one corner."""
    up, forwards, right = np.indices(SHAPE)
    scan = (up + 3 * forwards + 7 * right).astype(np.uint8)
    codes = np.zeros(SHAPE, np.uint8)
    codes[100:, 150:, 120:] = 43
    codes[100:, 150:, :60] = 116
    for name, voxels in (("ch2bet.nii", scan), ("aal.nii", codes)):
        (tmp_path / name).write_bytes(volume(voxels))
    monkeypatch.setattr(_brain_slices, "obtain", lambda _: {p.name: p for p in tmp_path.iterdir()})
    return scan


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_planes_stand_upright(brain, plane):
    found = colin27_slices(plane, 0.05)
    middle = int(found.positions[0])
    cut = {
        "axial": brain[middle, ::-1, :],
        "coronal": brain[::-1, middle, :],
        "sagittal": brain[::-1, :, middle],
    }[plane]  # fmt: skip
    assert torch.equal(found.images[0], torch.from_numpy(cut.copy()))
    lowest = {"axial": 100, "coronal": 150, "sagittal": 0}[plane]
    assert middle == lowest


def test_regions_are_groups_of_codes_or_the_codes_themselves(brain):
    found = colin27_slices("axial", 0.05)
    assert found.labels.unique().tolist() == [0, 4, 8]
    assert (found.names[4], found.names[8]) == ("occipital", "cerebellum")
    assert set(colin27_slices("axial", 0.05, whole=True).labels.unique().tolist()) == {0, 43, 116}
    top = found.labels[0, : SHAPE[1] - 150]
    assert bool((top[:, 120:] == 4).all())


def test_without_the_files_it_says_what_to_do(no_network):
    with pytest.raises(DataError, match=r"put ch2bet.nii, aal.nii into a folder and name that in NEURARIUM_DATA$"):
        colin27_slices()


def test_refusals(brain):
    with pytest.raises(ValueError, match="no axial plane has 90%"):
        colin27_slices("axial", 0.9)
    with pytest.raises(DataError, match="aal is not a NIfTI volume"):
        read_volume(volume(brain)[:-1], "aal")
    with pytest.raises(DataError, match="aal is not a NIfTI volume"):
        read_volume(b"", "aal")


@pytest.mark.untyped
def test_an_unknown_plane_is_refused():
    with pytest.raises(ValueError, match="plane must be"):
        colin27_slices("oblique")


def test_the_real_brain(monkeypatch):
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    try:
        found = colin27_slices("axial")
    except DataError as refusal:
        pytest.skip(str(refusal))
    assert found.images.shape == (123, 217, 181)
    assert found.labels.unique().tolist() == list(range(9))
    assert float((found.images[found.labels > 0] > 0).float().mean()) > 0.9  # regions lie in the brain
