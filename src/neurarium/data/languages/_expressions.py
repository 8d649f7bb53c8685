"""Arithmetic expressions modulo a number: drawn with brackets at any length, and evaluated, all words at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def evaluate(words: Tensor, symbols: str, modulus: int) -> Tensor:
    """Values of expressions with ``*`` before ``+`` and ``-``, unary minus, and brackets.

    Reads all words side by side. Each level of brackets keeps the sum of its finished terms, the term at hand, and the
    sign and operator that wait for the next operand.

    Args:
        words: [count, length]; digits are the symbols below ``modulus``.
        symbols: the characters that the symbols stand for.
        modulus: of the arithmetic.
    """
    text = words.cpu().numpy()
    count, length = text.shape
    code = {character: symbols.find(character) for character in "+-*()"}  # -1 where the alphabet has it not
    shape = (count, length // 2 + 2)
    total, term = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    sign, times, waiting = np.ones(shape, np.int64), np.zeros(shape, bool), np.ones(shape, bool)
    rows, depth = np.arange(count), np.zeros(count, np.int64)
    for column in text.T:
        opens, closes = column == code["("], column == code[")"]
        operand = np.where(closes, total[rows, depth] + term[rows, depth], column)
        depth = depth - closes
        here, known = (rows, depth), closes | (column < modulus)
        value = sign[here] * operand
        total[here] = np.where(known & ~times[here], total[here] + term[here], total[here]) % modulus
        term[here] = np.where(known, np.where(times[here], term[here] * value, value), term[here]) % modulus
        minus = column == code["-"]
        operator = minus | (column == code["+"]) | (column == code["*"])
        times[here] = np.where(operator & ~waiting[here], column == code["*"], times[here] & ~known)
        sign[here] = np.where(minus, np.where(waiting[here], -sign[here], -1), np.where(known, 1, sign[here]))
        waiting[here] = np.where(known, False, waiting[here] | operator)
        depth = depth + opens
        for state, start in ((total, 0), (term, 0), (sign, 1), (times, False), (waiting, True)):
            state[rows[opens], depth[opens]] = start
    return torch.from_numpy((total[:, 0] + term[:, 0]) % modulus).to(words.device)


def flat(count: int, length: int, symbols: str, modulus: int, generator: torch.Generator) -> Tensor:
    """Digits with operators between them, of odd length."""
    words = torch.randint(modulus, (count, length), generator=generator)
    operators = torch.tensor([symbols.index(character) for character in "+-*"])
    words[:, 1::2] = operators[torch.randint(3, (count, length // 2), generator=generator)]
    return words


def bracketed(
    count: int, length: int, operators: str, symbols: str, modulus: int, generator: torch.Generator
) -> Tensor:
    """Expressions in which every operation has its brackets, of exactly ``length`` symbols.

    Up to four symbols there is one form each: d, -d, (d), (-d). Longer ones are (left operator right), the length of
    the left part drawn uniformly. All spans of all words that are still open are split together.
    """
    code = {character: symbols.index(character) for character in "-()"}
    kinds = torch.tensor([symbols.index(character) for character in operators])
    words = torch.zeros(count, length, dtype=torch.int64)
    row, start, size = torch.arange(count), torch.zeros(count, dtype=torch.int64), torch.full((count,), length)
    while len(row):
        wide = size > 2
        words[row[wide], start[wide]] = code["("]
        words[row[wide], (start + size - 1)[wide]] = code[")"]
        small = size <= 4
        signed = small & (size % 2 == 0)
        words[row[signed], (start + size // 2 - 1)[signed]] = code["-"]
        digits = torch.randint(modulus, (int(small.sum()),), generator=generator)
        words[row[small], (start + size // 2)[small]] = digits
        row, start, size = row[~small], start[~small], size[~small]
        left = 1 + (torch.rand(len(row), generator=generator, dtype=torch.float64) * (size - 4)).long()
        words[row, start + 1 + left] = kinds[torch.randint(len(kinds), (len(row),), generator=generator)]
        row = row.repeat(2)
        start, size = torch.cat([start + 1, start + left + 2]), torch.cat([left, size - left - 3])
    return words
