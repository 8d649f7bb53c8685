"""The fifteen tasks of Delétang et al. (2022), by level of the Chomsky hierarchy."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from neurarium.data.languages._expressions import bracketed, evaluate, flat
from neurarium.data.languages._formal_task import FormalTask, Level, bits, lists

MODULUS = 5
POP, PUSH_0, PUSH_1 = 2, 3, 4
SEPARATOR = END = HIDDEN = 2
PADDING = 3
FLAT, BRACKETS, EQUATION = "01234+-*", "01234+-*()", "01234+-()x="


def stack_words(count: int, length: int, generator: torch.Generator) -> Tensor:
    """A stack of bits from the bottom up, then actions."""
    height = 1 + (torch.rand(count, 1, generator=generator, dtype=torch.float64) * max(length - 1, 1)).long()
    actions = torch.randint(POP, PUSH_1 + 1, (count, length), generator=generator)
    return torch.where(torch.arange(length) < height, bits(count, length, generator), actions)


def stack_answers(words: Tensor) -> Tensor:
    """The stack that is left from the top down, an end mark, zeros."""
    text = words.cpu().numpy()
    count, length = text.shape
    stack, height, rows = np.zeros((count, length + 1), np.int64), np.zeros(count, np.int64), np.arange(count)
    for column in text.T:
        pushed = column != POP
        stack[rows[pushed], height[pushed]] = np.where(column >= PUSH_0, column - PUSH_0, column)[pushed]
        height = np.where(pushed, height + 1, np.maximum(height - 1, 0))
    place = height[:, None] - 1 - np.arange(length + 1)
    answers = np.where(place >= 0, np.take_along_axis(stack, np.maximum(place, 0), 1), np.where(place == -1, END, 0))
    return torch.from_numpy(answers).to(words.device)


def equations(count: int, length: int, generator: torch.Generator) -> Tensor:
    """A bracketed sum with an unknown for one of its digits, ``=``, its value."""
    left = bracketed(count, length - 2, "+-", EQUATION, MODULUS, generator)
    value = evaluate(left, EQUATION, MODULUS)
    chosen = torch.rand(left.shape, generator=generator).masked_fill(left >= MODULUS, -1.0).argmax(1)
    left[torch.arange(count), chosen] = EQUATION.index("x")
    return torch.cat([left, torch.full((count, 1), EQUATION.index("=")), value[:, None]], 1)


def unknowns(words: Tensor) -> Tensor:
    """The left side is a + c x with c = 1 or -1, so two evaluations give x."""
    left, unknown = words[:, :-2], words[:, :-2] == EQUATION.index("x")
    at = [evaluate(left.masked_fill(unknown, x), EQUATION, MODULUS) for x in (0, 1)]
    return ((at[1] - at[0]) * (words[:, -1] - at[0]) % MODULUS)[:, None]  # c is its own inverse


def masked_doubles(count: int, length: int, generator: torch.Generator) -> Tensor:
    """A word twice, one symbol hidden, padding where the length is odd."""
    word = bits(count, length // 2, generator)
    double = torch.cat([word, word], 1)
    double[torch.arange(count), torch.randint(double.shape[1], (count,), generator=generator)] = HIDDEN
    return torch.cat([double, torch.full((count, length % 2), PADDING)], 1)


def missing(words: Tensor) -> Tensor:
    """What the other half shows where one hides it: the hidden mark is the greater of the two."""
    half = words.shape[1] // 2
    first, second = words[:, :half], words[:, half : 2 * half]
    hidden = torch.maximum(first, second) == HIDDEN
    return (torch.minimum(first, second) * hidden).sum(1, keepdim=True)


def number_pairs(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Two positive numbers, little-endian, with a separator between them, uniform given their lengths."""
    middle = 1 + (torch.rand(count, 1, generator=generator, dtype=torch.float64) * (length - 2)).long()
    place = torch.arange(length)
    words = bits(count, length, generator)
    while True:
        empty = ((words * (place < middle)).sum(1) == 0) | ((words * (place > middle)).sum(1) == 0)
        if not empty.any():
            return words.scatter(1, middle, SEPARATOR)
        words[empty] = bits(int(empty.sum()), length, generator)


def whole(row: list[int]) -> int:
    """A number from its bits, the least first."""
    return int("".join(map(str, reversed(row))) or "0", 2)


