"""Frozen features of texts, sounds and tables that need no download, and the way to ask for one by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor
from torch.nn.functional import normalize


class TextHasher:
    """Words and word pairs of a text, hashed, and projected at random: sub-linear counts, unit length.

    Args:
        features: size of the result.
        seed: of the projection.
    """

    def __init__(self, features: int = 384, seed: int = 0) -> None:
        self.words = HashingVectorizer(n_features=2**15, ngram_range=(1, 2), stop_words="english", norm=None)
        draws = np.random.default_rng(seed)
        self.projection = draws.standard_normal((2**15, features)).astype(np.float32)
        self.features = features

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """[texts, features].

        Raises:
            ValueError: an empty text.
        """
        empty = [i for i, text in enumerate(texts) if not text.strip()]
        if empty:
            raise ValueError(f"text {empty[0]} is empty")
        counts = self.words.transform(texts)
        counts.data = np.sign(counts.data) * np.log1p(np.abs(counts.data))
        # A product with all rows of the projection would first turn them all into double precision.
        used, column = np.unique(counts.indices, return_inverse=True)
        counts = csr_matrix((counts.data, column, counts.indptr), (len(texts), len(used)))
        return normalize(torch.from_numpy(counts @ self.projection[used]).float(), dim=1)


class LogMelStatistics:
    """Mean and deviation over time of log mel energies and of their changes.

    Args:
        sample_rate: of the sounds, in hertz.
        bands: mel bands.
        window: of the transform, in samples.
    """

    def __init__(self, sample_rate: int = 8_000, bands: int = 40, window: int = 256) -> None:
        self.window = window
        self.features = 4 * bands
        hertz = torch.linspace(0, sample_rate / 2, window // 2 + 1)
        mel = 2595 * torch.log10(1 + hertz / 700)
        edges = torch.linspace(0, float(mel[-1]), bands + 2)
        rising = (mel[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - mel[None]) / (edges[2:] - edges[1:-1])[:, None]
        self.bank = torch.minimum(rising, falling).clamp_min(0)

    def __call__(self, sounds: Tensor) -> Tensor:
        """[sounds, samples] -> [sounds, 4 * bands].

        Raises:
            ValueError: sounds shorter than two windows.
        """
        if sounds.dim() != 2 or sounds.shape[1] < 2 * self.window:
            raise ValueError(f"sounds must be [sounds, at least {2 * self.window} samples], not {list(sounds.shape)}")
        spectrum = torch.stft(
            sounds, self.window, self.window // 2, window=torch.hann_window(self.window), return_complex=True
        )
        energy = torch.log(self.bank @ spectrum.abs().square() + 1e-6)
        change = energy.diff(dim=2)
        return torch.cat([energy.mean(2), energy.std(2), change.mean(2), change.std(2)], 1)


class SentenceEncoder:
    """A pre-trained sentence encoder through ``sentence-transformers`` (extra ``language``), loaded at first use.

    Args:
        name: model name or folder.
    """

    def __init__(self, name: str = "sentence-transformers/all-MiniLM-L6-v2") -> None:
        self.name = name
        self._model: Any = None

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """[texts, features].

        Raises:
            ModuleNotFoundError: the extra is not installed.
            ValueError: an empty text.
        """
        if any(not text.strip() for text in texts):
            raise ValueError(f"text {next(i for i, t in enumerate(texts) if not t.strip())} is empty")
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ModuleNotFoundError:
                raise ModuleNotFoundError(
                    'sentence encoders need the extra "language": pip install neurarium[language]'
                ) from None
            self._model = SentenceTransformer(self.name)
        return torch.as_tensor(self._model.encode(list(texts)))


def as_vectors(x: Tensor) -> Tensor:
    """Features and images as they are, one vector each."""
    return x.flatten(1).float()


class TableStandardizer:
    """Columns of a table less their mean and over their deviation, of the rows that ``observe`` has seen so far.

    A column that never varied gives 0. The mean and the sum of squared deviations are kept in double precision, so that
    rows may come in any grouping and columns may be large beside their changes.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, dtype=torch.float64)

    def observe(self, x: Tensor) -> None:
        """Take rows into the statistics.

        Args:
            x: [rows, columns]; further dimensions count as columns.

        Raises:
            ValueError: no rows, another number of columns than before, or values that are not finite.
        """
        if not len(x):
            raise ValueError("there are no rows to observe")
        rows = x.flatten(1).double().cpu()
        if self.rows and rows.shape[1] != len(self.mean):
            raise ValueError(f"rows must have {len(self.mean)} columns as before, not {rows.shape[1]}")
        if not bool(rows.isfinite().all()):
            raise ValueError(f"row {int((~rows.isfinite().all(1)).nonzero()[0])} is not finite")
        if not self.rows:
            self.mean = self.scatter = rows.new_zeros(rows.shape[1])
        total = self.rows + len(rows)
        own = rows.mean(0)
        apart = own - self.mean
        self.scatter = self.scatter + (rows - own).square().sum(0) + apart.square() * self.rows * len(rows) / total
        self.mean = self.mean + apart * len(rows) / total
        self.rows = total

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, columns], in single precision.

        Raises:
            ValueError: no row has been observed, or another number of columns.
        """
        if not self.rows:
            raise ValueError("no rows have been observed yet")
        rows = x.flatten(1).double()
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"rows must have {len(self.mean)} columns as before, not {rows.shape[1]}")
        mean, deviation = (t.to(rows.device) for t in (self.mean, (self.scatter / self.rows).sqrt()))
        return ((rows - mean) / torch.where(deviation > 0, deviation, torch.inf)).float()

    def state_dict(self) -> dict[str, Tensor]:
        """What was observed."""
        return {"rows": torch.tensor(self.rows), "mean": self.mean, "scatter": self.scatter}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Back to what `state_dict` gave."""
        self.rows, self.mean, self.scatter = int(state["rows"]), state["mean"], state["scatter"]


EXTRACTORS: dict[str, Callable[[], Callable[[Any], Tensor]]] = {
    "text-hash": TextHasher,
    "text-minilm": SentenceEncoder,
    "audio-logmel": LogMelStatistics,
    "table": TableStandardizer,
    "vector": lambda: as_vectors,
}


def feature_extractor(name: str) -> Callable[[Any], Tensor]:
    """An extractor by name: "text-hash", "text-minilm", "audio-logmel", "table" or "vector".

    Raises:
        ValueError: an unknown name; the message gives the nearest.
    """
    if name not in EXTRACTORS:
        near = difflib.get_close_matches(name, EXTRACTORS, n=1, cutoff=0.0)
        raise ValueError(f"there is no extractor {name!r}; did you mean {near[0]!r}? ({', '.join(EXTRACTORS)})")
    return EXTRACTORS[name]()
