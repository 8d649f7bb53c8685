"""Probes of wholes and parts on encoders whose embeddings are known."""

import pytest
import torch
from torch import nn

from neurarium.probes import composability, decomposability, localizability, symmetry


class Sums(nn.Module):
    """Mean of each channel: a whole is the mean of its parts exactly."""

    def forward(self, x):
        return x.mean((2, 3))


class Means(nn.Module):
    """Mean of pixels as they are, in a fixed random basis."""

    def __init__(self, side):
        super().__init__()
        self.side = side
        self.basis = nn.Parameter(torch.randn(side * side, 16, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x.flatten(1) @ self.basis


def test_means_of_pixels_compose_and_decompose_exactly():
    x = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    report = composability(Sums(), x)
    assert set(report.cosines) == {2, 3, 4}
    for count in (2, 3, 4):
        torch.testing.assert_close(report.cosines[count], torch.ones(6))
        assert report.median(count) == pytest.approx(1)
    assert "2 parts" in report.summary()
    torch.testing.assert_close(decomposability(Sums(), x).cosines, torch.ones(4, 6))


def test_unrelated_wholes_are_told():
    x = torch.zeros(4, 2, 8, 8)
    x[:2, 0], x[2:, 1] = 1.0, 1.0  # two pairs: cosines 1 within, 0 across
    assert composability(Sums(), x).unrelated == pytest.approx(2 / 6)
    assert composability(Sums(), torch.ones(4, 2, 8, 8)).unrelated == pytest.approx(1)


def test_landmarks_that_look_different_are_found():
    g = torch.Generator().manual_seed(0)
    marks = torch.tensor([[4, 4], [4, 12], [12, 4]])
    textures = torch.randn(3, 5, 5, generator=g)
    x, places = 0.1 * torch.randn(6, 1, 17, 17, generator=g), []
    for i in range(6):
        moved = marks + torch.randint(-1, 2, (3, 2), generator=g)
        for k, (row, column) in enumerate(moved.tolist()):
            x[i, 0, row - 2 : row + 3, column - 2 : column + 3] += textures[k]
        places.append(moved)
    report = localizability(Means(5), x, torch.stack(places), 5)
    assert report.accuracy == 1
    assert report.silhouette > 0.6
    torch.testing.assert_close(report.confusion, torch.eye(3))
    alike = localizability(Sums(), torch.ones(4, 1, 17, 17), marks.repeat(4, 1, 1), 5)
    assert alike.accuracy == pytest.approx(1 / 3)  # all the same: the first is taken
    with pytest.raises(ValueError, match="landmark 1 of image 1 is outside"):
        localizability(Sums(), torch.ones(2, 1, 13, 13), marks.repeat(2, 1, 1) + torch.tensor([[[0]], [[1]]]), 5)


def test_an_atlas_alone_is_searched():
    class First(nn.Module):
        def forward(self, x):
            angle = x.mean((1, 2, 3))
            return torch.stack([angle.cos(), angle.sin()], 1)

    marks = torch.tensor([[0, 0], [0, 1], [0, 2]]).repeat(3, 1, 1)
    x = torch.tensor([[0.0, 1.0, 2.0], [0.1, 0.3, 1.6], [0.11, 0.31, 1.61]])[:, None, None]
    every = localizability(First(), x, marks, 1)  # the last two find each other; the first one's second is lost
    assert every.accuracy == pytest.approx(8 / 9)
    report = localizability(First(), x, marks, 1, references=1)
    assert report.accuracy == pytest.approx(2 / 3)
    torch.testing.assert_close(report.confusion, torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]]))
    with pytest.raises(ValueError, match="from 1 to 2, not 3"):
        localizability(First(), x, marks, 1, references=3)


def test_mirrored_images_are_symmetric():
    half = torch.randn(5, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    report = symmetry(Means(8), torch.cat([half, half.flip(3)], 3), size=8)
    torch.testing.assert_close(report.cosines, torch.ones(5))
    assert report.unrelated < 0.6


def test_refusals():
    x = torch.rand(3, 1, 8, 8)
    with pytest.raises(ValueError, match="not 5 and 3"):
        composability(Sums(), x, part_counts=(5,))
    with pytest.raises(ValueError, match="not 4 and 1"):
        decomposability(Sums(), x[:1])
    with pytest.raises(ValueError, match="at least two images"):
        symmetry(Sums(), x[:1])
    with pytest.raises(ValueError, match=r"\[images, landmarks, 2\]"):
        localizability(Sums(), x, torch.zeros(3, 2), 3)
