"""Sequences of expressions: counted by writing every expression out."""

import itertools

import pytest

from neurarium.data import DataError, expression_sequences


def every(operators, length):
    """All expressions of a size with their values, equal ones included."""
    if operators == 0:
        return [("i", tuple(range(length))), ("2", (2,) * length)]
    found = []
    for left in range(operators):
        for (p, a), (q, b) in itertools.product(every(left, length), every(operators - 1 - left, length)):
            found.append((f"({p} + {q})", tuple(x + y for x, y in zip(a, b, strict=True))))
            found.append((f"({p} x {q})", tuple(x * y for x, y in zip(a, b, strict=True))))
            found.append((f"({p} // {q})", tuple(x if y == 0 else x // y for x, y in zip(a, b, strict=True))))
    return found


def test_no_operator():
    assert [s.values for s in expression_sequences(0, 4)] == [(0, 1, 2, 3), (2, 2, 2, 2)]


@pytest.mark.parametrize("length", [3, 12])
def test_all_sequences_of_up_to_three_operators(length):
    smallest: dict[tuple[int, ...], int] = {}
    for size in range(4):
        for _, values in every(size, length):
            smallest.setdefault(values, size)
    found = {s.values: s.operators for s in expression_sequences(3, length)}
    assert found == smallest
    assert len(expression_sequences(3, length)) == len(smallest)


def test_the_expression_gives_the_values_with_so_many_operators():
    for sequence in expression_sequences(3, 8):
        text = sequence.expression.replace("x", "*")
        assert sum(text.count(sign) for sign in ("+", "*", "//")) == sequence.operators
        if "//" not in text:
            assert tuple(eval(text, {"i": i}) for i in range(8)) == sequence.values


def test_refusals():
    with pytest.raises(DataError, match="max_operators"):
        expression_sequences(8, 10)
    with pytest.raises(DataError, match="64 bits"):
        expression_sequences(7, 400)
