"""Words as vectors that were learnt elsewhere, and texts as the numbers of their words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.data._archives import check_size, reason
from neurarium.data._errors import DataError
from neurarium.data.known._cache import obtain
from neurarium.data.known._sets import known, table

PADDING, UNKNOWN = 0, 1


class Vocabulary:
    """Words by number: 0 fills short texts up, 1 stands for every other word, then the words in their order.

    Args:
        words: each once.

    Raises:
        DataError: a word is there twice.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self.numbers = {word: number for number, word in enumerate(self.words, 2)}
        if len(self.numbers) < len(self.words):
            twice = next(word for number, word in enumerate(self.words, 2) if self.numbers[word] != number)
            raise DataError(f"the word {twice!r} is in the vocabulary twice")

    def __len__(self) -> int:
        return len(self.words) + 2

    def __getitem__(self, word: str) -> int:
        """The number of a word as it is written, or else of the word in small letters, or else 1."""
        return self.numbers.get(word, self.numbers.get(word.lower(), UNKNOWN))

    def encode(
        self, texts: Sequence[str], length: int = 0
    ) -> tuple[Int[Tensor, "texts length"], Int[Tensor, " texts"]]:
        """Texts as the numbers of their words, filled up with 0, and how many words each has.

        Words are runs of letters, digits and apostrophes, and single other marks. A text without any becomes one
        unknown word, so that no length is 0.

        Args:
            texts: at least one.
            length: keep so many words of each text; by default as many as the longest has.

        Raises:
            DataError: there are no texts, or the length is negative.
        """
        if not texts or length < 0:
            raise DataError(f"give at least one text and a positive length, not {len(texts)} texts and length {length}")
        split = [re.findall(r"[\w']+|[^\w\s]", text) for text in texts]
        numbers = [[self[word] for word in words][: length or None] or [UNKNOWN] for words in split]
        ids = torch.full((len(texts), length or max(map(len, numbers))), PADDING)
        for row, found in enumerate(numbers):
            ids[row, : len(found)] = torch.tensor(found)
        return ids, torch.tensor([len(found) for found in numbers])


@dataclass(frozen=True)
class WordVectors:
    """A vector for each word of a vocabulary.

    Args:
        vocabulary: of the words.
        vectors: float32 [len(vocabulary), width]; zeros for padding, the mean of all words for an unknown one.
    """

    vocabulary: Vocabulary
    vectors: Float[Tensor, "words width"]

    def __getitem__(self, word: str) -> Float[Tensor, " width"]:
        """The vector of a word."""
        return self.vectors[self.vocabulary[word]]


def load_word_vectors(name_or_path: str | os.PathLike[str] = "google-news-26k") -> WordVectors:
    """Word vectors: a known set, or a file of word2vec (binary or text), GloVe or fastText (text).

    Args:
        name_or_path: ``"google-news-26k"`` (26,423 words in 300 dimensions), or a path; ``.bin`` is read as binary.

    Raises:
        DataError: no such set or file, or it is no file of word vectors.
    """
    if isinstance(name_or_path, str) and name_or_path in table():
        path = next(iter(obtain(known(name_or_path, "vectors")).values()))
    else:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise DataError(f"no word vectors or file are called {str(name_or_path)!r}; there is 'google-news-26k'")
    check_size(3 * path.stat().st_size, str(path))
    words, vectors = read_binary(path) if path.suffix.lower() == ".bin" else read_text(path)
    if not np.isfinite(vectors).all():
        raise DataError(f"{path}: the vector of {words[int((~np.isfinite(vectors)).any(1).argmax())]!r} is not finite")
    special = np.stack([np.zeros(vectors.shape[1], np.float32), vectors.mean(0, dtype=np.float64).astype(np.float32)])
    return WordVectors(Vocabulary(words), torch.from_numpy(np.concatenate([special, vectors])))


def read_binary(path: Path) -> tuple[list[str], np.ndarray]:
    """word2vec's binary format: ``words width``, then each word, a blank, and its float32 numbers."""
    content = path.read_bytes()
    header, _, _ = content.partition(b"\n")
    found = re.fullmatch(rb"(\d{1,9}) (\d{1,5})", header.strip())
    if found is None:
        raise DataError(f"{path} does not begin with the number of words and the width, as binary word2vec files do")
    count, width = int(found[1]), int(found[2])
    if count == 0 or width == 0 or count * (4 * width + 1) > len(content):
        raise DataError(f"{path} claims {count:,} words of {width} numbers but has {len(content):,} bytes only")
    words, vectors, place = [], np.empty((count, width), np.float32), len(header) + 1
    for row in range(count):
        blank = content.find(b" ", place)
        if blank < 0 or blank + 1 + 4 * width > len(content):
            raise DataError(f"{path} ends at word {row + 1:,} of {count:,}")
        words.append(content[place:blank].strip().decode("utf-8", "replace"))
        vectors[row] = np.frombuffer(content, "<f4", width, blank + 1)
        place = blank + 1 + 4 * width
    return words, vectors


def read_text(path: Path) -> tuple[list[str], np.ndarray]:
    """A line for each word: the word and its numbers; a first line ``words width`` is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable text file of word vectors ({reason(error)})") from None
    if lines and re.fullmatch(r"\d+ \d+", lines[0].strip()):
        lines = lines[1:]
    words: dict[str, np.ndarray] = {}
    width = 0
    for number, line in enumerate(lines, 1):
        word, *numbers = line.rstrip().split(" ")
        width = width or len(numbers)
        try:
            vector = np.array(numbers, np.float32)
        except ValueError:
            vector = np.empty(0, np.float32)
        if len(vector) != width or width == 0:
            raise DataError(f"{path}: word {number:,} is not followed by {width or 'any'} numbers")
        words.setdefault(word, vector)
    if not words:
        raise DataError(f"{path} holds no words")
    return list(words), np.stack(list(words.values()))
