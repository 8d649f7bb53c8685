"""Teacher-class networks: exact students give the teacher's own answers; counts; failing students; the judge."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear, mse_loss

from neurarium.compression import ClassOfStudents, TeacherClass, record, small_student
from neurarium.compression.distillation._teacher_class import Judge, cut, teach
from neurarium.learning import Backprop
from neurarium.objectives import distillation_loss
from neurarium.training import fit

SPLITS = ["contiguous", "random", "overlapping", "svd"]


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(160, 6, generator=generator, dtype=dtype)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def trained_teacher(dtype=torch.float64):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3)).to(dtype)
    fit(Backprop(teacher, cross_entropy), [problem(dtype)], torch.optim.Adam(teacher.parameters(), 1e-2), epochs=60)
    return teacher


class Exact(nn.Module):
    """A student that knows its chunk by heart."""

    def __init__(self, x, chunk):
        super().__init__()
        self.x, self.chunk = x, chunk

    def forward(self, x):
        return self.chunk[(x[:, None] == self.x[None]).all(2).double().argmax(1)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("students", [1, 3, 5])
def test_students_that_give_their_chunks_are_the_teacher(split, students):
    teacher, (x, y) = trained_teacher(), problem()
    known = record(teacher, [(x[:100], y[:100]), (x[100:], y[100:])])
    chunks, basis, centre = cut(known.representation, students, split)
    whole = ClassOfStudents([Exact(x, c) for c in chunks], basis, centre, teacher[-1], rectify=True).eval()
    assert torch.allclose(whole.representation(x), known.representation, atol=1e-12)
    assert torch.allclose(whole(x), teacher(x), atol=1e-12)
    if split in ("contiguous", "random"):
        assert torch.equal(whole(x), linear(known.representation, teacher[-1].weight, teacher[-1].bias))
        assert sum(c.shape[1] for c in chunks) == 10


def test_a_missing_student_is_zero_in_the_heads_columns():
    teacher, (x, y) = trained_teacher(), problem()
    chunks, basis, centre = cut(record(teacher, [(x, y)]).representation, 5, "contiguous")
    whole = ClassOfStudents([Exact(x, c) for c in chunks], basis, centre, teacher[-1], rectify=True).eval()
    silent = copy.deepcopy(whole)
    with torch.no_grad():
        silent.head.weight[:, 2:4] = 0
    assert torch.allclose(whole.drop(1)(x), silent(x))
    assert torch.equal(whole(x), whole.drop()(x))
    with pytest.raises(ValueError, match="no student 5"):
        whole.drop(5)


def test_a_linear_student_reaches_least_squares():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).double()
    x, y = problem()
    method = TeacherClass(
        1, student=lambda shape, chunk, parameters: nn.Linear(shape[0], chunk).double(), epochs=300, head_epochs=0,
        learning_rate=3e-2,
    )  # fmt: skip
    found = method.compress(teacher, [(x, y)])
    assert mse_loss(found.representation(x), teacher[0](x)).item() < 1e-6
    assert torch.allclose(found(x), teacher(x), atol=1e-2)


def test_each_student_steps_along_its_own_error_and_the_errors_are_told():
    x, _ = problem()
    chunks = [torch.randn(160, 2).double(), torch.randn(160, 3).double()]
    pupils = [nn.Linear(6, 2).double(), nn.Linear(6, 3).double()]
    method = TeacherClass(2, epochs=2, learning_rate=1e-12, batch_size=100)  # 100 and 60 examples
    with torch.no_grad():
        wanted = torch.stack([(pupil(x) - chunk).square().mean() for pupil, chunk in zip(pupils, chunks)])
    for errors in method.training(pupils, chunks, x):
        torch.testing.assert_close(errors.double(), wanted, rtol=1e-5, atol=0)
    method = TeacherClass(2, epochs=1, learning_rate=1e-12, batch_size=160)
    list(method.training(pupils, chunks, x))
    for pupil, chunk in zip(pupils, chunks):
        slope = 2 * (pupil(x) - chunk).mean(0) / chunk.shape[1]  # of the mean over examples and features
        torch.testing.assert_close(pupil.bias.grad, slope.detach())


def plain(shape, chunk, parameters):
    return nn.Linear(shape[0], chunk).double()


def test_negative_values_are_cut_where_the_teacher_has_none():
    teacher = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).double()
    options = {"student": plain, "epochs": 0, "head_epochs": 0}
    assert TeacherClass(2, **options).compress(trained_teacher(), [problem()]).rectify
    assert not TeacherClass(2, **options).compress(teacher, [problem()]).rectify


def test_all_students_share_the_budget():
    teacher = nn.Sequential(nn.Linear(6, 100), nn.ReLU(), nn.Linear(100, 20), nn.ReLU(), nn.Linear(20, 3))
    size = sum(p.numel() for p in teacher.parameters())
    for students in (1, 2, 4):
        found = TeacherClass(students, budget=0.3, epochs=0, head_epochs=0).compress(teacher, [problem(torch.float32)])
        assert 0.2 * size < sum(p.numel() for p in found.students.parameters()) <= 0.3 * size


class Normed(nn.Module):
    """Counts the batches that it has seen in training."""

    def __init__(self, inputs, chunk):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(inputs), nn.Linear(inputs, chunk)

    def forward(self, x):
        return self.linear(self.norm(x))


@pytest.mark.parametrize("joint", [False, True])
def test_students_learn_with_the_head_only_when_asked(joint):
    teacher, given = trained_teacher(torch.float32), [problem(torch.float32)]
    options = {"student": lambda shape, chunk, _: Normed(shape[0], chunk), "epochs": 3, "joint": joint}
    found = []
    for head_epochs in (0, 4):
        torch.manual_seed(0)
        method = TeacherClass(2, head_epochs=head_epochs, batch_size=40, **options)
        found.append(method.compress(teacher, given))
    before, after = (torch.cat([s.linear.weight.flatten() for s in whole.students]) for whole in found)
    assert torch.equal(before, after) != joint
    assert [int(s.norm.num_batches_tracked) for s in found[1].students] == [12 + 16 * joint] * 2
    assert all(p.requires_grad for p in found[1].students.parameters())


def test_the_head_learns_on_what_dropout_leaves():
    torch.manual_seed(0)
    teacher = trained_teacher()
    options = {"student": plain, "epochs": 1, "head_epochs": 1}
    found = TeacherClass(2, dropout=1.0, **options).compress(teacher, [problem()])
    assert torch.equal(found.head.weight, teacher[-1].weight)  # nothing is left to learn from
    assert not torch.equal(found.head.bias, teacher[-1].bias)
    assert torch.equal(found.train()(problem()[0]), found.head.bias.expand(160, -1))


def test_chunks_of_each_split():
    torch.manual_seed(0)
    seen = torch.randn(50, 10).double() @ torch.randn(10, 10).double() + 3
    chunks, basis, centre = cut(seen, 5, "overlapping")  # twice as long, each feature in two
    assert [c.shape[1] for c in chunks] == [4] * 5
    assert torch.equal(chunks[4], seen[:, [8, 9, 0, 1]])
    places = [place % 10 for k in range(5) for place in range(2 * k, 2 * k + 4)]
    assert torch.equal(basis, 0.5 * torch.eye(10).double()[places])
    chunks, basis, _ = cut(seen, 3, "random")
    assert [c.shape[1] for c in chunks] == [4, 3, 3]
    assert not torch.equal(basis, torch.eye(10).double())
    assert torch.equal(basis.sum(0), torch.ones(10).double())
    chunks, _, centre = cut(seen, 3, "svd")
    torch.testing.assert_close(centre, seen.mean(0))
    joined = torch.cat(chunks, 1)
    variance = joined.T @ joined / 50  # along principal axes: no correlation, most first
    torch.testing.assert_close(variance, torch.diag(variance.diagonal()), rtol=0, atol=1e-9)
    torch.testing.assert_close(variance.diagonal(), torch.linalg.eigvalsh(seen.T.cov(correction=0)).flip(0))
    torch.testing.assert_close(joined.mean(0), torch.zeros(10).double(), rtol=0, atol=1e-9)


def test_a_new_head_is_trained_on_frozen_students():
    whole = TeacherClass(2, student=plain, epochs=1, head_epochs=1).compress(trained_teacher(), [problem()])
    other = whole.new_head(7)
    x = problem()[0]
    assert other(x).shape == (160, 7)
    assert torch.equal(other.representation(x), whole.representation(x))
    assert {name.split(".")[0] for name, p in other.named_parameters() if p.requires_grad} == {"head"}
    assert whole(x).shape == (160, 3)
    assert all(p.requires_grad for p in whole.parameters())


def test_errors_of_chunks_add_up_to_that_of_the_representation():
    known = record(trained_teacher(), [problem()]).representation
    chunks, basis, centre = cut(known, 4, "svd")
    given = [c + 0.1 * torch.randn_like(c) for c in chunks]
    whole = (torch.cat(given, 1) @ basis + centre - known).square().sum()
    assert whole.item() == pytest.approx(sum((g - c).square().sum().item() for g, c in zip(given, chunks, strict=True)))


@pytest.mark.parametrize("mode", ["mse", "adversarial"])
def test_the_head_learns_on_frozen_students_and_the_teacher_is_untouched(mode):
    teacher, (x, y) = trained_teacher(torch.float32), problem(torch.float32)
    before = copy.deepcopy(teacher.state_dict())
    torch.manual_seed(1)
    method = TeacherClass(2, mode=mode, budget=1.0, epochs=15, head_epochs=0)
    plain = method.compress(teacher, [(x, y)])
    torch.manual_seed(1)
    method.head_epochs = 20
    tuned = method.compress(teacher, [(x, y)])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(torch.equal(p, q) for p, q in zip(plain.students.parameters(), tuned.students.parameters(), strict=True))
    assert torch.equal(plain.head.weight, teacher[-1].weight)
    assert cross_entropy(tuned(x), y) < cross_entropy(plain(x), y)


def test_counts_of_the_authors_notebooks():
    teacher = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Flatten(), nn.Linear(9216, 256), nn.Linear(256, 256),
        nn.Linear(256, 10),
    )  # fmt: skip
    assert sum(p.numel() for p in teacher.parameters()) == 2_446_730
    judge = Judge(64)  # the notebook counts running means and variances too
    kept = [b.numel() for name, b in judge.named_buffers() if "running" in name]
    assert sum(p.numel() for p in judge.parameters()) + sum(kept) == 776_705


def test_the_judge_tells_real_from_fake_and_the_student_persuades_it():
    torch.manual_seed(0)
    judge, real, fake = Judge(4), torch.randn(64, 4) + 2, torch.randn(64, 4) - 2
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(40):
        teach([judge], optimizer, [fake], [real])
    assert judge.persuaded(real, real) < judge.persuaded(fake, real)
    fake.requires_grad_()
    judge.persuaded(fake, real).backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.requires_grad for p in judge.parameters())


def test_a_step_of_the_judge_is_along_its_four_losses_and_leaves_the_student_alone():
    torch.manual_seed(0)
    judge, real, fake = Judge(4), torch.randn(8, 4), torch.randn(8, 4, requires_grad=True)
    twin = copy.deepcopy(judge)
    losses = []
    for chunk, is_real in ((real, 1.0), (fake.detach(), 0.0)):
        hidden = twin.body(chunk)
        chance = twin.real(hidden).squeeze(1).sigmoid()
        losses.append(-(is_real * chance.log() + (1 - is_real) * (1 - chance).log()).mean())
        losses.append((twin.reconstruct(hidden) - real).square().mean())  # always the teacher's
    sum(losses).backward()
    teach([judge], torch.optim.SGD(judge.parameters(), 1.0), [fake], [real])
    assert fake.grad is None
    for after, before in zip(judge.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(after, before - before.grad, rtol=1e-4, atol=1e-6)


def test_without_its_verdict_the_judge_is_a_fixed_head_for_mean_squares():
    torch.manual_seed(0)
    judge, real = Judge(4).eval(), torch.randn(8, 4)
    student, x = nn.Linear(3, 4), torch.randn(8, 3)
    with torch.no_grad():
        judge.real.weight.zero_()  # says the same of everything: a constant in the loss
    judge.persuaded(student(x), real).backward()
    found = student.weight.grad.clone()
    student.zero_grad()
    mse_loss(judge.reconstruct(judge.body(student(x))), real).backward()
    torch.testing.assert_close(found, student.weight.grad)


def test_what_a_relu_cannot_give_is_cut():
    head, minus = nn.Linear(3, 2), nn.Linear(3, 3)
    eye, x = torch.eye(3), torch.randn(5, 3)
    with torch.no_grad():
        minus.weight.copy_(-eye)
        minus.bias.zero_()
    for rectify in (True, False):
        whole = ClassOfStudents([minus], eye, torch.zeros(3), head, rectify=rectify).eval()
        assert torch.equal(whole(x), head((-x).relu() if rectify else -x))


@pytest.mark.parametrize(
    ("shape", "parameters"), [((30,), 500), ((28, 28), 3000), ((3, 32, 32), 20_000), ((5, 4), 200)]
)
def test_a_student_is_as_large_as_allowed(shape, parameters):
    student = small_student(shape, 16, parameters)
    assert 0.8 * parameters < sum(p.numel() for p in student.parameters()) <= parameters
    assert student(torch.randn(2, *shape)).shape == (2, 16)
    with pytest.raises(ValueError, match="raise the budget"):
        small_student(shape, 16, 3)


def test_distillation_is_its_formula():
    logits, teacher, y = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    assert torch.allclose(distillation_loss(logits, teacher, y, weight=0.0), cross_entropy(logits, y))
    soft, own = (teacher / 2).softmax(1), (logits / 2).softmax(1)
    expected = 4 * (soft * (soft / own).log()).sum(1).mean()
    assert torch.allclose(distillation_loss(logits, teacher, y, temperature=2.0, weight=1.0), expected, atol=1e-6)
    with pytest.raises(ValueError, match="temperature"):
        distillation_loss(logits, teacher, y, temperature=0.0)


def test_what_cannot_be_done_is_said():
    x, y = problem()
    with pytest.raises(ValueError, match="10 features cannot be cut for 11"):
        TeacherClass(11).compress(trained_teacher(), [(x, y)])
    with pytest.raises(ValueError, match="no layer 'fc'; did you mean"):
        TeacherClass(head="fc").compress(trained_teacher(), [(x, y)])
    with pytest.raises(ValueError, match="must be the model's last step"):
        TeacherClass(head="0").compress(trained_teacher(), [(x, y)])
    with pytest.raises(TypeError, match="1 is ReLU"):
        TeacherClass(head="1").compress(trained_teacher(), [(x, y)])
    for wrong in ({"split": "thin"}, {"mode": "gan"}, {"students": 0}, {"budget": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            TeacherClass(**wrong)
