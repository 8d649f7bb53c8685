"""Programs of the BrainPhoque machine: their text, priors over them, and equivalent shorter ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.data._errors import DataError

TOKENS = "+-><[]."
STORED = TOKENS + "{"
OPEN, CLOSE, PRINT, LATER = 4, 5, 6, 7
UNDOES = {"+-", "-+", "<>", "><"}


def encode(program: str) -> list[int]:
    """A program as the numbers of its tokens; ``{`` is read as ``[``, since the machine tells which it is.

    Raises:
        DataError: a character is no token; names it and its place.
    """
    for place, character in enumerate(program):
        if character not in STORED:
            raise DataError(f"{character!r} at place {place} of the program is none of {STORED!r}")
    return [STORED.index(character) if character != "{" else OPEN for character in program]


def decode(tokens: Iterable[int]) -> str:
    """The text of tokens."""
    return "".join(STORED[token] for token in tokens)


def shortened(text: Sequence[int], jumps: Sequence[int], kept: int) -> str:
    """A program that is no longer and prints what the given one printed, in no more steps.

    Without what was sampled after the last symbol was printed, without brackets that do nothing (those left open, those
    whose body was never written, closing ones without a partner), and without neighbours that undo each other.

    Args:
        text: the program as the machine stored it.
        jumps: where each bracket leads; -1 where that was not decided.
        kept: how long the program was when it printed last.
    """
    closed = {jumps[i] for i in range(kept) if text[i] == CLOSE and jumps[i] != i}
    short: list[str] = []
    for i, token in enumerate(text[:kept]):
        idle = (
            (token == OPEN and i not in closed)
            or (token == LATER and not 0 <= jumps[i] < kept)
            or (token == CLOSE and jumps[i] == i)
        )
        if idle:
            continue
        if short and short[-1] + STORED[token] in UNDOES:
            short.pop()
        else:
            short.append(STORED[token])
    return "".join(short)


@dataclass(frozen=True)
class MarkovPrior:
    """Programs in which each token depends on the two before it, so that likely ones do more than uniform ones.

    Args:
        table: probabilities of the next token after each pair, [8, 8, 7]; the last entry of a pair stands for "before
            the first token".
    """

    table: Float[Tensor, "8 8 7"]

    @classmethod
    def fit(cls, programs: Iterable[str], pseudo_count: float = 0.5) -> MarkovPrior:
        """Learn it from programs that printed something of interest.

        Args:
            programs: as text; ``{`` counts as ``[``.
            pseudo_count: added to every count.

        Raises:
            DataError: no program, a character that is no token, or a pseudo-count that is not positive.
        """
        counts = torch.zeros(8, 8, 7, dtype=torch.float64)
        if pseudo_count <= 0:
            raise DataError(f"pseudo_count must be positive, not {pseudo_count}")
        for program in programs:
            first, second = 7, 7
            for token in encode(program):
                counts[first, second, token] += 1
                first, second = second, token
        if not counts.any():
            raise DataError("programs must hold one token or more")
        counts += pseudo_count
        return cls(counts / counts.sum(2, keepdim=True))

    def sample(self, count: int, length: int, generator: torch.Generator) -> Int[Tensor, "count length"]:
        """Tokens of programs, the longest that can be needed."""
        first = second = torch.full((count,), 7)
        drawn = []
        for _ in range(length):
            token = torch.multinomial(self.table[first, second], 1, generator=generator)[:, 0]
            drawn.append(token)
            first, second = second, token
        return torch.stack(drawn, 1)

    def log_prob(self, program: str) -> float:
        """Of all programs that begin with this one, in nats."""
        first, second, total = 7, 7, 0.0
        for token in encode(program):
            total += math.log(float(self.table[first, second, token]))
            first, second = second, token
        return total


@dataclass(frozen=True)
class UniformPrior:
    """All seven tokens are equally likely at every place."""

    def sample(self, count: int, length: int, generator: torch.Generator) -> Int[Tensor, "count length"]:
        """Tokens of programs, the longest that can be needed."""
        return torch.randint(len(TOKENS), (count, length), generator=generator)

    def log_prob(self, program: str) -> float:
        """Of all programs that begin with this one, in nats."""
        return -len(encode(program)) * math.log(len(TOKENS))
