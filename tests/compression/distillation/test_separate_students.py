"""Students trained apart: the same whoever trains them, kept when they have learnt, and recurrent ones."""

import copy

import pytest
import torch
from torch import nn

from neurarium.compression import SeparateTeacherClass, TeacherClass, recurrent_student
from neurarium.compression.distillation._separate_students import _mark

torch.manual_seed(0)
X = torch.randn(80, 6)
LOADER = [(X, (X[:, 0] > 0).long())]
TEACHER = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 2))
OPTIONS = {"budget": 1.0, "epochs": 3, "head_epochs": 2, "batch_size": 20}


def compressed(method, seed=3):
    torch.manual_seed(seed)
    return method.compress(TEACHER, LOADER)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_processes_give_what_this_one_gives():
    here = compressed(SeparateTeacherClass(2, **OPTIONS))
    assert same(here, compressed(SeparateTeacherClass(2, workers=2, **OPTIONS)))
    assert not same(here, compressed(SeparateTeacherClass(2, **OPTIONS), seed=4))
    with pytest.raises(ValueError, match="workers must be at least 1"):
        SeparateTeacherClass(workers=0)


def test_one_student_alone_learns_as_in_the_plain_class():
    method, plain = SeparateTeacherClass(1, **OPTIONS), TeacherClass(1, **OPTIONS)
    pupil, target = nn.Linear(6, 8), torch.randn(80, 8)
    other = copy.deepcopy(pupil)
    torch.manual_seed(5)
    (error,) = method.training([pupil], [target], X)
    torch.manual_seed(5)
    seed = int(torch.randint(2**31, (1,)))
    torch.manual_seed(seed)
    *_, last = plain.training([other], [target], X)
    assert same(pupil, other)
    assert torch.equal(error, last)


def test_a_students_mark_is_of_all_that_its_training_depends_on():
    torch.manual_seed(0)
    pupil, target = nn.Linear(6, 4), torch.randn(80, 4)
    given = {"method": TeacherClass(2, **OPTIONS), "pupil": pupil, "target": target, "x": X, "seed": 1}
    mark = _mark(**given)
    assert mark == _mark(**(given | {"pupil": copy.deepcopy(pupil)}))
    changed = [{"pupil": nn.Linear(6, 4)}, {"target": target + 1e-6}, {"x": X.flip(0)}, {"seed": 2}]
    changed += [
        {"method": TeacherClass(2, **(OPTIONS | {name: value}))}
        for name, value in (("mode", "adversarial"), ("epochs", 4), ("learning_rate", 1e-4), ("batch_size", 21))
    ]
    assert len({mark, *(_mark(**(given | one)) for one in changed)}) == 1 + len(changed)


def test_training_leaves_the_random_numbers_of_others_alone():
    drawn = []
    for epochs in (1, 5):
        torch.manual_seed(0)
        method = SeparateTeacherClass(2, **(OPTIONS | {"epochs": epochs}))
        list(method.training([nn.Linear(6, 4), nn.Linear(6, 4)], [torch.zeros(80, 4)] * 2, X))
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)


def test_what_has_learnt_is_not_trained_again(tmp_path, monkeypatch):
    first = compressed(SeparateTeacherClass(3, folder=tmp_path, **OPTIONS))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"student-{k}.pt" for k in range(3)]
    (tmp_path / "student-1.pt").unlink()  # killed before this one was done
    trained = []
    original = TeacherClass.training

    def counted(self, pupils, targets, x):
        trained.append(len(pupils))
        return original(self, pupils, targets, x)

    monkeypatch.setattr(TeacherClass, "training", counted)
    again = compressed(SeparateTeacherClass(3, folder=tmp_path, **OPTIONS))
    assert trained == [1]
    assert same(first, again)
    compressed(SeparateTeacherClass(3, folder=tmp_path, **(OPTIONS | {"epochs": 4})))
    assert trained == [1, 1, 1, 1]  # other settings: all three anew


def test_a_recurrent_student_is_as_large_as_allowed_and_reads_any_length():
    for parameters in (200, 1000, 5000):
        student = recurrent_student((7, 5), 4, parameters)
        count = sum(p.numel() for p in student.parameters())
        wider = sum(p.numel() for p in type(student)(5, 4, student.gru.hidden_size + 1).parameters())
        assert count <= parameters < wider
    assert student(torch.randn(2, 11, 5)).shape == (2, 4)
    x, y = torch.randn(60, 7, 5), torch.arange(60) % 2
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(35, 8), nn.ReLU(), nn.Linear(8, 2))
    found = TeacherClass(2, student=recurrent_student, budget=2.0, epochs=1, head_epochs=1).compress(teacher, [(x, y)])
    assert found(x).shape == (60, 2)
    with pytest.raises(ValueError, match="raise the budget"):
        recurrent_student((7, 5), 4, 10)
    with pytest.raises(ValueError, match="shape must be"):
        recurrent_student((5,), 4, 100)
