"""Cepstral coefficients against SciPy's transform and a line's known slope."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from neurarium.layers import FrameWindow
from neurarium.speech import log_mel, mfcc
from neurarium.speech._cepstra import _slopes


def test_coefficients_are_scipys_and_changes_are_slopes():
    wave = torch.randn(8_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = mfcc(wave, 8_000)
    expected = dct(log_mel(wave, 8_000, 26).numpy(), type=2, norm="ortho", axis=1)[:, :13]
    np.testing.assert_allclose(found[:, :13].numpy(), expected, atol=1e-9)
    assert found.shape == (101, 39)
    line = torch.arange(20.0, dtype=torch.float64)[:, None] * torch.tensor([2.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(_slopes(line)[2:-2], torch.tensor([[2.0, -1.0]], dtype=torch.float64).expand(16, 2))
    assert FrameWindow(5, 5)(found[None]).shape == (1, 101, 11 * 39)
    assert mfcc(wave, 8_000, deltas=0).shape == (101, 13)
    with pytest.raises(ValueError, match="coefficients"):
        mfcc(wave, 8_000, 30)
    with pytest.raises(ValueError, match="deltas"):
        mfcc(wave, 8_000, deltas=3)
