"""Compiled networks against the machine, step for step; their parts against brute force."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from neurarium.layers import ConvolutionalGRU, HardAttention
from neurarium.theory import (
    TuringMachine,
    cellular_automaton,
    compile_neural_gpu,
    compile_stack_rnn,
    compile_transformer,
    machines,
    random_machine,
    safe_steps,
)  # fmt: skip
from neurarium.theory.computation._rational import Matrix, Memory, Rational

WORDS = {
    "increment": "1011", "palindrome": "abba", "equal-abc": "aabbcc", "unary-addition": "111+11", "brackets": "(())()",
    "even-length": "abab", "busy-beaver": "0",
}  # fmt: skip


def same_run(first, second):
    parts = ("states", "symbols", "heads", "moves", "halted", "accepted")
    return all(getattr(first, part) == getattr(second, part) for part in parts)


@pytest.mark.parametrize("name", WORDS)
def test_known_machines(name):
    transformer = compile_transformer(machines[name])
    machine = transformer.machine
    expected = machine.run(WORDS[name])
    for run in (
        transformer.run(WORDS[name]), transformer.run(WORDS[name], exact=True),
        compile_neural_gpu(machines[name]).run(WORDS[name]), compile_stack_rnn(machines[name]).run(WORDS[name]),
    ):  # fmt: skip
        assert same_run(run, expected)
        assert run.text(machine.blank) == expected.text(machine.blank)


def test_random_machines():
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        machine = random_machine(4, 3, generator=generator)
        word = [">", *map(str, torch.randint(3, (4,), generator=generator).tolist())]
        expected = machine.run(word, 120)
        for network in (compile_transformer(machine), compile_neural_gpu(machine), compile_stack_rnn(machine)):
            assert same_run(network.run(word, 120), expected)
        assert same_run(compile_transformer(machine).run(word, 120, exact=True), expected)


def test_long_runs_exactly():
    network = compile_transformer(machines["counter"])
    assert same_run(network.run(">", 800, exact=True), network.machine.run(">", 800))  # 10,000 in the study


def test_the_whole_sequence_at_once_is_the_same():
    network = compile_transformer(machines["busy-beaver"])
    y = network.encode(network.machine.run("0"))
    cells = network.machine.cells("0")
    word = one_hot(torch.tensor([network.symbols.index(c) for c in cells]), len(network.symbols)).double()
    assert torch.equal(network(y, word)[:-1].round(), y[1:])


def test_single_precision_is_refused_beyond_the_steps_that_it_vouches_for():
    network = compile_transformer(machines["counter"])
    with pytest.raises(ValueError, match="vouches for"):
        network.run(">", 400, dtype=torch.float32)
    steps = safe_steps(torch.float32)
    assert network.run(">", steps, dtype=torch.float32).symbols == network.machine.run(">", steps).symbols
    assert safe_steps(torch.float64) > 50_000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_first_error_is_where_the_run_leaves_the_machine(dtype):
    network = compile_transformer(machines["counter"])
    expected = network.machine.run(">", 120)
    step = network.first_error(">", expected, dtype)
    if dtype is torch.float64:
        assert step is None
        return
    before, after = (network.run(">", n, dtype=dtype, check_precision=False) for n in (step - 1, step))
    assert before.states == expected.states[:step]
    assert before.heads == expected.heads[:step]
    assert (after.states[-1], after.symbols[-1]) != (expected.states[step], expected.symbols[step])


def test_the_score_finds_the_last_visit():
    generator = np.random.default_rng(0)
    for _ in range(100):
        moves = generator.choice([-1, 1], int(generator.integers(1, 40)))
        cells = np.concatenate([[0], np.cumsum(moves)])
        i, new = len(moves) - 1, cells[-1]
        memory = Memory(3, 1)
        for j in range(i + 1):
            memory.add(Rational(np.array([1, -cells[j], 1]), j + 1), Rational(np.array([j])))
        n = i + 1
        query = Rational(np.array([3 * new * n, 3 * n, 1]), n * n)
        earlier = [j for j in range(i + 1) if cells[j] == new]
        assert int(memory.nearest(query).numerators[0]) == (earlier[-1] if earlier else i)


def test_the_rules_are_a_feed_forward_network():
    network = compile_transformer(machines["palindrome"])
    for (state, symbol), (to, written, move) in network.machine.table.items():
        stream = torch.zeros(1, network.width, dtype=torch.float64)
        stream[0, network.slots["state"].start + network.states.index(state)] = 1
        stream[0, network.slots["symbol"].start + network.symbols.index(symbol)] = 1
        stream[0, network.slots["one"]] = 1
        out = network.feed("rule", stream)[0]
        assert out[network.slots["new"]].tolist() == [float(q == to) for q in network.states]
        assert out[network.slots["written"]].tolist() == [float(a == written) for a in network.symbols]
        assert float(out[network.slots["move"]]) == move


def test_without_positions_a_word_said_twice_is_the_same_word():
    network = compile_transformer(machines["even-length"], positions=False)
    for word in ("a", "ab", "aba"):
        for exact in (False, True):
            once, twice = (network.run(w, 20, exact=exact, check_precision=False) for w in (word, word * 2))
            assert same_run(once, twice)


def test_on_a_ring_a_word_said_twice_is_the_same_word():
    torch.manual_seed(0)
    unit, state = ConvolutionalGRU(3, padding_mode="circular").double(), torch.rand(1, 3, 2, 5, dtype=torch.float64)
    twice = state.repeat(1, 1, 1, 2)
    bounded = ConvolutionalGRU(3).double()
    bounded.load_state_dict(unit.state_dict())
    apart = state.repeat(1, 1, 1, 2), state
    for _ in range(6):
        state, twice = unit(state), unit(twice)
        apart = bounded(apart[0]), bounded(apart[1])
    torch.testing.assert_close(twice, state.repeat(1, 1, 1, 2))
    assert not torch.allclose(apart[0], apart[1].repeat(1, 1, 1, 2))


@pytest.mark.parametrize("rule", [110, 30, 90])
def test_cellular_automata(rule):
    unit = cellular_automaton(rule)
    cells = torch.randint(2, (40,), generator=torch.Generator().manual_seed(rule))
    state = torch.zeros(1, 9, 1, 40)
    state[0, 0, 0] = cells
    for _ in range(30):
        state = unit(unit(state))
        padded = [0, *cells.tolist(), 0]
        cells = torch.tensor(
            [rule >> (4 * a + 2 * b + c) & 1 for a, b, c in zip(padded, padded[1:-1], padded[2:], strict=False)]
        )
        assert torch.equal(state[0, 0, 0].long(), cells)


def test_a_stack_in_one_number_holds_what_a_list_holds():
    generator = np.random.default_rng(0)
    machine = compile_stack_rnn(machines["palindrome"])
    base, symbols = machine.base, machine.symbols
    stack, number = [], Rational(np.array([0], dtype=object))
    for _ in range(300):
        if stack and generator.random() < 0.4:
            digit = 2 * symbols.index(stack.pop()) + 1
            top = base * number.numerators[0] - digit * number.denominator
            number = Rational(np.array([top], dtype=object), number.denominator)
        else:
            symbol = symbols[generator.integers(len(symbols))]
            stack.append(symbol)
            digit = 2 * symbols.index(symbol) + 1
            top = number.numerators[0] + digit * number.denominator
            number = Rational(np.array([top], dtype=object), number.denominator * base)
        number = number.reduced()
        assert machine.decode(number, 0) == stack[::-1]


def test_deep_stacks_need_exact_numbers():
    network = compile_stack_rnn(machines["palindrome"])
    word = "ab" * 8 + "ba" * 8
    assert network.run(word).accepted
    assert not network.run(word, exact=False).accepted
    short = "ab" * 3 + "ba" * 3
    assert len(short) < network.safe_depth()
    assert same_run(network.run(short, exact=False), network.run(short))


def test_weights_do_not_depend_on_word_or_time():
    network = compile_transformer(machines["palindrome"])
    before = {name: weight.clone() for name, weight in network.named_buffers()}
    count = network.parameter_count
    network.run("abba")
    network.run("abbaabbaabba")
    assert network.parameter_count == count
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_buffers())


def test_tapes_grow_and_ends_are_refused():
    gpu = compile_neural_gpu(machines["counter"])
    assert same_run(gpu.run(">", 300), gpu.machine.run(">", 300))
    with pytest.raises(ValueError, match="more than 5 cells"):
        gpu.run(">", 300, width=5)
    left = TuringMachine((("q", "a", "q", "a", -1),), "q", ("yes",))
    for network in (compile_transformer(left), compile_neural_gpu(left), compile_stack_rnn(left)):
        with pytest.raises(ValueError, match="at step 1"):
            network.run("a")


def test_stays_are_refused_or_split():
    machine = TuringMachine((("q", "a", "r", "b", 0), ("r", "b", "yes", "c", 1)), "q", ("yes",))
    for compile_network in (compile_transformer, compile_neural_gpu, compile_stack_rnn):
        with pytest.raises(ValueError, match="split_stay=True"):
            compile_network(machine)
        network = compile_network(machine, split_stay=True)
        assert same_run(network.run("a"), network.machine.run("a"))


def test_rationals_of_any_size():
    big = Rational(np.array([3, 5]), 2**40).apply(Matrix(np.array([[2**61, 1], [0, 3]]), 7))
    assert [int(n) for n in big.numerators] == [3 * 2**61 + 5, 15]
    assert big.denominator == 7 * 2**40
    assert big.plus(Rational(np.array([1, 1]), 3)).floats() == pytest.approx(
        [(3 * 2**61 + 5) / (7 * 2**40) + 1 / 3, 1 / 3]
    )
    assert Rational(np.array([-1, 3, 9]), 6).saturated().floats().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.untyped
def test_hard_attention():
    attention = HardAttention()
    query, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0], [2.0, 5.0], [1.0, 9.0]])
    value = torch.tensor([[1.0], [3.0], [100.0]])
    assert attention(query, key, value).tolist() == [[2.0]]  # two keys share the greatest score
    nearest = HardAttention("negative-abs")  # 10 - 1, 10 - 5 and 5 - 9
    assert nearest(torch.tensor([[5.0, -1.0]]), key, value).tolist() == [[100.0]]
    mask = torch.tensor([[True, False, False]])
    assert attention(query, key, value, mask).tolist() == [[1.0]]
    q = query.clone().requires_grad_()
    attention(q, key, value).sum().backward()
    soft = query.clone().requires_grad_()
    ((soft @ key.T).softmax(-1) @ value).sum().backward()
    assert q.grad.shape == soft.grad.shape
    assert bool((q.grad != 0).any())
    with pytest.raises(ValueError, match="'dot' or"):
        HardAttention("cosine")
