"""Sentences of frames for primal-dual-rnn: simulated speech, or TIMIT in three states for each of 61 phones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from neurarium.data import Arrays, TimitSentence, fold_phone, load_timit, phone_stream
from neurarium.data.sounds._timit import IGNORED, PHONES_39, PHONES_61, RATE
from neurarium.speech import log_mel

STATES = 3


@dataclass(frozen=True)
class Sentences:
    """Frames and their labels; beyond the end of a sentence frames are 0 and labels -100."""

    train: Arrays
    test: Arrays
    phone_of: tuple[int, ...]
    """The phone that scoring hears in each label; -1 where it hears none."""

    @property
    def features(self) -> int:
        """Numbers in a frame."""
        return self.train.x.shape[2]


def simulated(train: int, test: int, frames: int, noise: float, generator: torch.Generator) -> Sentences:
    """A made-up language of 16 phones, each its own label."""
    data = phone_stream(train, test, frames=frames, noise=noise, generator=generator)
    return Sentences(data.train, data.test, tuple(range(len(data.bigram))))


def timit(train: int, test: int) -> Sentences:
    """The first sentences of the user's own TIMIT: 40 log-mel bands, scaled by training frames; 183 labels, 39 phones.

    A state is a third of a phone as transcribed; the paper's came from an aligner. Scoring drops the glottal stop.
    """
    own = load_timit()
    (x, y), (test_x, test_y) = _frames(own.train[:train]), _frames(own.test[:test])
    every = torch.cat(x)
    mean, scale = every.mean(0), every.std(0).clamp_min(1e-3)
    phones = [fold_phone(phone) for phone in PHONES_61]
    folded = [PHONES_39.index(phone) if phone is not None else -1 for phone in phones]
    return Sentences(
        _padded([(frames - mean) / scale for frames in x], y),
        _padded([(frames - mean) / scale for frames in test_x], test_y),
        tuple(phone for phone in folded for _ in range(STATES)),
    )


def _frames(sentences: Sequence[TimitSentence]) -> tuple[list[Tensor], list[Tensor]]:
    x = [log_mel(sentence.wave, RATE) for sentence in sentences]
    return x, [s.frame_labels(len(frames), phones=61, states=STATES) for s, frames in zip(sentences, x, strict=True)]


def _padded(x: list[Tensor], y: list[Tensor]) -> Arrays:
    return Arrays(pad_sequence(x, batch_first=True), pad_sequence(y, batch_first=True, padding_value=IGNORED))


class FrozenFeatures(nn.Module):
    """A trained network's hidden layers as they are; 0 where the frame is, so that a window sees nothing in padding."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[sentences, frames, features] -> [sentences, frames, width]."""
        return self.layers(x) * x.any(-1, keepdim=True)
