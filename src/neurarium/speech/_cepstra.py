"""Cepstral coefficients of speech: what recognisers of the years before deep networks heard."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from neurarium.speech._joining import log_mel


def mfcc(
    wave: Float[Tensor, " samples"], rate: int, coefficients: int = 13, bands: int = 26, deltas: int = 2
) -> Float[Tensor, "frames features"]:
    """Mel-frequency cepstral coefficients, with their changes in time beside them: 39 numbers every 10 ms by default.

    The orthonormal discrete cosine transform (type II) of `log_mel`; a change is the slope of a line through two frames
    on either side. `neurarium.layers.FrameWindow` puts neighbouring frames side by side.

    Args:
        wave: the sound.
        rate: samples per second.
        coefficients: how many of the first; the first of all is the loudness.
        bands: of the mel scale.
        deltas: 0 for none, 1 for changes, 2 for changes of changes too.

    Raises:
        ValueError: more coefficients than bands, or ``deltas`` outside 0..2.
    """
    if not 1 <= coefficients <= bands:
        raise ValueError(f"coefficients must be between 1 and the {bands} bands, not {coefficients}")
    if deltas not in (0, 1, 2):
        raise ValueError(f"deltas must be 0, 1 or 2, not {deltas}")
    energies = log_mel(wave, rate, bands)
    order, band = torch.arange(coefficients).to(energies)[:, None], torch.arange(bands).to(energies)
    transform = math.sqrt(2 / bands) * torch.cos(math.pi / bands * order * (band + 0.5))
    transform[0] /= math.sqrt(2)
    parts = [energies @ transform.T]
    for _ in range(deltas):
        parts.append(_slopes(parts[-1]))
    return torch.cat(parts, 1)


def _slopes(x: Float[Tensor, "frames features"]) -> Float[Tensor, "frames features"]:
    """Least-squares slope over five frames, the first and the last one repeated beyond the ends."""
    far = pad(x.T[None], (2, 2), mode="replicate")[0].T
    count = len(x)
    near = far[3 : 3 + count] - far[1 : 1 + count]
    return (near + 2 * (far[4 : 4 + count] - far[:count])) / 10
