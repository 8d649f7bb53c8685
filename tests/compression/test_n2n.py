"""Students trained together, and the whole of N2N on a small teacher."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import N2N, Answers, ask_teacher, judge, train_students
from neurarium.learning import Backprop
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
