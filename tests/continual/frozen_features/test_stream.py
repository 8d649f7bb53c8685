"""A stream of tasks: the accuracy matrix against hand-made numbers, replay's memory, the loop."""

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import AccuracyMatrix, AveragedGEM, Finetune, L2Anchor, Replay, Strategy, learn_stream
from neurarium.data import Arrays, Split, load, split_stream
from neurarium.learning import DirectFeedbackAlignment


def test_summaries_of_a_matrix_by_hand():
    matrix = AccuracyMatrix([[0.9, 0.3, 0.2], [0.6, 0.8, 0.5], [0.7, 0.4, 1.0]], untrained=[0.1, 0.1, 0.1])
    assert matrix.average_accuracy == pytest.approx(0.7)
    assert matrix.learned_accuracy == pytest.approx(0.9)
    assert matrix.forgetting == pytest.approx((0.2 + 0.4) / 2)
    assert matrix.backward_transfer == pytest.approx((-0.2 - 0.4) / 2)
    assert matrix.forward_transfer == pytest.approx((0.2 + 0.4) / 2)


def test_forgetting_counts_from_the_best_and_transfer_from_the_first():
    matrix = AccuracyMatrix([[0.5], [0.9, 0.8], [0.7, 0.8, 0.6]])
    assert matrix.forgetting == pytest.approx(0.1)
    assert matrix.backward_transfer == pytest.approx(0.1)
    with pytest.raises(ValueError, match="untrained"):
        _ = matrix.forward_transfer
    with pytest.raises(ValueError, match="row 1 has 1"):
        AccuracyMatrix([[0.5], [0.9]])
    with pytest.raises(ValueError, match="rows is empty"):
        AccuracyMatrix([])


def test_every_example_stays_in_the_memory_with_equal_probability():
    times = torch.zeros(40)
    for seed in range(400):
        memory = Replay(nn.Linear(1, 2), capacity=10, generator=torch.Generator().manual_seed(seed))
        for batch in torch.arange(40.0).split(7):
            memory.observe(batch[:, None], torch.zeros(len(batch), dtype=torch.int64))
        assert len(memory.x) == 10
        times[memory.x.flatten().long()] += 1
    expected, deviation = 400 / 4, float(Fraction(400 * 3, 16)) ** 0.5
    assert (times - expected).abs().max() < 4 * deviation


def test_replay_trains_on_old_examples_only_once_a_task_has_ended():
    memory = Replay(nn.Linear(2, 2), capacity=4)
    x, y = torch.randn(8, 2), torch.zeros(8, dtype=torch.int64)
    memory.observe(x, y)
    assert float(memory.penalty().detach()) == 0
    memory.end_task()
    assert float(memory.penalty().detach()) > 0
    copy = Replay(nn.Linear(2, 2), capacity=4)
    copy.load_state_dict(memory.state_dict())
    assert torch.equal(copy.x, memory.x)
    with pytest.raises(ValueError, match="capacity"):
        Replay(nn.Linear(2, 2), capacity=0)


def digits():
    return split_stream(load("digits").scaled().flat(), 2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def adam(parameters):
    return torch.optim.Adam(parameters, 3e-3)


def test_replay_forgets_less_than_plain_training_on_split_digits():
    plain = learn_stream(Finetune(network()), digits(), optimizer=adam, epochs=5, batch_size=16)
    replayed = learn_stream(Replay(network(), capacity=200), digits(), optimizer=adam, epochs=5, batch_size=16)
    assert plain.forgetting > 0.7
    assert replayed.forgetting < 0.3
    assert replayed.average_accuracy > plain.average_accuracy + 0.4


def test_any_rule_and_a_strategy_that_changes_the_optimizers_steps():
    still, free = (
        learn_stream(
            L2Anchor(network(), strength=strength, implicit=True), digits()[:2], optimizer=adam,
            rule=DirectFeedbackAlignment, epochs=10, batch_size=16,
        )
        for strength in (1e4, 0.0)
    )  # fmt: skip
    assert free.learned_accuracy > 0.8
    assert free.forgetting > 0.3
    assert still.forgetting < 0.05


class CountsOnly(Strategy):
    """Learns by counting labels; its model has nothing to train."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.counts = torch.zeros(2)

    def observe(self, x, y):
        self.counts += torch.bincount(y, minlength=2)

    def predict(self, x):
        return self.counts.expand(len(x), 2)


def test_a_strategy_without_parameters_gets_its_batches():
    arrays = Arrays(torch.zeros(6, 1), torch.tensor([0, 1, 1, 1, 1, 0]))
    counts = CountsOnly()
    matrix = learn_stream(counts, [Split(arrays, arrays, arrays)], epochs=2, loss=cross_entropy)
    assert counts.counts.tolist() == [4, 8]
    assert matrix.average_accuracy == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="stream is empty"):
        learn_stream(counts, [])


class MeanOfTokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 2)

    def forward(self, input_ids, attention_mask=None):
        return self.table(input_ids).mean(1)


@pytest.mark.parametrize("kind", [Replay, AveragedGEM])
@pytest.mark.parametrize("named", [False, True])
def test_batches_of_other_lengths_are_replayed_as_they_came(kind, named):
    strategy = kind(MeanOfTokens(), capacity=12, batch_size=12, generator=torch.Generator().manual_seed(0))
    lengths = {}
    for length in (3, 7, 5, 7):
        x = torch.randint(1, 20, (4, length))
        lengths |= {tuple(row.tolist()): length for row in x}
        x = {"input_ids": x, "attention_mask": torch.ones_like(x)} if named else x
        strategy.observe(x, torch.arange(4, dtype=torch.int64) % 2)
    strategy.end_task()
    found = []
    for x, y in strategy.examples.take(torch.arange(12)):
        rows = x["input_ids"] if named else x
        assert len(rows) == len(y)
        found += [lengths[tuple(row.tolist())] == rows.shape[1] for row in rows]
    assert found == [True] * 12
    assert bool(strategy.replayed_loss().isfinite())
    again = kind(MeanOfTokens(), capacity=12, batch_size=12, generator=strategy.generator)
    again.load_state_dict(copy.deepcopy(strategy.state_dict()))
    strategy.generator = torch.Generator().manual_seed(1)
    again.generator = torch.Generator().manual_seed(1)
    assert torch.equal(again.replayed_loss(), strategy.replayed_loss())
    with pytest.raises(ValueError, match="must have 3 rows"):
        strategy.observe(x, torch.zeros(3, dtype=torch.int64))