def computed(words: Tensor, multiply: bool) -> Tensor:
    """Sum or product, little-endian without leading zeros, an end mark, zeros."""
    answers = []
    for row in words.tolist():
        middle = row.index(SEPARATOR)
        a, b = whole(row[:middle]), whole(row[middle + 1 :])
        digits = [int(digit) for digit in reversed(f"{a * b if multiply else a + b:b}")]
        answers.append(digits + [END] + [0] * (len(row) - len(digits)))
    return lists(answers).to(words.device)


def positive_numbers(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Uniform bits that are not all zero."""
    words = bits(count, length, generator)
    while (empty := words.sum(1) == 0).any():
        words[empty] = bits(int(empty.sum()), length, generator)
    return words


def roots(words: Tensor) -> Tensor:
    """The square root, rounded down, of big-endian numbers."""
    places = math.ceil(words.shape[1] / 2)
    found = [f"{math.isqrt(whole(row[::-1])):0{places}b}" for row in words.tolist()]
    return lists([[int(digit) for digit in root] for root in found]).to(words.device)


def digits(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Uniform digits."""
    return torch.randint(MODULUS, (count, length), generator=generator)


def brackets(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Bracketed expressions."""
    return bracketed(count, length, "+-*", BRACKETS, MODULUS, generator)


REGULAR: Level
FREE: Level
SENSITIVE: Level
REGULAR, FREE, SENSITIVE = "regular", "deterministic context-free", "context-sensitive"

_TASKS = (
    FormalTask(
        "even_pairs", REGULAR, "01", 2, bits, lambda w: (w[:, :1] != w[:, -1:]).long(),
    ),  # the number of unequal neighbours is even where the ends agree
    FormalTask("parity_check", REGULAR, "01", 2, bits, lambda w: w.sum(1, keepdim=True) % 2),
    FormalTask(
        "cycle_navigation", REGULAR, "-.+", MODULUS, lambda n, t, g: torch.randint(3, (n, t), generator=g),
        lambda w: (w - 1).sum(1, keepdim=True) % MODULUS, level_answers=False,
    ),
    FormalTask(
        "modular_arithmetic", REGULAR, FLAT, MODULUS, lambda n, t, g: flat(n, t, FLAT, MODULUS, g),
        lambda w: evaluate(w, FLAT, MODULUS)[:, None], odd=True, level_answers=False,
    ),
    FormalTask(
        "stack_manipulation", FREE, "01pab", 3, stack_words, stack_answers, lambda length: length + 1,
        end=END, level_answers=False,
    ),
    FormalTask("reverse_string", FREE, "01", 2, bits, lambda w: w.flip(1), lambda length: length),
    FormalTask(
        "modular_arithmetic_brackets", FREE, BRACKETS, MODULUS, brackets,
        lambda w: evaluate(w, BRACKETS, MODULUS)[:, None], level_answers=False,
    ),
    FormalTask("solve_equation", FREE, EQUATION, MODULUS, equations, unknowns, shortest=3),
    FormalTask(
        "duplicate_string", SENSITIVE, "01", 2, bits, lambda w: torch.cat([w, w], 1), lambda length: 2 * length
    ),
    FormalTask("missing_duplicate", SENSITIVE, "01?_", 2, masked_doubles, missing, shortest=2),
    FormalTask(
        "odds_first", SENSITIVE, "01", 2, bits, lambda w: torch.cat([w[:, ::2], w[:, 1::2]], 1), lambda length: length
    ),
    FormalTask(
        "binary_addition", SENSITIVE, "01+", 3, number_pairs, lambda w: computed(w, False), lambda length: length + 1,
        shortest=3, end=END, level_answers=False,
    ),
    FormalTask(
        "binary_multiplication", SENSITIVE, "01*", 3, number_pairs, lambda w: computed(w, True),
        lambda length: length + 1, shortest=3, end=END, level_answers=False,
    ),
    FormalTask(
        "compute_sqrt", SENSITIVE, "01", 2, positive_numbers, roots, lambda length: math.ceil(length / 2),
        level_answers=False,
    ),
    FormalTask(
        "bucket_sort", SENSITIVE, "01234", MODULUS, digits, lambda w: w.sort(1).values, lambda length: length,
        level_answers=False,
    ),
)  # fmt: skip

formal_tasks: dict[str, FormalTask] = {task.name: task for task in _TASKS}
"""The tasks by name, in the paper's order."""
