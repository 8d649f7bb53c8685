"""Automata against brute force: distinguishability pair by pair, words one by one."""

import itertools

import pytest
import torch

from neurarium.data import (
    Automaton,
    DataError,
    all_words,
    automaton_task,
    counting_automaton,
    random_automaton,
    streaming_parity,
)  # fmt: skip


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def anything(states, symbols, generator):
    """Any automaton, with states that can be spared."""
    rows = torch.randint(states, (states, symbols), generator=generator).tolist()
    return Automaton(tuple(map(tuple, rows)), tuple(torch.randint(2, (states,), generator=generator).tolist()))


def distinguishable(automaton):
    """Pairs of states that some word tells apart, by the table-filling method."""
    n = automaton.states
    apart = {(a, b) for a in range(n) for b in range(n) if automaton.outputs[a] != automaton.outputs[b]}
    while True:
        more = {
            (a, b) for a in range(n) for b in range(n) for s in range(automaton.symbols)
            if (automaton.transitions[a][s], automaton.transitions[b][s]) in apart
        } - apart  # fmt: skip
        if not more:
            return apart
        apart |= more


def test_minimal_automata_against_pairwise_distinguishability():
    generator = draw()
    for _ in range(200):
        size = int(torch.randint(1, 9, (), generator=generator))
        automaton = anything(size, int(torch.randint(1, 4, (), generator=generator)), generator)
        minimal = automaton.minimal()
        reached = automaton.reachable()
        apart = distinguishable(reached)
        classes = {frozenset(b for b in range(reached.states) if (a, b) not in apart) for a in range(reached.states)}
        assert minimal.states == len(classes)
        assert minimal.counterexample(automaton) is None
        assert minimal.minimal() == minimal


def test_counterexamples_against_all_words():
    generator = draw(1)
    different = 0
    for _ in range(60):
        first, second = anything(4, 2, generator), anything(3, 2, generator)
        words = itertools.chain.from_iterable(itertools.product(range(2), repeat=n) for n in range(11))
        expected = next((w for w in words if first.run(w) != second.run(w)), None)
        assert first.counterexample(second) == expected  # the first of the shortest, in the order of a dictionary
        different += expected is not None
    assert different > 20


def test_parity_and_counting():
    parity = counting_automaton(2)
    assert [parity.run(word) for word in ((), (1,), (1, 0, 1), (1, 1, 1))] == [0, 1, 0, 1]
    words = torch.randint(2, (20, 1000), generator=draw())
    assert torch.equal(parity.run_all(words), words.sum(1) % 2)
    assert counting_automaton(5, (-1, 0, 1)).run((0, 0, 2, 0)) == 3
    doubled = Automaton(((2, 1), (3, 0), (0, 3), (1, 2)), (0, 1, 0, 1))
    assert doubled.minimal() == parity


def test_incomplete_automata_say_so():
    broken = Automaton(((0, 1), (1, None)), (0, None))
    assert not broken.complete
    assert broken.run((0, 0)) == 0
    assert broken.run((1,)) is None
    with pytest.raises(DataError, match="state 1 has no transition for symbol 1"):
        broken.run((1, 1))
    with pytest.raises(DataError, match="incomplete"):
        broken.run_all(torch.zeros(2, 3, dtype=torch.int64))
    assert broken.minimal().states == 2  # one of them goes on, the other does not
    wild = Automaton(((0, 1), (1, 0), (0, 1)), (0, 1, None), 2)
    assert wild.minimal() == counting_automaton(2)  # the start says what suits
    assert broken.to_text() == ">0 [0]  0->0  1->1\n 1 [?]  0->1  1->?"


def test_all_words():
    assert all_words(3, 2).tolist() == [list(word) for word in itertools.product(range(3), repeat=2)]
    assert all_words(2, 0).shape == (1, 0)
    task = streaming_parity(4)
    assert [len(part) for part in task] == [2, 4, 8, 16]
    assert torch.equal(task[3].y, task[3].x[..., 1].sum(1).long() % 2)
    automaton = random_automaton(5, 3, generator=draw())
    part = automaton_task(automaton, 2)[1]
    assert part.y.tolist() == [automaton.run(word) for word in itertools.product(range(3), repeat=2)]


def test_random_automata_can_spare_no_state():
    generator = draw(4)
    for states in (1, 2, 4, 7):
        automaton = random_automaton(states, generator=generator)
        assert automaton.states == automaton.minimal().states == states


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Automaton((), ()), "a state or more"),
        (lambda: Automaton(((0,), (0, 1)), (0, 1)), "same number of symbols"),
        (lambda: Automaton(((2,),), (0,)), "states 0 to 0"),
        (lambda: counting_automaton(2).run((0, 2)), "symbol 2 is outside"),
        (lambda: counting_automaton(2).run_all(torch.tensor([[2]])), "symbols 0 to 1"),
        (lambda: counting_automaton(2).counterexample(counting_automaton(2, (0,))), "alphabets"),
        (lambda: random_automaton(3, outputs=1), "outputs 2"),
        (lambda: automaton_task(counting_automaton(2), 0), "longest"),
        (lambda: automaton_task(Automaton(((0,),), (None,)), 2), "without an output"),
        (lambda: all_words(0, 2), "symbols"),
    ],
)
def test_one_sentence_for_bad_arguments(wrong, sentence):
    with pytest.raises(DataError, match=sentence):
        wrong()
