"""Utterances of joined words for the studies of this room, simulated and recorded.

Each function returns training and test utterances, the stride that a network should take over their frames, and the
seconds of a frame.
"""

import torch
from torch import Tensor

from neurarium.data import Recordings, load_audio
from neurarium.speech import JoinedWords, join_words, log_mel, simulated_words


def simulated_speech(utterances: int, generator: torch.Generator) -> tuple[JoinedWords, JoinedWords, int, float]:
    """400 tokens of ten simulated words, the last 100 for test; frames of 20 ms. With stride and seconds per frame."""
    words, labels = simulated_words(400, generator=generator)

    def join(part: slice, many: int) -> JoinedWords:
        return join_words(words[part], labels[part], many, pause=(3, 15), noise=0.5, generator=generator)

    return join(slice(300), utterances), join(slice(300, 400), 60), 1, 0.02


def recorded_digits(utterances: int, generator: torch.Generator) -> tuple[JoinedWords, JoinedWords, int, float]:
    """Recorded digits joined with pauses of 0.1 to 0.6 seconds, as 40 log-mel energies every 10 ms."""
    data = load_audio("fsdd")
    pause, hop = (data.rate // 10, 6 * data.rate // 10), data.rate // 100

    def features(wave: Tensor) -> Tensor:
        return log_mel(wave, data.rate) / 4 + 1  # roughly standardised

    def join(part: Recordings, many: int) -> JoinedWords:
        return join_words(
            part.waves, part.labels + 1, many, pause=pause, noise=2e-3, features=features, hop=hop, generator=generator
        )

    return join(data.train, utterances), join(data.test, 200), 2, 0.01
