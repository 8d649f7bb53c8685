"""Extraction from a network whose automaton is known, against a direct reimplementation on a dictionary of words."""

import itertools

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, all_words, counting_automaton, streaming_parity
from neurarium.learning import Backprop
from neurarium.models import SequenceReadout
from neurarium.probes import MergerRecorder, automaton_from_states, extract_automaton, merger_history
from neurarium.probes.sequences._automaton import leader_groups, linked_groups
from neurarium.training import fit


def parity_network():
    """u = relu(p + x), v = relu(p + x - 1), p = u - 2 v: three states, (0, 0), (1, 0) and (2, 1)."""
    model = SequenceReadout(nn.RNN(2, 2, nonlinearity="relu", batch_first=True), nn.Linear(2, 2))
    with torch.no_grad():
        model.cell.weight_hh_l0.copy_(torch.tensor([[1.0, -2.0], [1.0, -2.0]]))
        model.cell.weight_ih_l0.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        model.cell.bias_ih_l0.copy_(torch.tensor([0.0, -1.0]))
        model.cell.bias_hh_l0.zero_()
        model.head.weight.copy_(torch.tensor([[-1.0, 2.0], [1.0, -2.0]]))
        model.head.bias.copy_(torch.tensor([0.5, -0.5]))
    return model


def test_a_network_set_by_hand():
    model = parity_network()
    report = extract_automaton(model, 2, 5)
    assert (report.states, report.conflicts, report.wrong_merges) == (3, 0, 0)
    assert report.complete
    assert report.minimal == counting_automaton(2)
    words = torch.randint(2, (20, 10_000), generator=torch.Generator().manual_seed(0))
    assert report.agreement(model, words) == 1.0
    assert "complete" in report.summary()
    assert report.words == 63


def test_an_untrained_network_gives_no_wrong_conclusion():
    torch.manual_seed(0)
    report = extract_automaton(SequenceReadout(nn.RNN(2, 20, batch_first=True), nn.Linear(20, 2)), 2, 5, 1e-4)
    assert not report.complete
    assert "says nothing of longer words" in report.summary()
    with pytest.raises(ValueError, match="incomplete"):
        report.agreement(nn.Linear(2, 2), all_words(2, 3))
    assert report.states == 63  # every word its own
    assert extract_automaton(SequenceReadout(nn.RNN(2, 20, batch_first=True), nn.Linear(20, 2)), 2, 4, 1e6).states == 1


def reference(words, vectors, outputs, threshold):
    """Leader groups and transitions word by word."""
    leaders, group = [], {}
    for word, vector in zip(words, vectors, strict=True):
        for number, leader in enumerate(leaders):
            if float((vector - leader).norm()) < threshold:
                group[word] = number
                break
        else:
            group[word] = len(leaders)
            leaders.append(vector)
    rows, conflicts = [], 0
    for number in range(len(leaders)):
        row = []
        for symbol in range(2):
            to = [group[(*w, symbol)] for w in words if group[w] == number and (*w, symbol) in group]
            conflicts += len(set(to)) > 1
            row.append(max(sorted(set(to)), key=to.count) if to else None)
        rows.append(tuple(row))
    pairs = [(a, b) for a, b in itertools.combinations(words, 2) if group[a] == group[b] and () not in (a, b)]
    said = dict(zip(words, outputs, strict=True))
    return group, tuple(rows), conflicts, len(pairs), sum(said[a] != said[b] for a, b in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_leaders_and_transitions_word_by_word(seed):
    generator = torch.Generator().manual_seed(seed)
    words = [()] + [tuple(w) for n in range(1, 6) for w in all_words(2, n).tolist()]
    vectors = torch.randn(6, 3, generator=generator, dtype=torch.float64)[
        torch.randint(6, (len(words),), generator=generator)
    ] + 0.2 * torch.randn(len(words), 3, generator=generator, dtype=torch.float64)
    outputs = [None, *torch.randint(2, (len(words) - 1,), generator=generator).tolist()]
    report = automaton_from_states(words, vectors, outputs, 2, 0.3)
    group, rows, conflicts, pairs, wrong = reference(words, vectors, outputs, report.threshold)
    assert report.groups.tolist() == [group[w] for w in words]
    assert report.automaton.transitions == rows
    assert (report.conflicts, report.merged_pairs, report.wrong_merges) == (conflicts, pairs, wrong)


def test_linkage_joins_chains_that_leaders_cut():
    line = torch.arange(5.0)[:, None].double()
    assert linked_groups(line, 1.5).tolist() == [0] * 5
    assert leader_groups(line, 1.5).tolist() == [0, 0, 1, 1, 2]


def test_without_the_state_of_the_empty_word_it_is_a_state_of_its_own():
    words = [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
    vectors = torch.tensor([[0.0], [1.0], [0.0], [1.0], [1.0], [0.0]])
    report = automaton_from_states(words, vectors, [0, 1, 0, 1, 1, 0], 2)
    assert report.states == 3
    assert report.automaton.outputs == (0, 1, None)
    assert report.minimal == counting_automaton(2)


def test_mergers_are_watched_during_training():
    torch.manual_seed(0)
    model = SequenceReadout(nn.RNN(2, 10, batch_first=True), nn.Linear(10, 2), gain=0.3)
    recorder = MergerRecorder(model, 2, 3, every=2)

    def loss(output, y):
        return cross_entropy(output[:, -1], y)

    rule = Backprop(model, loss)
    part = streaming_parity(3)[2]
    fit(rule, Batches(part, 4), torch.optim.SGD(model.parameters(), 0.1), epochs=3, callbacks=[recorder])
    history = recorder.history(0.05)
    assert history.steps == (2, 4, 6)
    assert history.words == 14
    assert history.merged_by_length().shape == (3, 3)
    ax = Figure().add_subplot()
    assert history.plot(ax) is ax
    report = extract_automaton(model, 2, 3)
    assert report.plot(ax) is ax


def test_pairs_that_come_from_afar_are_counted():
    first = torch.tensor([[0.0], [10.0], [5.0]])
    last = torch.tensor([[0.0], [0.0], [5.0]])
    history = merger_history([first, last], torch.tensor([1, 1, 2]), tolerance=0.05)
    assert history.states == (3, 2)
    assert history.merged == (0.0, pytest.approx(1 / 3))
    assert history.diverged == 1.0
    assert history.merged_by_length().tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: automaton_from_states([(0, 1, 1, 0)], torch.zeros(1, 2), [0], 2), "'0110' is given but not '011'"),
        (lambda: automaton_from_states([(2,)], torch.zeros(1, 2), [0], 2), "symbol 2"),
        (lambda: automaton_from_states([(1,)], torch.full((1, 2), torch.nan), [0], 2), "finite"),
        (lambda: automaton_from_states([(1,)], torch.zeros(1, 2), [0], 2, 0.0), "tolerance"),
        (lambda: automaton_from_states([(1,)], torch.zeros(1, 2), [0], 2, 0.1, "nearest"), "'leader' or"),
        (lambda: extract_automaton(nn.Linear(2, 2), 2, 0), "longest"),
        (lambda: merger_history([], torch.zeros(1)), "snapshot"),
    ],
)
@pytest.mark.untyped
def test_one_sentence_for_bad_arguments(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
