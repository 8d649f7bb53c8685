"""CIFAR-10-C from files of its layout: five severities in a row, channels last."""

import numpy as np
import pytest
import torch

from neurarium.data import CIFAR_C, DataError, cifar_c


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A benchmark of four images: image i of severity s is filled with 10 s + i, its red channel with 200."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    images = np.zeros((20, 32, 32, 3), np.uint8)
    for row in range(20):
        images[row] = 10 * (row // 4 + 1) + row % 4
        images[row, :, :, 0] = 200
    images[:, 5, 9, 2] = 77
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", np.tile(np.array([3, 1, 4, 1], np.uint8), 5))
    monkeypatch.setenv("NEURARIUM_DATA", f"/nowhere:{tmp_path}")
    return folder


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_severity_is_its_fifth_of_the_file(home, severity):
    found = cifar_c("fog", severity)
    assert found.x.shape == (4, 3, 32, 32)
    assert found.x.dtype == torch.uint8
    assert found.x[:, 1, 0, 0].tolist() == [10 * severity + i for i in range(4)]
    assert bool((found.x[:, 0] == 200).eq(torch.ones(32, 32)).all())
    assert found.x[0, 2, 5, 9] == 77
    assert found.y.tolist() == [3, 1, 4, 1]
    assert torch.equal(cifar_c("fog", severity, folder=home).x, found.x)


def test_it_says_what_is_wrong(home):
    with pytest.raises(DataError, match="did you mean 'frost'"):
        cifar_c("frosty")
    with pytest.raises(DataError, match="severity must be"):
        cifar_c("fog", 6)
    with pytest.raises(DataError, match=r"snow\.npy of CIFAR-10-C is not in .* unpack"):
        cifar_c("snow")
    np.save(home / "labels.npy", np.zeros(7, np.uint8))
    with pytest.raises(DataError, match="labels for 20 images"):
        cifar_c("fog")
    np.save(home / "fog.npy", np.zeros((20, 32, 32)))
    with pytest.raises(DataError, match="not uint8 images"):
        cifar_c("fog")
    (home / "fog.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        cifar_c("fog")
    np.save(home / "fog.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        cifar_c("fog")


def test_the_benchmark_has_fifteen_corruptions():
    assert len(set(CIFAR_C)) == 15


def test_the_paper_scale_of_the_study_streams_the_published_files(home, monkeypatch):
    from neurarium.studies.learning import nhl

    monkeypatch.setattr(nhl, "CIFAR_C", ("fog",))
    settings = nhl.STUDY.settings("nhl", "paper")
    stream = nhl.shifted(settings, cifar_c("fog", 1), seed=0)
    assert list(stream) == ["fog"]
    assert torch.equal(stream["fog"].x, cifar_c("fog", 5).x)
