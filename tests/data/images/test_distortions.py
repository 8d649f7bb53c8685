"""Distortions against SciPy, against shifts, and with nothing to do."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from neurarium.data import Batches, Distort, elastic_field, load
from neurarium.data.images._distortions import read_at


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def digits(n=6):
    return load("mnist-small").train.x[:n].float() / 255


@pytest.mark.parametrize("deviation", [1.5, 6.0])
def test_the_same_noise_gives_scipys_image(deviation):
    images, noise = digits(3), 2 * torch.rand(3, 2, 28, 28, generator=seeded()) - 1
    field = elastic_field((3, 28, 28), deviation, 36.0, noise=noise)
    down, across = np.mgrid[0:28, 0:28].astype(float)
    grid = torch.from_numpy(np.stack([across, down], -1)).float()
    ours = read_at(images, grid + field)
    for i in range(3):
        dx, dy = (gaussian_filter(noise[i, k].double().numpy(), deviation, mode="reflect") * 36 for k in (0, 1))
        np.testing.assert_allclose(field[i, ..., 0], dx, atol=1e-4)
        theirs = map_coordinates(images[i].double().numpy(), [down + dy, across + dx], order=1, mode="nearest")
        np.testing.assert_allclose(ours[i], theirs, atol=1e-4)


def test_nothing_to_do_is_the_identity_and_whole_pixels_are_a_shift():
    images = digits()
    still = Distort(0, 0, 0, None, generator=seeded())
    torch.testing.assert_close(still(images), images, rtol=0, atol=1e-6)
    torch.testing.assert_close(still(images.unsqueeze(1)), images.unsqueeze(1), rtol=0, atol=1e-6)
    positions = still.positions(len(images), 28, 28) + torch.tensor([2.0, -1.0])
    moved = read_at(images, positions)
    torch.testing.assert_close(moved[:, 1:, :-2], images[:, :-1, 2:], rtol=0, atol=1e-5)


def test_a_quarter_turn():
    images = digits()
    angle = np.pi / 2
    centre = 13.5
    x, y = torch.arange(28) - centre, (torch.arange(28) - centre)[:, None]
    grid = torch.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], -1) + centre
    turned = read_at(images, grid.float().expand(len(images), -1, -1, -1))
    torch.testing.assert_close(turned, torch.rot90(images, 1, (1, 2)), rtol=0, atol=1e-4)


def test_positions_are_turned_stretched_and_shifted_within_their_ranges():
    positions = Distort(0.05, 15, 0.15, None, generator=seeded()).positions(2_000, 21, 31)
    centre = positions[:, 10, 15] - torch.tensor([15.0, 10.0])
    assert 0.045 * 31 < float(centre[:, 0].abs().max()) <= 0.05 * 31 + 1e-4
    assert 0.045 * 21 < float(centre[:, 1].abs().max()) <= 0.05 * 21 + 1e-4
    across, down = (positions[:, 10, 16] - positions[:, 10, 15]).T  # one pixel to the right, as it is read
    angle = torch.atan2(down, across).abs().max().rad2deg()
    assert 13 < float(angle) < 21  # 15 degrees, then stretched by up to 1.15 / .85
    assert 0.8 < float(across.min()) < 0.88
    assert 1.12 < float(across.max()) <= 1.15 + 1e-4


def test_very_wide_smoothing_moves_an_image_as_a_whole():
    field = elastic_field((4, 20, 20), 500.0, 36.0, generator=seeded())
    assert float(field.std((1, 2)).max()) < 0.05
    assert float(field.abs().max()) < 36 * 0.15


def test_each_image_has_its_own_draw_and_a_seed_gives_it_again():
    one = digits(1).expand(5, -1, -1)
    first, second = (Distort(generator=seeded(3))(one) for _ in range(2))
    assert torch.equal(first, second)
    assert all(not torch.equal(first[0], other) for other in first[1:])
    distort = Distort(generator=seeded(3))
    assert not torch.equal(distort(one), distort(one))


def test_labels_follow_the_images_and_stay_what_they_were():
    images = torch.zeros(3, 1, 24, 24)
    images[:, :, 6:18, 8:16] = 1
    labels = (images[:, 0] > 0).long() * 7
    bent, mask = Distort(generator=seeded())(images, labels)
    assert mask.dtype == torch.int64
    assert set(mask.unique().tolist()) <= {0, 7}
    assert ((bent[:, 0] > 0.5) == (mask == 7)).float().mean() > 0.97


def test_bytes_stay_bytes_and_loaders_are_distorted_anew():
    split = load("mnist-small")
    made = Distort(generator=seeded())(split.train.x[:4])
    assert made.dtype == torch.uint8
    few = split.train[:6]
    loader = Distort(generator=seeded()).batches(Batches(few, 3))
    passes = [torch.cat([x for x, _ in loader]) for _ in range(2)]
    assert len(loader) == 2
    assert not torch.equal(*passes)


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="must not be negative"):
        Distort(rotate=-1)
    with pytest.raises(ValueError, match="positive deviation"):
        Distort(elastic=(0, 3))
    with pytest.raises(ValueError, match="images must be"):
        Distort()(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="uint8 or floating point"):
        Distort()(torch.zeros(2, 3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels must be \[2, 5, 5\]"):
        Distort()(torch.zeros(2, 1, 5, 5), torch.zeros(2, 4, 5))
