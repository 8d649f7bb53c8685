"""Students trained together, and the whole of N2N on a small teacher."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import N2N, Answers, ask_teacher, judge, train_students
from neurarium.learning import Backprop
from neurarium.search import Candidate
from neurarium.training import fit

X = torch.randn(200, 8)
Y = X[:, :3].argmax(1)
LOADER = [(X[i : i + 40], Y[i : i + 40]) for i in range(0, 200, 40)]


def teacher(epochs=30):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    fit(Backprop(model, cross_entropy), LOADER, torch.optim.Adam(model.parameters(), 1e-2), epochs=epochs)
    return model


def test_students_trained_together_learn_as_each_would_alone():
    model = teacher()
    answers = ask_teacher(model, LOADER)
    assert torch.equal(answers.logits, model(X))
    assert answers.accuracy == pytest.approx(float((model(X).argmax(1) == Y).float().mean()))
    students = [nn.Linear(8, 3), nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))]
    alone = copy.deepcopy(students)
    torch.manual_seed(1)
    train_students(students, answers, epochs=2)
    for student in alone:
        torch.manual_seed(1)
        train_students([student], answers, epochs=2)
    for a, b in zip(nn.ModuleList(students).parameters(), nn.ModuleList(alone).parameters()):
        torch.testing.assert_close(a, b)


def test_a_student_of_the_same_form_reaches_its_teachers_logits():
    model = nn.Linear(8, 3)
    with torch.no_grad():
        answers = Answers(X, Y, model(X))
    student = nn.Linear(8, 3)
    train_students([student], answers, epochs=60, learning_rate=0.02, weight_decay=0, anneal=True)
    torch.testing.assert_close(student.weight, model.weight, rtol=0.01, atol=0.01)
    assert judge(student, answers) == pytest.approx(float((model(X).argmax(1) == Y).float().mean()))


class Constant(nn.Module):
    """Says the same of everything; `reset` leaves its numbers as they are."""

    def __init__(self, *said):
        super().__init__()
        self.said = nn.Parameter(torch.tensor(said))

    def forward(self, x):
        return self.said.expand(len(x), -1)


def test_a_step_is_adams_on_the_squared_distance_of_logits_and_the_cross_entropy():
    answers = Answers(X, Y, torch.randn(200, 3))
    student = Constant(0.5, -0.25, 0.0)
    train_students([student], answers, epochs=2, learning_rate=1e-9, weight_decay=0, batch_size=200)
    wanted = 2 * (torch.tensor([0.5, -0.25, 0.0]) - answers.logits.mean(0))  # of 1/N Σ |f - t|², of the last step only
    torch.testing.assert_close(student.said.grad, wanted, rtol=1e-4, atol=1e-6)
    train_students([student], answers, epochs=2, learning_rate=1e-9, weight_decay=0, batch_size=200, labels=3.0)
    shares = torch.bincount(Y, minlength=3) / 200
    wanted = wanted + 3 * (torch.tensor([0.5, -0.25, 0.0]).softmax(0) - shares)
    torch.testing.assert_close(student.said.grad, wanted, rtol=1e-4, atol=1e-6)


def test_the_rate_falls_to_zero_in_a_line_and_weights_decay():
    far = Answers(X, Y, torch.full((200, 3), 1e6))  # a slope that hardly changes: Adam moves by its rate
    for anneal, steps in ((True, 1 + 0.75 + 0.5 + 0.25), (False, 4)):
        student = Constant(0.0, 0.0, 0.0)
        train_students([student], far, epochs=2, learning_rate=0.1, batch_size=100, anneal=anneal)
        torch.testing.assert_close(student.said.detach(), torch.full((3,), 0.1 * steps))
    here = Answers(X, Y, torch.tensor([1.0, -2.0, 0.0]).expand(200, 3))  # nothing to learn: weight decay is left
    for decay, moved in ((5e-4, [-0.1, 0.1, 0.0]), (0.0, [0.0, 0.0, 0.0])):
        student = Constant(1.0, -2.0, 0.0)
        train_students([student], here, epochs=1, learning_rate=0.1, batch_size=200, weight_decay=decay)
        torch.testing.assert_close(student.said.detach(), torch.tensor([1.0, -2.0, 0.0]) + torch.tensor(moved))


def test_teachers_and_students_are_asked_in_evaluation_mode():
    class Noisy(nn.Module):
        def forward(self, x):
            return -x[:, :3] if self.training else x[:, :3]

    model = Noisy()
    answers = ask_teacher(model, LOADER)
    assert torch.equal(answers.logits, X[:, :3])
    assert model.training
    assert judge(model, answers) == answers.accuracy == 1


class Chosen(N2N):
    """Keeps what the search is given, and finds the network it was made with."""

    def __init__(self, found, **options):
        super().__init__(**options)
        self.found = found

    def search(self, teacher, train, held):
        self.train, self.held = train, held
        return self.found


class Exact(nn.Module):
    """A linear map without a way to start anew."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return x @ self.weight


