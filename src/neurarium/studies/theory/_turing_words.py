"""Words for well-known Turing machines, and what is true of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch

from neurarium.theory import Trace, TuringMachine

TO_AND_FRO = TuringMachine(
    (
        ("right", ">", "right", ">", 1), ("right", "0", "right", "1", 1), ("right", "1", "right", "0", 1),
        ("right", "_", "left", "0", -1), ("left", "0", "left", "0", -1), ("left", "1", "left", "1", -1),
        ("left", ">", "right", ">", 1),
    ),
    start="right", accept=("yes",),
)  # fmt: skip
"""Walks to and fro over an ever longer stretch, flipping its digits."""


def words(name: str, longest: int, generator: torch.Generator) -> Iterator[str]:
    """Words for a machine, every other one of its language where it has one."""

    def draw(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    def text(alphabet: str, length: int) -> str:
        return "".join(alphabet[draw(len(alphabet))] for _ in range(length))

    while True:
        half = text("ab", 1 + draw(longest // 2))
        n = 1 + draw(longest // 3)
        nested = "(" * n + "()" * draw(longest // 2 - n + 1) + ")" * n
        good = {
            "increment": f"{draw(2**longest):b}", "unary-addition": "1" * n + "+" + "1" * (1 + draw(longest // 2)),
            "palindrome": half + half[::-1], "equal-abc": "a" * n + "b" * n + "c" * n, "brackets": nested,
            "even-length": half * 2,
        }[name]  # fmt: skip
        yield good
        place = draw(len(good))
        if name in ("increment", "unary-addition"):
            continue
        yield good[:place] + text("".join(sorted(set(good))), 1) + good[place + draw(2) :]  # one symbol off


def equal_abc(word: str) -> bool:
    """Whether a word is a^n b^n c^n, n at least 1."""
    n = len(word) // 3
    return n > 0 and word == "a" * n + "b" * n + "c" * n


def balanced(word: str) -> bool:
    """Whether all brackets have a partner."""
    depths = list(itertools.accumulate(1 if symbol == "(" else -1 for symbol in word))
    return min(depths) >= 0 and depths[-1] == 0


LANGUAGES: dict[str, Callable[[str, Trace], bool]] = {
    "increment": lambda word, trace: int(trace.text("_"), 2) == int(word, 2) + 1,
    "unary-addition": lambda word, trace: trace.text("_") == word.replace("+", ""),
    "palindrome": lambda word, trace: trace.accepted is (word == word[::-1]),
    "equal-abc": lambda word, trace: trace.accepted is equal_abc(word),
    "brackets": lambda word, trace: trace.accepted is balanced(word),
    "even-length": lambda word, trace: trace.accepted is (len(word) % 2 == 0),
}
"""Whether a run answered its word rightly."""
