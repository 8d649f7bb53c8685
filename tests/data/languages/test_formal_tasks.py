"""The fifteen tasks against independent code: Python's own arithmetic, a list for a stack, the paper's examples."""

import itertools
import math

import pytest
import torch

from neurarium.data import (
    DataError,
    ExponentialLengths,
    FormalBatches,
    GrowingLengths,
    UniformLengths,
    formal_tasks,
)  # fmt: skip

LEVELS = {"regular": 4, "deterministic context-free": 4, "context-sensitive": 7}


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def answer(task, text):
    y, mask = formal_tasks[task].solve(formal_tasks[task].encode(text))
    return y[mask].tolist()


def arithmetic(text):
    return [eval(text, {"__builtins__": {}}) % 5]  # made of digits, operators and brackets alone


def stacked(text):
    stack = []
    for c in text:
        if c == "p":
            stack = stack[:-1]
        else:
            stack.append({"0": 0, "1": 1, "a": 0, "b": 1}[c])
    return [*reversed(stack), 2]


def binary(text, operator):
    a, b = (int(part[::-1], 2) for part in text.split(operator))
    return [int(c) for c in reversed(f"{a + b if operator == '+' else a * b:b}")] + [2]


def unknown(text):
    left, value = text.split("=")
    return [next(x for x in range(5) if arithmetic(left.replace("x", str(x)))[0] == int(value))]


def gap(text):
    half = len(text.rstrip("_")) // 2
    pairs = zip(text[:half], text[half : 2 * half], strict=True)
    return [int(min(a, b)) for a, b in pairs if "?" in (a, b)]


REFERENCES = {
    "even_pairs": lambda t: [sum(a != b for a, b in itertools.pairwise(t)) % 2],
    "parity_check": lambda t: [t.count("1") % 2],
    "cycle_navigation": lambda t: [(t.count("+") - t.count("-")) % 5],
    "modular_arithmetic": arithmetic,
    "stack_manipulation": stacked,
    "reverse_string": lambda t: [int(c) for c in reversed(t)],
    "modular_arithmetic_brackets": arithmetic,
    "solve_equation": unknown,
    "duplicate_string": lambda t: [int(c) for c in t + t],
    "missing_duplicate": gap,
    "odds_first": lambda t: [int(c) for c in t[::2] + t[1::2]],
    "binary_addition": lambda t: binary(t, "+"),
    "binary_multiplication": lambda t: binary(t, "*"),
    "compute_sqrt": lambda t: [int(c) for c in f"{math.isqrt(int(t, 2)):0{(len(t) + 1) // 2}b}"],
    "bucket_sort": lambda t: sorted(int(c) for c in t),
}  # "min" of a digit and "?" is the digit, since "0" < "1" < "?"


def test_the_levels_of_the_hierarchy():
    assert list(formal_tasks) == list(REFERENCES)
    assert {level: sum(t.level == level for t in formal_tasks.values()) for level in LEVELS} == LEVELS


@pytest.mark.parametrize("name", REFERENCES)
def test_answers_are_those_of_independent_code(name):
    task, generator = formal_tasks[name], draw(1)
    for length in (*range(task.shortest, 12), 41, 70):
        words = task.words(40, length, generator)
        assert words.shape == (40, task.length(length))
        y, mask = task.solve(words)
        assert y.shape == mask.shape == (40, task.answer_length(words.shape[1]))
        assert int(y.max()) < task.answers
        for word, row, counted in zip(words, y, mask, strict=True):
            text = task.decode(word)
            assert row[counted].tolist() == REFERENCES[name](text), text
            assert torch.equal(task.encode(text)[0], word)


