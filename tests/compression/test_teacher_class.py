"""Teacher-class networks: exact students give the teacher's own answers; counts; failing students; the judge."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear, mse_loss

from neurarium.compression import ClassOfStudents, TeacherClass, record, small_student
from neurarium.compression.teacher_class import Judge, cut, teach
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
