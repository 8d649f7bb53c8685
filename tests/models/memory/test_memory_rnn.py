"""Stacks against lists, tapes against `numpy.roll`, nondeterministic stacks against all runs, cells against torch."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from neurarium.data import formal_tasks
from neurarium.models import NondeterministicStackRNN, StackRNN, TapeRNN, duplicating_tape, reversing_stack
from neurarium.models.memory._nondeterministic_stack import update_stacks
from neurarium.models.memory._stack_rnn import update_stack
from neurarium.models.memory._tape_rnn import update_tape

PUSH, POP, STAY = range(3)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sharp_actions_are_those_of_a_list():
    generator = draw()
    stack, expected = torch.zeros(1, 1, 2), []
    for action in torch.randint(3, (200,), generator=generator).tolist():
        value = torch.randn(2, generator=generator)
        stack = update_stack(stack, one_hot(torch.tensor([action]), 3).float(), value[None])
        expected = {PUSH: [value, *expected], POP: expected[1:], STAY: expected}[action]
        assert torch.equal(stack[0, : len(expected)], torch.stack(expected) if expected else stack[0, :0])
        assert not stack[0, len(expected) :].any()


def test_mixed_actions_are_the_mixture_of_sharp_ones():
    generator = draw(1)
    stack, value = torch.randn(3, 2, 5, 4, generator=generator), torch.randn(3, 2, 4, generator=generator)
    shares = torch.randn(3, 2, 3, generator=generator).softmax(-1)
    sharp = [update_stack(stack, one_hot(torch.tensor(a), 3).float().expand(3, 2, 3), value) for a in range(3)]
    mixed = sum(shares[..., a, None, None] * sharp[a] for a in range(3))
    torch.testing.assert_close(update_stack(stack, shares, value), mixed)


def test_a_push_adds_its_mass_and_a_pop_takes_the_tops():
    stack = torch.ones(1, 6, 1)
    after = update_stack(stack, torch.full((1, 3), 1 / 3), torch.ones(1, 1))
    assert float(after.sum()) == pytest.approx(6 + 1 / 3 - 1 / 3)


@pytest.mark.parametrize("word", [1, 3])
def test_sharp_turns_are_those_of_numpy(word):
    generator = draw()
    tape, value = torch.randn(1, 8, 2, generator=generator), torch.randn(1, 2, generator=generator)
    turns = TapeRNN(3, 2).blank(one_hot(torch.tensor([[0] * word + [2]]), 3).float())[1]
    assert turns.shape == (5, 2 * word + 2)
    tape = tape[:, : 2 * word + 2]
    written = tape[0].numpy().copy()
    written[0] = value[0]
    for action, shift in enumerate((0, -1, 1, -word, word)):  # the tape moves against the head
        after = update_tape(tape, turns, one_hot(torch.tensor([action]), 5).float(), value)
        assert np.array_equal(after[0].numpy(), np.roll(written, shift, axis=0))


def test_the_hand_set_networks_are_exact_at_any_length():
    for name, model in (("reverse_string", reversing_stack()), ("duplicate_string", duplicating_tape())):
        for length in (1, 2, 9, 120):
            x, y, _ = formal_tasks[name].sample(16, length, draw(length))
            assert torch.equal(model(x)[:, -y.shape[1] :].argmax(-1), y), (name, length)
    film = reversing_stack().trace(formal_tasks["reverse_string"].sample(1, 5, draw())[0]).actions[0, :, 0]
    assert film.argmax(-1).tolist() == [PUSH] * 5 + [POP] * 5
    assert torch.equal(film, one_hot(film.argmax(-1), 3).float())


@pytest.mark.parametrize(("cell", "layer"), [("rnn", nn.RNN), ("lstm", nn.LSTM)])
def test_cells_are_those_of_torch(cell, layer):
    torch.manual_seed(0)
    model, reference = StackRNN(4, 3, 5, 2, cell=cell), layer(4, 5, batch_first=True)
    with torch.no_grad():
        model.recurrent.weight[:, :2] = 0.0  # deaf to the stack
        reference.weight_ih_l0.copy_(model.inputs.weight)
        reference.bias_ih_l0.copy_(model.inputs.bias)
        reference.weight_hh_l0.copy_(model.recurrent.weight[:, 2:])
        reference.bias_hh_l0.zero_()
    x = torch.randn(3, 7, 4)
    trace = model.trace(x)
    torch.testing.assert_close(trace.states, reference(x)[0])
    torch.testing.assert_close(trace.outputs, model.head(trace.states.relu()))


def runs_of(push, replace, pop, steps):
    """Weights of the top symbol over all runs of a pushdown automaton, each run followed by itself."""
    states, symbols = push.shape[1:3]
    runs = {(0, (0,)): 1.0}
    for t in range(steps):
        new = {}
        for (q, stack), weight in runs.items():
            top, rest = stack[-1], stack[:-1]
            for r, y in itertools.product(range(states), range(symbols)):
                for grown, by in ((stack + (y,), push[t, q, top, r, y]), (rest + (y,), replace[t, q, top, r, y])):
                    new[r, grown] = new.get((r, grown), 0.0) + weight * float(by)
            for r in range(states if rest else 0):
                new[r, rest] = new.get((r, rest), 0.0) + weight * float(pop[t, q, top, r])
        runs = new
    tops = torch.zeros(symbols, dtype=torch.float64)
    for (_, stack), weight in runs.items():
        tops[stack[-1]] += weight
    return tops / tops.sum()


def test_the_nondeterministic_stack_sums_over_all_runs():
    steps, states, symbols = 5, 2, 2
    generator = draw()
    shapes = [(states, symbols, states, symbols)] * 2 + [(states, symbols, states)]
    push, replace, pop = (torch.rand(steps, *s, generator=generator, dtype=torch.float64) for s in shapes)
    model = NondeterministicStackRNN(3, 2, 4, states, symbols).double()
    stacks = model.blank(torch.zeros(1, 1, 3))
    assert model.read(stacks).tolist() == [[1.0, 0.0]]
    for t in range(steps):
        stacks = update_stacks(stacks, push[t : t + 1], replace[t : t + 1], pop[t : t + 1])
        torch.testing.assert_close(model.read(stacks)[0], runs_of(push, replace, pop, t + 1))


def test_long_sequences_do_not_underflow():
    torch.manual_seed(0)
    model = NondeterministicStackRNN(3, 2, 4, 1, 2)
    x = torch.randn(1, 60, 3)
    out = model(x)
    out.sum().backward()
    assert bool(torch.isfinite(out).all())
    assert float(model.control.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("make", [StackRNN, TapeRNN, NondeterministicStackRNN])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_networks_with_a_memory_learn(make, cell):
    torch.manual_seed(0)
    model = make(3, 2, 16, cell=cell)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y, _ = formal_tasks["reverse_string"].sample(16, 2, draw())
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x)[:, -2:].flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: StackRNN(3, 2, 0), "at least 1"),
        (lambda: StackRNN(3, 2, cell="gru"), "'rnn' or 'lstm'"),
        (lambda: TapeRNN(3, 2, memory_size=0), "memory_size"),
        (lambda: TapeRNN(3, 2, memory_size="triple"), "memory_size"),
        (lambda: TapeRNN(3, 2, memory_size=2)(torch.zeros(1, 4, 3)), "a word of 4 symbols"),
        (lambda: StackRNN(3, 2)(torch.zeros(4, 3)), "must be"),
    ],
)
@pytest.mark.untyped
def test_one_sentence_for_bad_arguments(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