def test_students_are_searched_on_a_part_and_the_best_learns_from_labels_on_all_of_it():
    weight = torch.randn(8, 3)
    weight[:3] += 6 * torch.eye(3)
    model, found = Exact(weight), Exact(weight.clone())
    n2n = Chosen(found, search_examples=70, final_epochs=1, learning_rate=0.1, batch_size=500)
    assert n2n.compress(model, LOADER) is found
    assert (len(n2n.held.x), len(n2n.train.x)) == (40, 70)
    rows = [tuple(row) for part in (n2n.held, n2n.train) for row in part.x.tolist()]
    assert len(set(rows)) == 110  # nothing in both
    place = {tuple(row): i for i, row in enumerate(X.tolist())}
    for part in (n2n.held, n2n.train):
        at = [place[tuple(row)] for row in part.x.tolist()]
        assert torch.equal(part.y, Y[at])
        torch.testing.assert_close(part.logits, X[at] @ weight)
    seen = torch.ones(200, dtype=torch.bool)  # it knows the teacher's logits already, so labels and decay are left
    seen[[place[tuple(row)] for row in n2n.held.x.tolist()]] = False
    x, y = X[seen], Y[seen]
    slope = x.T @ ((x @ weight).softmax(1) - nn.functional.one_hot(y, 3)) / len(x) + 5e-4 * weight
    large = slope.abs() > 1e-5
    assert int(large.sum()) > 20
    torch.testing.assert_close((found.weight.detach() - weight)[large], -0.1 * slope.sign()[large], rtol=0.01, atol=0)


def test_the_best_student_starts_anew():
    found = nn.Linear(8, 3)
    before = found.weight.detach().clone()
    small = Chosen(found, final_epochs=0).compress(teacher(), LOADER)
    assert not bool((small.weight == before).any())


def test_a_teacher_that_always_says_the_commonest_class_is_at_chance():
    y = torch.tensor([0] * 12 + [1] * 8)
    with pytest.raises(ValueError, match=r"0\.600 is at chance \(0\.600\)"):
        N2N(0, 1).compress(Constant(1.0, 0.0), [(X[:20], y)], [(X[:20], y)])


def test_the_better_of_both_stages_wins_and_each_has_its_rate():
    n2n = N2N(
        1, 1, removal_rate=0.25, shrink_rate=0.5, epochs=1, students_per_iteration=2, clip_accuracy=True,
        max_parameters=265,
    )  # fmt: skip
    model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 2))
    x = torch.randn(20, 1, 4, 4)
    answers = ask_teacher(model, [(x, model(x).argmax(1))])
    n2n.search(model, answers, answers)
    assert [s.reinforce.optimizer.param_groups[0]["lr"] for s in n2n.searches] == [0.25, 0.5]
    assert all(s.clip_accuracy and s.max_parameters == 265 for s in n2n.searches)
    models = [nn.Linear(2, 2), nn.Linear(2, 2)]
    for rewards in ((0.7, 0.5), (0.2, 0.5)):
        for search, reward, small in zip(n2n.searches, rewards, models):
            search.history = [Candidate(torch.zeros(1), small, 1, 1.0, reward)]
        assert n2n._best(model) is models[rewards[1] > rewards[0]]


def test_compress_searches_within_a_budget_and_leaves_the_teacher_alone():
    model = teacher()
    before = copy.deepcopy(model.state_dict())
    n2n = N2N(2, 4, epochs=2, final_epochs=30, max_parameters=400, generator=torch.Generator().manual_seed(0))
    small = n2n.compress(model, LOADER)
    assert sum(p.numel() for p in small.parameters()) <= 400
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert len(n2n.searches) == 1  # a plain stack of linear layers has nothing to remove
    assert len(n2n.searches[0].history) == 20
    assert len(n2n.searches[0].rewards) == 4
    again = N2N(0, 1, final_epochs=1, policies=(None, n2n.searches[0].policy))
    again.compress(model, LOADER, LOADER)
    assert again.searches[0].policy is n2n.searches[0].policy


def test_students_of_both_stages_are_judged_on_held_out_examples_and_measured_against_the_teacher():
    torch.manual_seed(0)
    x = torch.randn(60, 1, 6, 6)
    y = (x.mean((1, 2, 3)) > 0).long()
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(54, 2),
    )  # fmt: skip
    fit(Backprop(model, cross_entropy), [(x, y)], torch.optim.Adam(model.parameters(), 1e-2), epochs=30)
    train, held = ask_teacher(model, [(x[:40], y[:40])]), ask_teacher(model, [(x[40:], y[40:])])
    n2n = N2N(3, 2, epochs=1, students_per_iteration=4, generator=torch.Generator().manual_seed(0))
    n2n.search(model, train, held)
    size = sum(p.numel() for p in model.parameters())
    removal, narrow = n2n.searches
    assert removal.best().model is narrow.base  # stage 2 starts from the best of stage 1
    assert removal.best().parameters < size
    for search in n2n.searches:
        assert search.teacher_parameters == size  # ... and is still compared with the teacher
        tried = [c for c in search.history if c.model is not None]
        fresh = {str(c.model): c for c in reversed(tried)}  # the first of each architecture was trained
        assert all(c.accuracy == judge(c.model, held) for c in fresh.values())
        for c in tried:
            saved = 1 - c.parameters / size
            assert c.reward == pytest.approx(saved * (2 - saved) * c.accuracy / held.accuracy)


def test_requests_that_make_no_sense():
    untrained = teacher(epochs=0)
    with torch.no_grad():
        untrained[4].weight.zero_()
    with pytest.raises(ValueError, match="meaningless"):
        N2N(1, 1).compress(untrained, LOADER)
    with pytest.raises(ValueError, match=r"max_parameters is 5, but the smallest student has \d+"):
        N2N(0, 1, max_parameters=5).compress(teacher(), LOADER)
    with pytest.raises(ValueError, match="nor both 0"):
        N2N(0, 0)
