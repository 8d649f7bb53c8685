"""Simulated speech: lengths, bigram, smearing and noise as asked for."""

import itertools

import pytest
import torch

from neurarium.data import phone_stream


def seeded(**more):
    return phone_stream(200, 20, generator=torch.Generator().manual_seed(0), **more)


def test_shapes_and_determinism():
    a, b = seeded(), seeded()
    assert a.train.x.shape == (200, 120, 13)
    assert a.train.y.shape == (200, 120)
    assert len(a.test) == 20
    assert torch.equal(a.train.x, b.train.x)
    assert torch.equal(a.test.y, b.test.y)


def test_durations_and_bigram():
    data = seeded(frames=300)
    counts = torch.zeros(16, 16)
    for sentence in data.train.y:
        phones, lengths = torch.unique_consecutive(sentence, return_counts=True)
        assert lengths[1:-1].min() >= 3
        assert lengths[1:-1].max() <= 9
        assert lengths[0] <= 9
        for before, after in itertools.pairwise(phones):
            counts[before, after] += 1
    assert float(data.bigram.diagonal().abs().max()) == 0
    seen = counts.sum(1, keepdim=True)
    deviation = (data.bigram * (1 - data.bigram) / seen).sqrt()
    assert ((counts / seen - data.bigram).abs() <= 4.5 * deviation + 1 / seen).all()


def test_frames_are_smeared_targets_plus_noise():
    clean = seeded(smear=1, noise=0.0)
    for phone in range(16):
        frames = clean.train.x[clean.train.y == phone]
        assert float((frames - frames[0]).abs().max()) == 0
    smeared = seeded(noise=0.0)
    x = clean.train.x
    torch.testing.assert_close(smeared.train.x[:, 50], x[:, 48:53].mean(1))
    noisy = seeded(noise=2.0)
    assert float((noisy.train.x - smeared.train.x).std()) == pytest.approx(2.0, abs=0.02)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="smear"):
        phone_stream(1, 1, smear=4)
    with pytest.raises(ValueError, match="durations"):
        phone_stream(1, 1, durations=(5, 3))
