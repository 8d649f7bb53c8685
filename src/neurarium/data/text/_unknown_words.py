"""Words without a vector, and sets of sentences without a published split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from neurarium.data._errors import DataError
from neurarium.data.text._text import TextSplit
from neurarium.data.text._word_vectors import UNKNOWN, Vocabulary, WordVectors

WORD = r"[\w']+|[^\w\s]"
"""What `Vocabulary.encode` takes for a word."""


def with_unknown_words(
    vectors: WordVectors,
    texts: Sequence[str],
    bound: float = 0.05,
    least: int = 1,
    generator: torch.Generator | None = None,
) -> WordVectors:
    """Word vectors with one for every word of some texts: those without get random numbers in [-bound, bound].

    Give the training's texts alone: words of others then share the vector of the unknown word, as they will in use.

    Args:
        vectors: those that there are; they stay as they are.
        texts: whose words to add.
        bound: of the new vectors' numbers.
        least: how often a word must occur to get a vector.
        generator: of the new vectors; torch's global one by default.
    """
    counts: dict[str, int] = {}
    for text in texts:
        for word in re.findall(WORD, text):
            if vectors.vocabulary[word] == UNKNOWN:
                counts[word] = counts.get(word, 0) + 1
    added = [word for word, count in counts.items() if count >= least]
    matrix = vectors.vectors
    drawn = (torch.rand(len(added), matrix.shape[1], generator=generator) * 2 - 1) * bound
    return WordVectors(Vocabulary([*vectors.vocabulary.words, *added]), torch.cat([matrix, drawn.to(matrix)]))


def fold_text(split: TextSplit, fold: int, folds: int = 10, seed: int = 0) -> TextSplit:
    """One fold of a cross-validation, for sets without a published split: every text is tested in one of the folds.

    Args:
        split: a set of sentences; its own parts are joined.
        fold: which fold is the test part, from 0.
        folds: how many; within each class the texts are dealt out to them in an order drawn by ``seed``.
        seed: of that order.

    Raises:
        DataError: no such fold, or fewer texts of a class than folds.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise DataError(f"fold must be between 0 and {folds - 1}, not {fold}, and folds at least 2")
    rows = [*split.train, *split.validation, *split.test]
    labels = torch.tensor([label for _, label in rows])
    generator = torch.Generator().manual_seed(seed)
    test = torch.zeros(len(rows), dtype=torch.bool)
    for label, name in enumerate(split.classes):
        mine = (labels == label).nonzero()[:, 0]
        if len(mine) < folds:
            raise DataError(f"class {name!r} has {len(mine)} texts, fewer than {folds} folds")
        test[mine[torch.randperm(len(mine), generator=generator)][fold::folds]] = True
    return replace(split, train=_where(rows, ~test), validation=[], test=_where(rows, test))


def _where(rows: list[tuple[str, int]], mask: Tensor) -> list[tuple[str, int]]:
    return [rows[row] for row in mask.nonzero()[:, 0].tolist()]
