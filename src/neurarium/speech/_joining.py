"""Utterances of known timing: single words joined with random pauses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class JoinedWords:
    """A set of utterances.

    Args:
        x: features, 0 after an utterance's end.
        lengths: frames of each utterance.
        targets: class of each word, 0 after the last.
        target_lengths: words of each utterance.
        spans: first frame of each word and the first after it.
    """

    x: Float[Tensor, "utterances frames features"]
    lengths: Int[Tensor, " utterances"]
    targets: Int[Tensor, "utterances words"]
    target_lengths: Int[Tensor, " utterances"]
    spans: Float[Tensor, "utterances words 2"]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> JoinedWords:
        return JoinedWords(
            self.x[index], self.lengths[index], self.targets[index], self.target_lengths[index], self.spans[index]
        )


def join_words(
    words: Sequence[Tensor],
    labels: Sequence[int] | Tensor,
    utterances: int,
    *,
    count: tuple[int, int] = (3, 5),
    pause: tuple[int, int] = (5, 25),
    noise: float = 0.0,
    features: Callable[[Tensor], Tensor] | None = None,
    hop: int = 1,
    generator: torch.Generator | None = None,
) -> JoinedWords:
    """Draw words and pauses, put them one after another, add noise, and keep the true times.

    Args:
        words: sounds [samples] or feature sequences [frames, features].
        labels: class of each; give 1 and above where 0 is the blank.
        utterances: how many to make.
        count: fewest and most words of an utterance.
        pause: shortest and longest pause before, between and after words, in steps of the first dimension of ``words``.
        noise: standard deviation of white noise over everything.
        features: from a joined sound [samples] to [frames, features].
        hop: samples of one frame of ``features``.
        generator: of all draws (on the CPU).

    Raises:
        ValueError: no words, not one label for each, or a range that is empty.
    """
    if not words or len(words) != len(labels):
        raise ValueError(f"join_words needs words and one label for each, not {len(words)} and {len(labels)}")
    if not 1 <= count[0] <= count[1] or not 0 <= pause[0] <= pause[1] or utterances < 1:
        raise ValueError("utterances and count must be at least 1, and ranges must go from smaller to larger")

    def draw(low: int, high: int, size: int) -> list[int]:
        return torch.randint(low, high + 1, (size,), generator=generator).tolist()

    made, targets, spans = [], [], []
    for many in draw(*count, utterances):
        chosen, gaps = draw(0, len(words) - 1, many), draw(*pause, many + 1)
        pieces, times, at = [], [], gaps[0]
        for word, gap in zip((words[i] for i in chosen), gaps[1:]):
            pieces += [word, word.new_zeros(gap, *word.shape[1:])]
            times.append((at / hop, (at + len(word)) / hop))
            at += len(word) + gap
        x = torch.cat([pieces[0].new_zeros(gaps[0], *pieces[0].shape[1:]), *pieces])
        x = x + noise * torch.randn(x.shape, generator=generator).to(x)
        made.append(x if features is None else features(x))
        targets.append(torch.tensor([int(labels[i]) for i in chosen]))
        spans.append(torch.tensor(times))
    pad = torch.nn.utils.rnn.pad_sequence
    return JoinedWords(
        pad(made, batch_first=True),
        torch.tensor([len(x) for x in made]),
        pad(targets, batch_first=True),
        torch.tensor([len(t) for t in targets]),
        pad(spans, batch_first=True),
    )


def simulated_words(
    tokens: int, classes: int = 10, *, channels: int = 20, generator: torch.Generator | None = None
) -> tuple[list[Float[Tensor, "frames channels"]], Int[Tensor, " tokens"]]:
    """Something like words: a class is a row of three to five of twelve random spectra; tokens vary in pace and level.

    Every spectrum lasts two to four frames, drawn for each token, and a token's level is uniform in 0.7 to 1.3.

    Args:
        tokens: how many words; classes follow one another in turn.
        classes: number of different words.
        channels: features of a frame.
        generator: of all draws.

    Returns:
        The tokens, and their classes from 1 to ``classes`` (0 is left for the blank).
    """
    spectra = torch.randn(12, channels, generator=generator)
    spelling = [torch.randint(12, (3 + word % 3,), generator=generator) for word in range(classes)]
    words = []
    for token in range(tokens):
        phones = spelling[token % classes]
        lasting = torch.randint(2, 5, (len(phones),), generator=generator)
        level = 0.7 + 0.6 * torch.rand(1, generator=generator)
        words.append(spectra[phones].repeat_interleave(lasting, 0) * level)
    return words, torch.arange(tokens) % classes + 1


def log_mel(
    wave: Float[Tensor, " samples"], rate: int, bands: int = 40, window: float = 0.025, step: float = 0.01
) -> Float[Tensor, "frames bands"]:
    """Log energies in triangular bands that are evenly spaced on the mel scale, one row every ``step`` seconds.

    Args:
        wave: the sound; frames are centred, ``samples // (step * rate) + 1`` of them.
        rate: samples per second.
        bands: number of bands between 60 Hz and half the rate.
        window: length of the Hann window in seconds.
        step: seconds between frames.
    """
    size, hop = round(window * rate), round(step * rate)
    points = 1 << (size - 1).bit_length()
    kind: Any = {"dtype": wave.dtype, "device": wave.device}
    hann = torch.hann_window(size).to(wave)
    spectrum = torch.stft(wave, points, hop, size, hann, pad_mode="constant", return_complex=True)
    nyquist, low = torch.tensor(rate / 2.0), torch.tensor(60.0)
    edges = torch.linspace(float(_mel(low)), float(_mel(nyquist)), bands + 2, **kind)
    place = _mel(torch.linspace(0.0, rate / 2, points // 2 + 1, **kind))
    rise = (place - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - place) / (edges[2:] - edges[1:-1])[:, None]
    return (torch.minimum(rise, fall).clamp_min(0.0) @ spectrum.abs().square() + 1e-8).log().t()


def _mel(frequency: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(frequency / 700.0)
