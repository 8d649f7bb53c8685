"""Volumes, subjects and tasks: files read as written, bent alike, one rule per episode, nothing held out ever drawn."""

import gzip
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurarium.data import (
    IMAGE_TASKS,
    DataError,
    EpisodeSampler,
    ellipsoid_template,
    read_nifti,
    synthetic_subjects,
)


def written(values: np.ndarray, kind: int, order: str = "<", slope: float = 1.0, shift: float = 0.0) -> bytes:
    """A NIfTI-1 file."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 3, *values.shape, 1, 1, 1, 1)
    struct.pack_into(order + "h", header, 70, kind)
    struct.pack_into(order + "3f", header, 108, 352.0, slope, shift)
    header[344:348] = b"n+1\x00"
    return bytes(header) + values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")


@pytest.mark.parametrize("order", ["<", ">"])
def test_volumes_come_back_as_written(tmp_path, order: str) -> None:
    labels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    (tmp_path / "a.nii").write_bytes(written(labels, 4, order))
    assert torch.equal(read_nifti(tmp_path / "a.nii"), torch.arange(24).view(2, 3, 4))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(written(labels, 4, order, slope=0.5, shift=-1)))
    torch.testing.assert_close(read_nifti(tmp_path / "b.nii.gz"), torch.arange(24.0).view(2, 3, 4) / 2 - 1)


def test_damaged_files_are_refused_by_name(tmp_path) -> None:
    whole = written(np.zeros((2, 3, 4), np.float32), 16)
    for name, content in (("cut.nii", whole[:-8]), ("none.nii", b"x" * 400), ("gz.nii", gzip.compress(whole)[:-30])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_nifti(tmp_path / name)
    with pytest.raises(DataError, match="missing"):
        read_nifti(tmp_path / "missing.nii")


def subjects(count: int = 12, **options):
    return synthetic_subjects(ellipsoid_template(24), count, generator=torch.Generator().manual_seed(0), **options)


def test_unbent_subjects_are_the_template_and_bent_ones_keep_images_and_labels_together() -> None:
    template = ellipsoid_template(24)
    same = subjects(deform=0.0)
    errors = [(template.labels != same.labels[n]).flatten(1).sum(1).min() for n in range(12)]
    assert max(errors) == 0
    bent = subjects(40)
    assert bent.structures == (1, 2, 3, 4, 5, 6)
    assert float(((bent.labels > 0).float() * (1 - bent.brain)).sum()) == 0
    inside, outside = bent.images[bent.brain > 0].mean(), bent.images[bent.brain == 0].mean()
    assert float((inside - outside).abs()) > 0.05
    assert (bent.labels[0] != bent.labels[1]).any()


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_every_task_poses_one_rule_to_all(name: str) -> None:
    task = IMAGE_TASKS[name]
    given, asked = task.draw(subjects(), torch.Generator().manual_seed(3))
    again = task.draw(subjects(), torch.Generator().manual_seed(3))
    assert torch.equal(given, again[0])
    assert given.shape == asked.shape == (12, 24, 24)
    assert min(given.min(), asked.min()) >= 0
    assert max(given.max(), asked.max()) <= 1
    assert not torch.equal(given, asked)
    if task.mask:
        assert set(asked.unique().tolist()) == {0.0, 1.0}


def test_a_curve_of_brightness_is_one_function_for_all_images() -> None:
    given, asked = IMAGE_TASKS["modality"].draw(subjects(), torch.Generator().manual_seed(1))
    order = given.flatten().argsort()
    x, y = given.flatten()[order], asked.flatten()[order]
    equal = x.diff() == 0
    assert float(y.diff()[equal].abs().max()) < 1e-6


def test_targets_and_examples_are_different_subjects_and_held_out_things_stay_out() -> None:
    sampler = EpisodeSampler(
        subjects(20), held_out=("edges",), structures=(2, 4), context=(2, 5), batch=6,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    seen = set()
    for _ in range(30):
        episode = sampler.draw()
        assert 2 <= episode.context_in.shape[1] <= 5
        seen |= set(episode.tasks)
    assert seen == set(IMAGE_TASKS) - {"edges"}
    plain = EpisodeSampler(subjects(20), structures=(2, 4), modalities=0, generator=torch.Generator().manual_seed(0))
    allowed = (subjects(20).labels == 2) | (subjects(20).labels == 4)
    for _ in range(5):
        episode = plain.draw("segmentation", 4)
        for n in range(8):
            images = torch.cat((episode.target_in[n], episode.context_in[n, :, 0]))
            assert len(torch.unique(images.flatten(1), dim=0)) == 5
            mask = episode.target_out[n, 0].bool()
            assert any(bool((mask & ~a).sum() == 0) for a in allowed)


def test_noise_is_normal_or_rician() -> None:
    empty = subjects(4)
    empty = replace(empty, images=torch.zeros_like(empty.images))
    seen = set()
    for seed in range(12):
        noisy, clean = IMAGE_TASKS["denoise"].draw(empty, torch.Generator().manual_seed(seed))
        assert not clean.any()
        black = float((noisy == 0).double().mean())
        seen.add(round(black, 1))
        if black < 0.1:  # the length of two normal parts: its mean is sqrt(pi / 2) deviations, its square's mean two
            assert float(noisy.mean() / noisy.square().mean().sqrt()) == pytest.approx(math.sqrt(math.pi) / 2, abs=0.01)
    assert seen == {0.0, 0.5}


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(DataError, match="needs 9 subjects"):
        EpisodeSampler(subjects(5))
    with pytest.raises(DataError, match="no task 'edge'"):
        EpisodeSampler(subjects(), held_out=("edge",))
    with pytest.raises(DataError, match="no structure"):
        EpisodeSampler(subjects(), structures=(99,))
    with pytest.raises(DataError, match="leaves no task"):
        EpisodeSampler(subjects(), held_out=tuple(IMAGE_TASKS))
