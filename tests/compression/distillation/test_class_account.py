"""What a class of students costs beside its teacher, and how well each student meets its chunk."""

import pytest
import torch
from torch import nn

from neurarium.compression import Account, ClassAccount, ClassOfStudents, Latency, TeacherClass, milliseconds, record
from neurarium.compression.distillation._teacher_class import cut

torch.manual_seed(0)
X = torch.randn(64, 6)
TEACHER = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3))
KNOWN = record(TEACHER, [(X, torch.arange(64) % 3)]).representation


def made(students, split="contiguous", noise=0.0, rectify=True, parts=None):
    """A class whose students give their chunks, each with noise of its own size."""
    chunks, basis, centre = parts or cut(KNOWN, students, split)
    said = [c + noise * (k + 1) * torch.randn(c.shape) for k, c in enumerate(chunks)]
    return ClassOfStudents([Says(c) for c in said], basis, centre, TEACHER[-1], rectify=rectify).eval()


class Says(nn.Module):
    def __init__(self, chunk):
        super().__init__()
        self.chunk = chunk

    def forward(self, x):
        return self.chunk


def test_the_account_is_the_count_by_hand():
    pupils = [nn.Linear(6, 8, bias=False), nn.Sequential(nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 4))]
    whole = ClassOfStudents(pupils, torch.eye(12), torch.zeros(12), TEACHER[-1])
    found = whole.account(TEACHER, X[:1])
    assert found.teacher.parameters == 6 * 20 + 20 + 20 * 12 + 12 + 12 * 3 + 3
    assert [s.parameters for s in found.students] == [48, 26]
    assert found.whole.parameters == 48 + 26 + 12 * 3 + 3
    assert found.teacher.flops == 2 * (6 * 20 + 20 * 12 + 12 * 3)
    assert [s.flops for s in found.students] == [2 * 48, 2 * (12 + 8)]
    joining = 2 * 12 * 3  # only the head: contiguous chunks need no product
    assert found.whole.flops == 96 + 40 + joining
    assert found.parallel_flops == 96 + joining  # the cheaper student is done by then
    assert found.parameter_ratio == 113 / 431
    assert found.flop_ratio == pytest.approx((136 + joining) / 792)
    assert found.parallel_flop_ratio == pytest.approx((96 + joining) / 792)
    assert "113 parameters (26.2% of the teacher's), at most 48 in a student; 208 FLOPs" in found.summary()


@pytest.mark.parametrize(("split", "products"), [("contiguous", 0), ("random", 0), ("overlapping", 24), ("svd", 12)])
def test_chunks_that_are_only_put_in_order_cost_no_product(split, products):
    whole = made(3, split)
    found = whole.account(TEACHER, X[:1])
    assert found.whole.flops == 2 * (64 * 12 * products + 64 * 12 * 3)  # its students answer for all 64 rows
    kept = {name for name in whole.state_dict() if name in ("basis", "order")}
    assert kept == {"basis" if products else "order"}


def test_ratios_are_those_of_the_parts():
    costs = [Account(parameters=n, nonzero=n, bytes=n, flops=10 * n) for n in (100, 60, 20, 30)]
    found = ClassAccount(costs[0], costs[1], (costs[2], costs[3]))
    assert (found.parameter_ratio, found.flop_ratio) == (0.6, 0.6)
    assert found.parallel_flops == 600 - 200
    assert found.parallel_flop_ratio == 0.4


def test_an_answer_waits_for_all_students_or_for_the_slowest():
    assert (Latency((3.0, 1.0), 0.5).in_turn, Latency((3.0, 1.0), 0.5).parallel) == (4.5, 3.5)
    slow = nn.Sequential(*(nn.Linear(6, 6) for _ in range(60)))
    whole = ClassOfStudents([slow, nn.Linear(6, 6)], torch.eye(12), torch.zeros(12), TEACHER[-1]).train()
    found = whole.latency(X[:1])
    assert found.students[0] > found.students[1] > 0
    assert found.head > 0
    assert whole.training


def test_the_median_leaves_the_first_call_and_outliers_out(monkeypatch):
    calls, clock = [], iter([0, 100, 0, 1, 0, 9, 0, 2])  # first call 100 s, then 1, 9 and 2
    monkeypatch.setattr("neurarium.compression.distillation._class_account._now", lambda: next(clock))
    assert milliseconds(lambda: calls.append(0), repetitions=3) == 2000
    assert len(calls) == 4
    with pytest.raises(ValueError, match="repetitions must be at least 1"):
        milliseconds(list, repetitions=0)


