"""Students near chance stop; the others learn as if nothing had been looked at."""

import copy

import pytest
import torch
from torch import nn

from neurarium.compression import N2N, Answers, EarlyStoppingN2N, judge, train_hopeful_students, train_students
from neurarium.search import ActorCriticShrinkSearch, LayerShrinkSearch

torch.manual_seed(0)
X = torch.randn(240, 8)
Y = X[:, :4].argmax(1)


class Counted(nn.Module):
    """Counts its passes in training."""

    def __init__(self, model):
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, x):
        self.passes += self.training
        return self.model(x)


def answers():
    return Answers(X[:200], Y[:200], 8 * (nn.functional.one_hot(Y[:200], 4).float() - 0.25))


def held():
    return Answers(X[200:], Y[200:], nn.functional.one_hot(Y[200:], 4).float())


def hopeless():
    """Learns next to nothing: its answer hardly depends on its weights, and is a class that is never right."""
    model = nn.Linear(8, 5)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 50.0]))
    return model


def five(given):
    return Answers(given.x, given.y, nn.functional.pad(given.logits, (0, 1)))


def students():
    torch.manual_seed(1)
    return [nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5)), hopeless(), nn.Linear(8, 5)]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("least", [1e-9, 0.2])
def test_hopeful_students_end_as_without_a_look_and_hopeless_ones_as_they_were_then(least):
    rate = {"learning_rate": 0.02, "batch_size": 50}
    found, whole, short = ([Counted(s) for s in copy.deepcopy(students())] for _ in range(3))
    torch.manual_seed(3)
    stopped = train_hopeful_students(found, five(answers()), held(), epochs=4, look=2, least=least, **rate)
    for models, epochs in ((whole, 4), (short, 2)):
        torch.manual_seed(3)
        train_students(models, five(answers()), epochs=epochs, **rate)
    assert [s is not None for s in stopped] == [False, True, False]  # never right: below any bound
    assert torch.equal(weights(found[0]), weights(whole[0]))
    assert torch.equal(weights(found[2]), weights(whole[2]))
    assert torch.equal(weights(found[1]), weights(short[1]))
    assert not torch.equal(weights(found[1]), weights(whole[1]))
    assert stopped[1] == judge(short[1], held()) == 0
    assert [s.passes for s in found] == [16, 8, 16]


def test_students_are_looked_at_once_and_a_student_at_the_bound_goes_on(monkeypatch):
    looked, scores = [], iter([0.2, 0.19, 0.9, 0.0, 0.0, 0.0])  # a second look would find nothing but hopeless ones

    def scripted(student, given):
        looked.append(given)
        return next(scores)

    monkeypatch.setattr("neurarium.compression.architecture._early_stopping.judge", scripted)
    models = [Counted(s) for s in students()]
    given, kept = five(answers()), held()
    assert train_hopeful_students(models, given, kept, epochs=4, look=2, least=0.2, batch_size=50) == [None, 0.19, None]
    assert looked == [kept] * 3  # on what is held out
    assert [s.passes for s in models] == [16, 8, 16]


def test_nothing_is_left_to_train():
    model = hopeless()
    torch.manual_seed(0)
    assert train_hopeful_students([model], five(answers()), held(), epochs=50, look=1) == [0.0]
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.randperm(200)
    assert torch.equal(after, torch.get_rng_state())  # one epoch's order was drawn
    assert train_hopeful_students([], answers(), held()) == []
    with pytest.raises(ValueError, match="look"):
        train_hopeful_students([model], answers(), held(), look=0)


def big():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


@pytest.mark.parametrize("kind", [LayerShrinkSearch, ActorCriticShrinkSearch])
def test_the_search_rewards_students_as_they_were_when_they_were_stopped(kind):
    ready = {"lr": 0.01, "students_per_update": 4, "generator": torch.Generator().manual_seed(0)}
    search = kind(big(), X[:2], 1.0, **ready)
    n2n = EarlyStoppingN2N(0, 1, look=1, least=0.5, epochs=3, students_per_iteration=4)
    torch.manual_seed(0)
    n2n.iterate(search, answers(), held())
    assert len(search.rewards) == 1
    tried = [c for c in search.history if c.model is not None]
    assert n2n.stopped == sum(c.accuracy < 0.5 for c in tried) > 0
    assert all(c.accuracy == judge(c.model, held()) for c in tried)


@pytest.mark.parametrize("kind", [N2N, EarlyStoppingN2N])
def test_an_architecture_that_is_known_is_not_trained_again(kind):
    search = LayerShrinkSearch(big(), X[:2], 1.0, students_per_update=2)
    actions = torch.full((len(search.inputs),), 4)
    search.policy.sample = lambda *_: actions
    n2n = kind(0, 1, epochs=3, students_per_iteration=2, search_examples=200)
    n2n.iterate(search, answers(), held())
    torch.manual_seed(0)
    drawn = [weights(search.ask().model) for _ in range(2)]
    torch.manual_seed(0)
    n2n.iterate(search, answers(), held())
    again = search.history[2:]
    assert [c.accuracy for c in again] == [search.history[1].accuracy] * 2
    assert all(torch.equal(weights(c.model), w) for c, w in zip(again, drawn))


@pytest.mark.parametrize("train", [train_students, lambda *a, **b: train_hopeful_students(*a, held(), **b)])
def test_a_last_batch_of_one_is_left_out(train):
    model = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5))
    train([model], five(answers())[:51], epochs=1, batch_size=50)
    assert int(model[1].num_batches_tracked) == 1


def test_students_that_go_on_are_judged_on_held_out_examples_at_the_end():
    search = LayerShrinkSearch(big(), X[:2], 1.0, students_per_update=4, generator=torch.Generator().manual_seed(0))
    n2n = EarlyStoppingN2N(0, 1, look=1, least=1e-9, epochs=2, students_per_iteration=4)
    torch.manual_seed(0)
    n2n.iterate(search, answers(), held())
    tried = [c for c in search.history if c.model is not None]
    assert [c.accuracy for c in tried] == [judge(c.model, held()) for c in tried]
    assert [c.accuracy for c in tried] != [judge(c.model, answers()) for c in tried]


def test_it_compresses_like_n2n_where_nobody_is_stopped():
    loader = [(X[:200], Y[:200])]
    teacher = big()
    torch.manual_seed(0)
    train_students([teacher], answers(), epochs=40, learning_rate=1e-2)
    found, accuracies = [], []
    for kind, extra in ((N2N, {}), (EarlyStoppingN2N, {"look": 1, "least": 1e-9})):
        torch.manual_seed(5)
        n2n = kind(0, 2, epochs=3, final_epochs=2, generator=torch.Generator().manual_seed(0), **extra)
        found.append(n2n.compress(teacher, loader, [(X[200:], Y[200:])]))
        accuracies.append([candidate.accuracy for candidate in n2n.searches[0].history])
    assert accuracies[0] == accuracies[1]
    assert str(found[0]) == str(found[1])
    assert torch.equal(weights(found[0]), weights(found[1]))


def test_requests_that_make_no_sense():
    with pytest.raises(ValueError, match="look must be"):
        EarlyStoppingN2N(1, 1, epochs=2, look=2)
    with pytest.raises(ValueError, match="least"):
        EarlyStoppingN2N(1, 1, least=1.0)