def test_examples_of_the_paper():
    assert answer("even_pairs", "001110") == [0]
    assert answer("parity_check", "0101001") == [1]
    assert answer("stack_manipulation", "0110bpp") == [1, 1, 0, 2]
    task = formal_tasks["stack_manipulation"]
    assert task.solve(task.encode("0110bpp"))[0].tolist() == [[1, 1, 0, 2, 0, 0, 0, 0]]
    assert answer("compute_sqrt", "100101") == [1, 1, 0]
    assert answer("missing_duplicate", "011001?0") == [1]
    assert answer("missing_duplicate", "1?1101_") == [0]
    assert answer("binary_addition", "001+01101") == [0, 1, 0, 1, 1, 2]
    assert answer("modular_arithmetic", "1+2*3-4") == [3]
    assert answer("modular_arithmetic_brackets", "(3*-2)") == [4]
    assert answer("solve_equation", "(x-(3))=4") == [2]
    assert answer("odds_first", "0101001") == [0, 0, 0, 1, 1, 1, 0]


def test_brackets_have_exactly_the_length_and_all_forms():
    task = formal_tasks["modular_arithmetic_brackets"]
    for length in range(1, 5):
        texts = {task.decode(w) for w in task.words(300, length, draw())}
        assert len(texts) == 5
    texts = [task.decode(w) for w in task.words(400, 7, draw())]
    assert {text.index(c) for text in texts for c in "*" if c in text} >= {2, 3, 4}


def test_a_question_is_the_word_and_blanks():
    x, y, mask = formal_tasks["duplicate_string"].sample(5, 3, draw(), pause=2)
    assert x.shape == (5, 3 + 2 * 3 + 6, 3)
    assert torch.equal(x.sum(2), torch.ones(5, 15))
    assert torch.equal(x[:, :3, :2].argmax(2), y[:, :3])
    assert bool((x[:, 3:, 2] == 1).all())
    assert bool(mask.all())


def test_chance():
    for name, task in formal_tasks.items():
        chance = task.chance(9)
        assert 1 / task.answers - 1e-9 <= chance < 0.75, name
    assert formal_tasks["reverse_string"].chance(7) == 0.5
    assert formal_tasks["solve_equation"].chance(7) == 0.2
    # the smallest of nine digits: 0 unless none is drawn; others likewise from the order statistics
    assert formal_tasks["bucket_sort"].chance(1) == pytest.approx(0.2, abs=0.02)


def test_curricula():
    generator = draw()
    assert {UniformLengths(4)(0, generator) for _ in range(200)} == {1, 2, 3, 4}
    assert UniformLengths(7, 7)(3, generator) == 7
    drawn = [ExponentialLengths((1, 2, 3), 0.5)(0, generator) for _ in range(4000)]
    assert [drawn.count(n) / 4000 for n in (1, 2, 3)] == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.03)
    assert [GrowingLengths(2, 10, 3, mixed=False)(step, generator) for step in (0, 9, 10, 25)] == [2, 2, 5, 8]
    assert {GrowingLengths(2, 10, 3)(25, generator) for _ in range(100)} == {2, 5, 8}


def test_batches():
    task = formal_tasks["stack_manipulation"]
    first, second = (FormalBatches(task, UniformLengths(6), 4, 5, seed=3, masked=True) for _ in range(2))
    for (x, y), (u, v) in zip(first, second, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
        assert bool((y >= -100).all())
    assert any((y == -100).any() for _, y in first)
    assert len(first) == 5


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: formal_tasks["parity_check"].words(3, 0, draw()), "at least 1, not 0"),
        (lambda: formal_tasks["binary_addition"].words(3, 2, draw()), "at least 3, not 2"),
        (lambda: formal_tasks["parity_check"].words(0, 3, draw()), "count must be"),
        (lambda: formal_tasks["parity_check"].solve(torch.tensor([[0, 2]])), "symbols 0 to 1"),
        (lambda: formal_tasks["parity_check"].encode("012"), "'2' at place 2"),
        (lambda: UniformLengths(2, 3), "shortest"),
        (lambda: GrowingLengths(0, 1), "at least 1"),
        (lambda: ExponentialLengths((), 0.5), "lengths"),
        (lambda: FormalBatches(formal_tasks["parity_check"], UniformLengths(3), 0, 1), "batch_size"),
    ],
)
def test_one_sentence_for_bad_arguments(wrong, sentence):
    with pytest.raises(DataError, match=sentence):
        wrong()


def test_even_lengths_stand_for_the_next_odd_one():
    task = formal_tasks["modular_arithmetic"]
    assert task.words(2, 8, draw()).shape == (2, 7)
