"""Printed letters: every letter there, the same for a seed, told apart by a simple classifier."""

import pytest
import torch

from neurarium.data import printed_letters
from neurarium.data.images._letters import LETTERS, glyphs


def test_letters():
    split = printed_letters(2000, 500, seed=3)
    again = printed_letters(2000, 500, seed=3)
    assert torch.equal(split.train.x, again.train.x)
    assert not torch.equal(split.train.x, printed_letters(2000, 500, seed=4).train.x)
    assert split.train.x.shape == (2000, 28, 28)
    assert split.train.x.dtype == torch.uint8
    assert len(split.test) == 500
    assert split.train.y.unique().tolist() == list(range(52))
    assert "".join(split.classes) == LETTERS


def test_glyphs_differ_and_are_centred():
    shapes = glyphs().float()
    assert len(shapes) == 52 * 9
    for image in shapes:
        rows, columns = image.sum(1).nonzero().flatten(), image.sum(0).nonzero().flatten()
        assert abs(float(rows[0] + rows[-1]) / 2 - 13.5) <= 1
        assert abs(float(columns[0] + columns[-1]) / 2 - 13.5) <= 1
    flat = shapes.view(52, 9, -1).mean(1)
    assert int(((flat[:, None] - flat).abs().sum(-1) < 1).sum()) == 52


def test_refusals():
    with pytest.raises(ValueError, match="train must be at least 1"):
        printed_letters(0)
