"""Machines against Python, and conversions against the machine that was converted."""

import pytest
import torch

from neurarium.theory import TuringMachine, machines, random_machine


def same_run(first, second):
    return all(getattr(first, part) == getattr(second, part) for part in ("states", "symbols", "heads", "moves"))


def test_known_machines():
    for number in (0, 1, 5, 11, 15, 100):
        trace = machines["increment"].run(f"{number:b}")
        assert trace.accepted
        assert trace.text("_") == f"{number + 1:b}"
    for word in ("a", "ab", "aba", "abba", "abab", "aabaa"):
        assert machines["palindrome"].run(word).accepted is (word == word[::-1])
    for word, good in (("abc", True), ("aabbcc", True), ("aabbc", False), ("abcabc", False), ("aabcbc", False)):
        assert machines["equal-abc"].run(word).accepted is good
    for word, good in (("()", True), ("(())()", True), ("(()", False), (")(", False)):
        assert machines["brackets"].run(word).accepted is good
    assert machines["unary-addition"].run("111+11").text("_") == "11111"
    assert [machines["even-length"].run("ab" * n + "a" * r).accepted for n in (0, 2) for r in (1, 0) if n + r] == [
        False, False, True,
    ]  # fmt: skip


def test_the_busy_beaver_of_four_states():
    machine = machines["busy-beaver"]
    trace = machine.run("0")
    assert trace.steps - machine.offset == 107
    assert list(trace.tape.values()).count("1") == 13


def test_the_counter_counts():
    trace = machines["counter"].run(">", 1000)
    ends = [i for i, (q, head) in enumerate(zip(trace.states, trace.heads, strict=True)) if q == "begin" and head == 0]
    assert ends == [0]
    digits = trace.text("_").lstrip(">")
    assert int(digits[::-1], 2) > 100


@pytest.mark.parametrize("name", ["increment", "palindrome", "equal-abc", "brackets"])
def test_two_symbols_are_enough(name):
    machine = machines[name]
    alphabet = [s for s in machine.symbols if s in "01abc()"]
    for seed in range(6):
        length = 1 + seed % 4
        generator = torch.Generator().manual_seed(seed)
        word = [alphabet[i] for i in torch.randint(len(alphabet), (length,), generator=generator).tolist()]
        known, binary = machine.completed().run(word), machine.completed().two_symbols()
        found = binary.run(machine.completed().bits(word), 5000)
        assert found.accepted is known.accepted
        assert binary.symbols == ("0", "1")
        size = max(known.tape) + 1
        written = machine.completed().bits([known.tape.get(i, machine.blank) for i in range(size)])
        cells = [found.tape.get(i, "0") for i in range(len(written))]
        assert "".join(cells) == written


def test_stays_become_two_moves():
    machine = TuringMachine((("q", "a", "r", "b", 0), ("r", "b", "yes", "c", 1)), "q", ("yes",))
    assert machine.run("a").moves == (0, 1)
    moving = machine.without_stays().run("a")
    assert moving.moves == (1, -1, 1)
    assert moving.text("_") == machine.run("a").text("_") == "c"


def test_missing_rules_reject():
    machine = TuringMachine((("q", "a", "q", "a", 1),), "q", ("yes",))
    trace = machine.run("aa")
    assert (trace.halted, trace.accepted, trace.steps) == (True, False, 2)
    completed = machine.completed().run("aa")
    assert (completed.halted, completed.accepted, completed.steps) == (True, False, 3)


def test_random_machines_stay_on_the_tape():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        machine = random_machine(4, 3, generator=generator)
        trace = machine.run([">", "1", "2", "0"], 200)
        assert min(trace.heads) == 0
        assert machine.completed() is machine


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: TuringMachine((("q", "a", "q", "a", 1), ("q", "a", "r", "a", 1)), "q", ()), "not deterministic"),
        (lambda: TuringMachine((("q", "a", "q", "a", 2),), "q", ()), "must be -1, 0 or 1"),
        (lambda: TuringMachine((("q", "a", "q", "a", 1),), "q", ("q",)), "halting state 'q' has a rule"),
        (lambda: machines["palindrome"].run("abx"), "'x' at place 2"),
        (lambda: machines["palindrome"].run(""), "word is empty"),
        (lambda: TuringMachine((("q", "a", "q", "a", -1),), "q", ()).run("a"), "at step 1"),
        (lambda: machines["palindrome"].shifted(-1), "negative"),
        (lambda: random_machine(0, 2), "at least 1"),
    ],
)
def test_one_sentence_for_bad_arguments(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
