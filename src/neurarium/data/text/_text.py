"""Text: sentences with a class, and pairs of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neurarium.data._errors import DataError, nearest
from neurarium.data._splitting import FRACTIONS, check_fractions, split_rows
from neurarium.data.known._cache import members
from neurarium.data.known._sets import known


@dataclass(frozen=True)
class TextSplit:
    """Texts with class indices.

    Args:
        train: what methods learn from, ``(text, label)``.
        validation: what choices are made on; may be empty.
        test: what is reported.
        classes: class names in label order.
        name: of the set.
    """

    train: list[tuple[str, int]]
    validation: list[tuple[str, int]]
    test: list[tuple[str, int]]
    classes: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class PairSplit:
    """Pairs of sequences, ``(source, target)``, as strings.

    Args:
        train: what methods learn from.
        validation: what choices are made on; may be empty.
        test: what is reported.
        name: of the set and its variant.
    """

    train: list[tuple[str, str]]
    validation: list[tuple[str, str]]
    test: list[tuple[str, str]]
    name: str = ""


SENTIMENT = ("negative", "positive")
GRADES = ("very negative", "negative", "neutral", "positive", "very positive")
# The label order of the published files, read off their questions.
QUESTIONS = ("description", "entity", "abbreviation", "human", "location", "number")
SENTENCES = {
    "mr": (("rt-polarity.all",), SENTIMENT),
    "subj": (("subj.all",), ("subjective", "objective")),
    "cr": (("custrev.all",), SENTIMENT),
    "mpqa": (("mpqa.all",), SENTIMENT),
    "trec": (("TREC.train.all", "TREC.test.all"), QUESTIONS),
    "sst2": (("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test"), SENTIMENT),
    "sst5": (("stsa.fine.train", "stsa.fine.dev", "stsa.fine.test"), GRADES),
}
SCAN = {
    "simple": "simple_split/tasks_{}_simple.txt",
    "length": "length_split/tasks_{}_length.txt",
    "jump": "add_prim_split/tasks_{}_addprim_jump.txt",
    "turn-left": "add_prim_split/tasks_{}_addprim_turn_left.txt",
}


def load_text(name: str, *, split: Sequence[float] | None = None, seed: int = 0) -> TextSplit:
    """A known set of sentences: mr, subj, cr, mpqa, trec, sst2 or sst5.

    Texts come as published: tokens separated by spaces; cr has four and mpqa three that are empty.

    Args:
        name: of the set.
        split: fractions of train, validation and test, drawn within each class, for a set without a published split
            (mr, subj, cr, mpqa); by default 0.7, 0.15, 0.15.
        seed: of that split.

    Raises:
        DataError: no such set, ``split`` for one whose split is published, or no source can be reached.
    """
    entry = known(name, "text")
    files, classes = SENTENCES[name]
    if split is not None and len(files) > 1:
        raise DataError(f"{name} has a published split; leave split out")
    fractions = check_fractions(FRACTIONS if split is None else split)
    contents = members(entry)
    parts = [read_sentences(contents[f"data/{file}"]) for file in files]
    if len(parts) == 1:
        labels = torch.tensor([label for _, label in parts[0]])
        rows = split_rows(labels, fractions, seed, classes, name)
        parts = [[parts[0][row] for row in part.tolist()] for part in rows]
    train, validation, test = parts if len(parts) == 3 else (parts[0], [], parts[1])
    return TextSplit(train, validation, test, classes, name)


def read_sentences(content: bytes) -> list[tuple[str, int]]:
    """``label text`` lines in Latin-1, as ``(text, label)``."""
    lines = content.decode("latin-1").split("\n")
    return [(line[2:].strip(), int(line[0])) for line in lines if line.strip()]


def load_pairs(name: str, variant: str) -> PairSplit:
    """A known set of sequence pairs.

    Args:
        name: ``scan`` (command, actions) or ``nl-rx`` (description, expression).
        variant: ``simple``, ``length``, ``jump`` or ``turn-left`` of scan; ``synth`` or ``turk`` of nl-rx.

    Raises:
        DataError: no such set or variant, or no source can be reached.
    """
    entry = known(name, "pairs")
    variants = tuple(SCAN) if name == "scan" else ("synth", "turk")
    if variant not in variants:
        raise DataError(f"{name} has no variant {variant!r}; {nearest(str(variant), variants)}")
    contents = members(entry)
    if name == "scan":
        train, test = (read_scan(contents[SCAN[variant].format(part)]) for part in ("train", "test"))
        return PairSplit(train, [], test, f"scan {variant}")
    folder = f"deep-regex-model/data_{variant}_eval_{variant}"
    train, validation, test = (
        list(zip(*(contents[f"{folder}/{side}-{part}.txt"].decode().splitlines() for side in ("src", "targ"))))
        for part in ("train", "val", "test")
    )
    return PairSplit(train, validation, test, f"nl-rx {variant}")


def read_scan(content: bytes) -> list[tuple[str, str]]:
    """``IN: command OUT: actions`` lines."""
    lines = content.decode("ascii").splitlines()
    pairs = (line.removeprefix("IN: ").split(" OUT: ") for line in lines if line.strip())
    return [(command, actions) for command, actions in pairs]
