"""Simulated speech: phones of random length, smeared into each other and noisy, with a label for every frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neurarium.data._arrays import Arrays


@dataclass(frozen=True)
class PhoneStream:
    """Sentences of frames with phone labels.

    Args:
        train: x float32 [sentences, frames, features], y int64 [sentences, frames].
        test: the same, other sentences of the same language.
        bigram: float32 [phones, phones], the chance of the next phone (column) after each one (row); no phone follows
            itself.
    """

    train: Arrays
    test: Arrays
    bigram: Tensor


def phone_stream(
    train: int = 300,
    test: int = 100,
    *,
    frames: int = 120,
    phones: int = 16,
    features: int = 13,
    durations: tuple[int, int] = (3, 9),
    smear: int = 5,
    noise: float = 0.6,
    generator: torch.Generator | None = None,
) -> PhoneStream:
    """A made-up language, spoken: a random target vector for each phone, held for a random number of frames.

    Targets are standard normal. The sequence of phones is a Markov chain whose rows are drawn from a flat Dirichlet
    distribution raised to the third power, so that a few followers are common. The track of targets is averaged over
    ``smear`` frames around each one (co-articulation: both neighbours colour a phone), then Gaussian noise is added.

    Args:
        train: training sentences.
        test: test sentences.
        frames: of each sentence.
        phones: of the language.
        features: of a frame.
        durations: shortest and longest phone, in frames.
        smear: frames in the centred average; odd, 1 for none.
        noise: standard deviation of the noise.
        generator: source of all draws, on the CPU; torch's own by default.

    Raises:
        ValueError: fewer than one training sentence, negative test sentences, fewer than two phones, durations that
            are not a range of positive numbers, or an even ``smear``.
    """
    if train < 1 or test < 0 or frames < 1 or features < 1:
        raise ValueError("train, frames and features must be at least 1, and test not negative")
    if phones < 2:
        raise ValueError(f"phones must be at least 2, not {phones}")
    shortest, longest = durations
    if not 1 <= shortest <= longest:
        raise ValueError(f"durations must be (shortest, longest) with 1 <= shortest <= longest, not {durations}")
    if smear < 1 or smear % 2 == 0:
        raise ValueError(f"smear must be an odd number of frames, not {smear}")
    targets = torch.randn(phones, features, generator=generator)
    weights = torch.rand(phones, phones, generator=generator).log().neg().pow(3).fill_diagonal_(0)
    bigram = weights / weights.sum(1, keepdim=True)

    sentences = train + test
    count = -(-frames // shortest)  # phones that fill a sentence, however short they are
    said = torch.randint(phones, (sentences, 1), generator=generator)
    for _ in range(count - 1):
        said = torch.cat([said, torch.multinomial(bigram[said[:, -1]], 1, generator=generator)], 1)
    lengths = torch.randint(shortest, longest + 1, (sentences, count), generator=generator)
    place = torch.searchsorted(lengths.cumsum(1), torch.arange(frames).expand(sentences, -1).contiguous(), right=True)
    labels = said.gather(1, place)

    track = targets[labels].mT
    half = smear // 2
    x = F.avg_pool1d(F.pad(track, (half, half), mode="replicate"), smear, stride=1).mT
    x = x + noise * torch.randn(x.shape, generator=generator)
    everything = Arrays(x.contiguous(), labels)
    return PhoneStream(everything[:train], everything[train:], bigram)