@pytest.mark.parametrize("split", ["contiguous", "random", "overlapping", "svd"])
def test_exact_students_explain_their_chunks(split):
    assert torch.allclose(made(3, split).chunk_fit(X, KNOWN), torch.ones(3), atol=1e-4)


def test_each_number_is_the_r2_of_its_own_columns():
    whole = made(3, noise=0.1)
    found = whole.representation(X)
    for k, r2 in enumerate(whole.chunk_fit(X, KNOWN).tolist()):
        part = slice(4 * k, 4 * k + 4)
        error = ((found - KNOWN)[:, part] ** 2).sum()
        assert r2 == pytest.approx(1 - float(error / ((KNOWN - KNOWN.mean(0))[:, part] ** 2).sum()), rel=1e-5)


def test_chunks_that_overlap_are_each_judged_on_all_their_columns():
    chunks, basis, centre = cut(KNOWN, 5, "overlapping")  # six features each; some are in two chunks, some in three
    assert len(set(basis[basis > 0].tolist())) == 2
    whole = made(5, noise=0.1, parts=(chunks, basis, centre))
    found = whole.representation(X)
    for r2, rows in zip(whole.chunk_fit(X, KNOWN).tolist(), basis.split(6)):
        part = rows.argmax(1)
        error = ((found - KNOWN)[:, part] ** 2).sum()
        assert r2 == pytest.approx(1 - float(error / ((KNOWN - KNOWN.mean(0))[:, part] ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize("split", ["contiguous", "random", "svd"])
@pytest.mark.parametrize("rectify", [True, False])
def test_the_r2_of_the_whole_is_the_mean_over_chunks_weighted_by_their_variation(split, rectify):
    chunks, basis, centre = cut(KNOWN, 4, split)
    whole = made(4, noise=0.1, rectify=rectify, parts=(chunks, basis, centre))
    fit = whole.chunk_fit(X, KNOWN)
    seen = (KNOWN @ basis.T).split(3, 1)  # along orthonormal axes
    spread = torch.stack([(c - c.mean(0)).square().sum() for c in seen])
    total = 1 - (whole.representation(X) - KNOWN).square().sum() / (KNOWN - KNOWN.mean(0)).square().sum()
    torch.testing.assert_close((fit * spread).sum() / spread.sum(), total.to(fit))
    assert fit[0] != fit[1]


def test_a_student_that_says_the_mean_or_nothing_explains_nothing():
    whole = made(3)
    whole.students[1].chunk = KNOWN[:, 4:8].mean(0).expand(64, 4)
    fit = whole.chunk_fit(X, KNOWN)
    assert fit.tolist() == pytest.approx([1, 0, 1], abs=1e-5)
    silent = made(3).drop(2).chunk_fit(X, KNOWN)
    assert silent[:2].tolist() == pytest.approx([1, 1], abs=1e-5)
    wrong = KNOWN[:, 8:]
    assert silent[2].item() == pytest.approx(1 - float(wrong.square().sum() / (wrong - wrong.mean(0)).square().sum()))


def test_a_chunk_that_does_not_vary_has_no_r2():
    flat = KNOWN.clone()
    flat[:, :4] = 2.0
    chunks, basis, centre = cut(flat, 3, "contiguous")
    whole = ClassOfStudents([Says(c) for c in chunks], basis, centre, TEACHER[-1])
    fit = whole.chunk_fit(X, flat)
    assert fit.isnan().tolist() == [True, False, False]
    with pytest.raises(ValueError, match=r"representation must be \[64, 12\], not \[64, 11\]"):
        whole.chunk_fit(X, KNOWN[:, :11])


def test_a_trained_class_has_all_of_it():
    small = TeacherClass(2, budget=0.8, epochs=3, head_epochs=1).compress(TEACHER, [(X, torch.arange(64) % 3)])
    assert small.account(TEACHER, X[:1]).parameter_ratio < 1
    assert small.chunk_fit(X, KNOWN).shape == (2,)
    assert len(small.latency(X[:1]).students) == 2
