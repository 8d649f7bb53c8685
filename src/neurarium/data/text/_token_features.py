"""Simple properties of tokens and of their places, as questions to ask of neurons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Feature = Callable[[Int[Tensor, "batch positions"]], Bool[Tensor, "batch positions"]]
"""Marks the tokens of a batch that have a property."""


def token_features(vocabulary: Sequence[str], *, common: Sequence[int] = (), context: int = 0) -> dict[str, Feature]:
    """Properties of tokens and places from the text of each token id.

    Families: what the token is (starts with a space, capitals, digits, punctuation, letters it begins with or
    contains), which token it is (``common``), the same of the token before, and where it stands.

    Args:
        vocabulary: text of every token id.
        common: token ids that get a property of their own.
        context: length of the sequences; with it, the first place and each eighth of the sequence get properties.
    """
    tests: dict[str, Callable[[str], bool]] = {
        "starts with a space": lambda t: t[:1].isspace(),
        "space": lambda t: bool(t) and t.isspace(),
        "all capitals": lambda t: t.strip().isupper(),
        "begins with a capital": lambda t: t.strip()[:1].isupper(),
        "digit": lambda t: any(c.isdigit() for c in t),
        "letter": lambda t: t.strip().isalpha(),
        "vowel": lambda t: t.strip().lower() in tuple("aeiou"),
        "punctuation": lambda t: bool(t.strip()) and not any(c.isalnum() for c in t),
        "one character": lambda t: len(t.strip()) == 1,
        "long (6 or more)": lambda t: len(t.strip()) >= 6,
    }
    for letter in "abcdefghijklmnopqrstuvwxyz":
        tests[f"begins with {letter}"] = partial(_begins, letter)
    marks = {name: torch.tensor([test(text) for text in vocabulary]) for name, test in tests.items()}
    for token in common:
        mark = torch.zeros(len(vocabulary), dtype=torch.bool)
        mark[token] = True
        marks[f"is {vocabulary[token]!r}"] = mark
    found: dict[str, Feature] = {}
    for name, mark in marks.items():
        if bool(mark.any()) and not bool(mark.all()):
            found[name] = partial(_of_token, mark)
            found[f"after: {name}"] = partial(_of_token_before, mark)
    if context:
        found["first place"] = partial(_between, 0, 1)
        for part in range(8):
            low, high = context * part // 8, context * (part + 1) // 8
            found[f"places {low} to {high - 1}"] = partial(_between, low, high)
    return found


def _begins(letter: str, text: str) -> bool:
    return text.strip().lower().startswith(letter)


def _of_token(mark: Tensor, tokens: Tensor) -> Tensor:
    return mark.to(tokens.device)[tokens]


def _of_token_before(mark: Tensor, tokens: Tensor) -> Tensor:
    here = _of_token(mark, tokens)
    return torch.cat([torch.zeros_like(here[:, :1]), here[:, :-1]], 1)


def _between(low: int, high: int, tokens: Tensor) -> Tensor:
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return (places >= low) & (places < high)
