"""Cyclical curriculum: the schedules, the draw's distribution, scores, and the two gradients on a quadratic."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from neurarium.learning import CurriculumSampler, cycle_sizes, difficulty_scores, growing_sizes, shrinking_sizes
from neurarium.learning.schedule._curriculum import weighted_sample
from neurarium.theory import Oracle, expected_distance


def test_the_papers_schedules():
    sizes = cycle_sizes()
    assert sizes[:9] == [0.25, 0.5, 1, 0.5, 0.25, 0.5, 1, 0.5, 0.25]
    assert len(sizes) == 19
    assert sum(sizes) == pytest.approx(10.75)
    other = cycle_sizes(0.2, multiplier=0.6)
    assert other[:9] == pytest.approx([0.2, 1 / 3, 5 / 9, 25 / 27, 1, 0.6, 0.36, 0.216, 0.2])
    assert sum(cycle_sizes(exact=True)) == pytest.approx(10)
    assert cycle_sizes(1.0, epochs=3) == [1, 1, 1]
    assert cycle_sizes(epochs=5, sharp=True) == [0.25, 0.5, 1, 0.25, 0.5, 1, 0.25, 0.5, 1]
    assert sum(growing_sizes(epochs=12)) == pytest.approx(12) == sum(shrinking_sizes(epochs=12))
    assert growing_sizes(epochs=3.5) == [0.25, 0.25, 0.5, 0.5, 1, 1]
    assert shrinking_sizes(epochs=3.5) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_inclusion_probabilities_are_those_of_drawing_in_turn():
    scores, generator = torch.tensor([4.0, 3, 2, 1]), torch.Generator().manual_seed(0)
    first = torch.bincount(torch.cat([weighted_sample(scores, 1, generator) for _ in range(40_000)]), minlength=4)
    assert first.div(40_000).tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.008)
    pairs = [weighted_sample(scores, 2, generator) for _ in range(40_000)]
    inside = sum(3 in pair.tolist() for pair in pairs) / 40_000
    assert inside == pytest.approx(0.1 + 0.4 / 6 + 0.3 / 7 + 0.2 / 8, abs=0.007)


def test_pairs_are_distributed_as_numpys():
    scores, draws = torch.tensor([5.0, 3, 1, 1]), 20_000
    generator, numpys = torch.Generator().manual_seed(1), np.random.default_rng(0)
    pairs = list(itertools.combinations(range(4), 2))
    ours = [tuple(sorted(weighted_sample(scores, 2, generator).tolist())) for _ in range(draws)]
    peers = [tuple(sorted(numpys.choice(4, 2, replace=False, p=scores.numpy() / 10).tolist())) for _ in range(draws)]
    counts = np.array([[found.count(pair) for pair in pairs] for found in (ours, peers)])
    expected = counts.sum(0) / 2
    assert chisquare(counts.flatten(), np.tile(expected, 2), ddof=len(pairs)).pvalue > 1e-3


def test_a_whole_pass_uses_every_example_once_in_a_new_order():
    sampler = CurriculumSampler(torch.rand(50) + 0.01, [1.0, 1.0, 0.5])
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1]
    sampler.set_epoch(2)
    assert len(set(sampler)) == len(sampler) == 25
    assert sampler.progress == pytest.approx(2 / 2.5)


def test_easy_examples_come_more_often_and_every_class_in_proportion():
    scores, labels = torch.cat([torch.full((40,), 100.0), torch.ones(40)]), torch.arange(80) % 4
    sampler = CurriculumSampler(scores, [0.25] * 20, labels=labels)
    drawn = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        chosen = torch.tensor(list(sampler))
        assert labels[chosen].bincount().tolist() == [5, 5, 5, 5]
        drawn.append(chosen)
    assert (torch.cat(drawn) < 40).double().mean() > 0.95
    assert sampler.effective_size == pytest.approx((40 * 101) ** 2 / (40 * 10_001))


def test_ranks_share_out_one_draw_and_a_loader_takes_the_sampler():
    whole = CurriculumSampler(torch.rand(30) + 0.1, [0.5], seed=3)
    parts = [CurriculumSampler(whole.scores, [0.5], seed=3, rank=r, world_size=4) for r in range(4)]
    shared = [i for part in parts for i in part]
    assert sorted(shared) == sorted([*whole, next(iter(whole))])  # 15 on four ranks: the first one twice
    assert [len(list(part)) for part in parts] == [len(part) for part in parts] == [4, 4, 4, 4]
    few = CurriculumSampler(whole.scores, [0.05], world_size=4, rank=3)
    assert len(list(few)) == len(few) == 1
    dataset = TensorDataset(torch.arange(30))
    seen = torch.cat([batch for (batch,) in DataLoader(dataset, batch_size=4, sampler=whole)])
    assert seen.tolist() == list(whole)


def test_scores_are_losses_by_index():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train()
    x, y = torch.randn(10, 4), torch.randint(3, (10,))
    batches = [(x[:6], y[:6]), (x[6:], y[6:])]
    p = model[0](x).softmax(1)
    own = p[torch.arange(10), y]
    assert torch.allclose(difficulty_scores(model, batches).float(), -own.log(), atol=1e-6)
    assert torch.allclose(difficulty_scores(model, batches, "probability").float(), 1 / own, atol=1e-5)
    distance = (p - nn.functional.one_hot(y, 3)).abs().mean(1)
    assert torch.allclose(difficulty_scores(model, batches, "distance").float(), distance, atol=1e-6)
    assert model.training
    certain = nn.Linear(4, 3)
    nn.init.constant_(certain.weight, 0.0)
    with torch.no_grad():
        certain.bias.copy_(torch.tensor([100.0, 0, 0]))
    assert difficulty_scores(certain, [(x, torch.zeros(10, dtype=torch.int64))]).tolist() == [1e-7] * 10
    broken = nn.Linear(4, 3)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ValueError, match="loss of example 0 is nan"):
        difficulty_scores(broken, batches)


def test_the_score_of_a_sequence_is_the_mean_over_its_tokens():
    """A token that is known for sure counts, padding does not."""
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 0] = 200.0
    y = torch.tensor([[0, 1, -100, -100], [1, 1, 2, 2]])
    scores = difficulty_scores(nn.Identity(), [(logits, y)])
    assert scores.tolist() == pytest.approx([np.log(3) / 2, np.log(3)])
    assert difficulty_scores(nn.Identity(), [(logits, y.clamp_min(0))], ignore_index=0)[0] == pytest.approx(np.log(3))
    squared = difficulty_scores(nn.Identity(), [(torch.ones(2, 3), torch.zeros(2, 3))], loss=nn.functional.mse_loss)
    assert squared.tolist() == [1.0, 1.0]


def test_alternating_wins_in_a_region_only():
    def all_three(bias, variance):
        easy, vanilla = Oracle(bias, variance), Oracle(0.0, 1.0)
        mixed = [easy, vanilla] * 100
        return [expected_distance(s, 0.1) for s in ([easy] * 200, [vanilla] * 200, mixed)]

    assert all_three(0.2, 0.1) == pytest.approx([0.04526, 0.05263, 0.04041], abs=5e-6)
    easy, vanilla, mixed = all_three(0.3, 0.2)
    assert vanilla < mixed < easy or vanilla == min(easy, vanilla, mixed)


def test_the_recursion_is_the_simulation():
    schedule = [Oracle(0.2, 0.5), Oracle(0.0, 2.0)] * 15
    generator = torch.Generator().manual_seed(0)
    d = torch.ones(200_000, dtype=torch.float64)
    for oracle in schedule:
        noise = oracle.variance**0.5 * torch.randn(d.shape, generator=generator, dtype=torch.float64)
        d = d - 0.2 * (d + oracle.bias + noise)
    assert expected_distance(schedule, 0.2) == pytest.approx(float(d.square().mean()), rel=0.02)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cycle_sizes(0.5, 0.25), "start and end"),
        (lambda: cycle_sizes(multiplier=1.0), "multiplier"),
        (lambda: cycle_sizes(epochs=0), "epochs"),
        (lambda: CurriculumSampler(torch.tensor([1.0, float("nan")]), [1.0]), "score 1 is nan"),
        (lambda: CurriculumSampler(torch.tensor([1.0, 0.0]), [1.0]), "score 1 is 0"),
        (lambda: CurriculumSampler(torch.ones(2, 2), [1.0]), "one per example"),
        (lambda: CurriculumSampler(torch.ones(2), [1.5]), "fractions"),
        (lambda: CurriculumSampler(torch.ones(2), [1.0], labels=torch.zeros(3)), "3 labels for 2 scores"),
        (lambda: CurriculumSampler(torch.ones(2), [1.0], rank=1), "rank"),
        (lambda: CurriculumSampler(torch.ones(2), [1.0]).set_epoch(1), "epoch"),
        (lambda: difficulty_scores(nn.Linear(1, 2), [], "margin"), "kind"),
        (lambda: expected_distance([], 2.0), "lr"),
    ],
)
def test_wrong_input_is_said(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("labels", [None, torch.arange(60) % 3])
@pytest.mark.parametrize("world", [1, 4, 7, 40])
def test_unpadded_ranks_share_out_every_example_once(labels, world):
    scores = torch.rand(60, generator=torch.Generator().manual_seed(0)) + 0.1
    options = {"labels": labels, "seed": 3, "world_size": world, "padded": False}
    parts = [CurriculumSampler(scores, [0.25, 1.0], rank=rank, **options) for rank in range(world)]
    for epoch, wanted in ((0, 15), (1, 60)):
        for part in parts:
            part.set_epoch(epoch)
        drawn = [list(part) for part in parts]
        assert [len(part) for part in parts] == [len(rows) for rows in drawn]
        everything = [row for rows in drawn for row in rows]
        assert len(everything) == len(set(everything)) == wanted
        assert sorted(everything) == sorted(parts[0].indices().tolist())
