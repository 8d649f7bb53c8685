"""Structured heads, paced logits and the concentration loss against dense equivalents and counts by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from neurarium.compression import KnowledgeConcentration, vertical_precision
from neurarium.data import DataError, LabelTree
from neurarium.layers import SelfPacedLogits, StructuredHead

TREE = LabelTree(
    {"birds": ["wren", "finch", "bird"], "cars": ["van", "cab"]}, {"wren": ["bird"], "finch": ["bird"]}
)  # fmt: skip


def count(pattern, hidden, shared=0):
    with torch.device("meta"):
        head = StructuredHead(1024, [5000] * 20, hidden, pattern, shared, bias=False)
    return sum(p.numel() for p in head.parameters())


@pytest.mark.parametrize(
    ("pattern", "hidden", "shared", "wanted"),
    [
        ("fc-fc", (4096, 512), 0, 57_491_456), ("fc-sc", (4096, 512), 0, 97_337_344),
        ("sc-sc", (512, 512), 0, 66_928_640), ("fc-sc-shared", (4096, 512), 0, 97_337_344),
        ("fc-sc-shared", (4096, 512), 512, 57_491_456),
    ],
)  # fmt: skip
def test_parameters_are_those_of_the_paper(pattern, hidden, shared, wanted):
    assert count(pattern, hidden, shared) == wanted


@pytest.mark.parametrize("shared", [0, 2])
def test_a_structured_head_is_a_masked_dense_one(shared):
    torch.manual_seed(0)
    head = StructuredHead(6, (3, 2), (7, 4), "fc-sc-shared" if shared else "fc-sc", shared).double()
    own = 4 - shared
    second = torch.cat([head.common, head.own.flatten(0, 1)]).detach()
    output = torch.zeros(5, shared + 2 * own, dtype=torch.float64)
    output[:, :shared] = head.output[:, :shared]
    output[:3, shared : shared + own] = head.output[:3, shared:]
    output[3:, shared + own :] = head.output[3:, shared:]
    b1, b_common, b_own, b3 = (b.detach() for b in head.biases)
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    hidden = (x @ head.first[0].detach().T + b1[0]).relu()
    dense = (hidden @ second.T + torch.cat([b_common, b_own.flatten()])).relu() @ output.T + b3
    (gradient,) = torch.autograd.grad(dense.square().sum(), x)
    found = head(x)
    (own_gradient,) = torch.autograd.grad(found.square().sum(), x)
    assert torch.allclose(found, dense)
    assert torch.allclose(own_gradient, gradient)


def test_with_separate_first_layers_verticals_have_nothing_in_common():
    torch.manual_seed(0)
    head = StructuredHead(6, (3, 2), (7, 4), "sc-sc")
    head(torch.randn(5, 6))[:, :3].sum().backward()
    assert head.first.grad[0].abs().sum() > 0
    assert head.first.grad[1].abs().sum() == 0
    assert head.own.grad[1].abs().sum() == 0


@pytest.mark.parametrize("level", ["vertical", "class"])
def test_paced_logits_have_a_fixed_length(level):
    torch.manual_seed(0)
    layer = SelfPacedLogits((3, 4), level, init=2.0).double()
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert torch.allclose(y[:, :3].norm(dim=1), torch.full((5,), 2.0).double())
    assert torch.allclose(layer(10 * x), y)
    (gradient,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), x)
    assert torch.allclose((gradient * x)[:, 3:].sum(1), torch.zeros(5).double(), atol=1e-12)
    assert layer(torch.zeros(1, 7).double()).abs().max() == 0


def test_each_vertical_and_class_has_a_factor_of_its_own():
    x = torch.randn(5, 7).double()
    lengths = x[:, :3].norm(dim=1, keepdim=True), x[:, 3:].norm(dim=1, keepdim=True)
    by_vertical, by_class = SelfPacedLogits((3, 4)).double(), SelfPacedLogits((3, 4), "class").double()
    with torch.no_grad():
        by_vertical.gamma.copy_(torch.tensor([2.0, 5.0]))
        by_class.gamma.copy_(torch.arange(1.0, 8))
    wanted = torch.cat([2 * x[:, :3] / lengths[0], 5 * x[:, 3:] / lengths[1]], 1)
    torch.testing.assert_close(by_vertical(x), wanted)
    wanted = torch.cat([x[:, :3] / lengths[0], x[:, 3:] / lengths[1]], 1) * torch.arange(1, 8)
    torch.testing.assert_close(by_class(x), wanted)


def test_factors_start_at_the_root_of_the_size():
    torch.manual_seed(0)
    layer = SelfPacedLogits((100, 25))
    assert layer.gamma.tolist() == pytest.approx([10, 5], abs=0.01)
    assert layer.gamma.requires_grad
    by_class = SelfPacedLogits((4, 9), "class").gamma
    assert by_class.tolist() == pytest.approx([2] * 4 + [3] * 9, abs=0.01)
    assert len(set(by_class.tolist())) > 2  # drawn around it
    assert not SelfPacedLogits((4,), learnable=False).gamma.requires_grad


class Oracle(nn.Module):
    """A teacher that knows: inputs are class indices within the vertical."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return 200.0 * nn.functional.one_hot(x[:, 0].long(), self.size) - 100


def concentration(**options):
    return KnowledgeConcentration({"birds": Oracle(3), "cars": Oracle(2)}, TREE, **options)


def test_teachers_that_know_give_the_hard_label_loss():
    y = torch.tensor([0, 4, 2, 3])
    x = torch.tensor([[0.0], [1.0], [2.0], [0.0]])
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    wanted = binary_cross_entropy_with_logits(logits, torch.eye(5)[y], reduction="sum") / 4
    assert torch.allclose(concentration(top_k=3).loss(logits, x, y), wanted)
    only = concentration(top_k=1).targets(x, y)
    assert torch.equal(only.dense(5), torch.eye(5)[y])
    mixed = concentration(hard_weight=1.0).loss(logits, x, y)
    multi_hot = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]).float()
    assert torch.allclose(mixed, binary_cross_entropy_with_logits(logits, multi_hot, reduction="sum") / 4)


def test_targets_outside_the_vertical_and_below_the_top_are_zero():
    torch.manual_seed(0)
    teachers = {"birds": nn.Linear(4, 3), "cars": nn.Linear(4, 2)}
    rule = KnowledgeConcentration(teachers, TREE, top_k=2)
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    dense = rule.targets(x, y).dense(5)
    birds = teachers["birds"](x).sigmoid()
    for row, label in enumerate(y.tolist()):
        if label < 3:
            best = birds[row].topk(2).indices
            assert torch.allclose(dense[row, best], birds[row, best])
            assert int((dense[row] != 0).sum()) == 2
        else:
            assert dense[row, :3].abs().sum() == 0
    recorded = rule.record(x, y, batch_size=4)
    assert (recorded.indices.dtype, recorded.values.dtype) == (torch.int32, torch.float16)
    assert torch.allclose(recorded.dense(5), dense, atol=3e-4)
    logits = torch.randn(6, 5)
    assert torch.allclose(rule.loss_from(logits, recorded, y), rule.loss(logits, x, y), rtol=1e-3)


def test_a_small_vertical_does_not_cut_the_targets_of_a_large_one():
    teachers = {"birds": nn.Linear(4, 3), "cars": nn.Linear(4, 2)}
    x, y = torch.randn(2, 4), torch.tensor([0, 3])
    dense = KnowledgeConcentration(teachers, TREE).targets(x, y).dense(5)
    torch.testing.assert_close(dense[0, :3], teachers["birds"](x[0]).sigmoid())
    torch.testing.assert_close(dense[1, 3:], teachers["cars"](x[1]).sigmoid())
    assert not bool(dense[0, 3:].any())
    assert not bool(dense[1, :3].any())


def test_teachers_answer_in_evaluation_mode_and_do_not_learn():
    teachers = {name: nn.Sequential(nn.Dropout(0.9), nn.Linear(4, size)) for name, size in zip(TREE.names, TREE.sizes)}
    rule = KnowledgeConcentration(teachers, TREE)
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    assert torch.equal(rule.targets(x, y).dense(5), rule.targets(x, y).dense(5))
    assert not any(p.requires_grad for teacher in teachers.values() for p in teacher.parameters())


def test_a_step_follows_the_gradient_of_its_own_batch():
    student, y = nn.Linear(4, 5), torch.tensor([0, 3, 1, 4])
    x = torch.stack([torch.zeros(4), torch.ones(4), torch.ones(4), torch.zeros(4)])  # the oracles read the first number
    KnowledgeConcentration({"birds": Oracle(3), "cars": Oracle(2)}, TREE).compress(
        student, [(x[:2], y[:2]), (x[2:], y[2:])], epochs=2, learning_rate=1e-9
    )
    targets = torch.zeros(2, 5)
    targets[0, 1] = targets[1, 3] = 1  # the class that each oracle names
    wanted = (student(x[2:]).sigmoid() - targets).detach().mean(0)  # of a sum over classes, mean over examples
    torch.testing.assert_close(student.bias.grad, wanted, rtol=1e-4, atol=1e-6)


def test_sampled_negatives_have_the_full_loss_as_their_mean():
    torch.manual_seed(0)
    tree = LabelTree({"a": [f"a{i}" for i in range(4)], "b": [f"b{i}" for i in range(40)]})
    teachers = {"a": Oracle(4), "b": Oracle(40)}
    logits, x, y = torch.randn(3, 44), torch.zeros(3, 1), torch.tensor([0, 0, 0])
    full = KnowledgeConcentration(teachers, tree).loss(logits, x, y)
    sampled = KnowledgeConcentration(teachers, tree, negatives=10)
    mean = sum(float(sampled.loss(logits, x, y)) for _ in range(2000)) / 2000
    assert mean == pytest.approx(float(full), rel=0.02)


def test_sampled_negatives_leave_the_own_vertical_whole():
    torch.manual_seed(0)
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 4])
    birds = torch.tensor([[1.0, -2.0, 0.5, -60.0, -60.0], [-60.0, -60.0, -60.0, 3.0, 1.0]])  # others cost nothing
    full, sampled = concentration().loss(birds, x, y), concentration(negatives=1).loss(birds, x, y)
    assert torch.allclose(full, sampled)


def test_a_class_is_in_all_that_contain_it_directly_or_not():
    names = ["red-winged", "blackbird", "perching", "bird", "owl"]
    above = {"red-winged": ["blackbird"], "blackbird": ["perching"], "perching": ["bird"], "owl": ["bird"]}
    tree = LabelTree({"cars": ["van"], "birds": names}, above)
    assert tree.expand(torch.tensor([1, 5, 0])).tolist() == [[0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1], [1, 0, 0, 0, 0, 0]]
    lines, counts = tree.lines(torch.tensor([5]))
    assert lines[counts].tolist() == [5, 4]
    with pytest.raises(DataError, match="is among the classes that contain it"):
        LabelTree({"birds": names}, above | {"bird": ["blackbird"]})


def test_a_hundred_thousand_classes_need_no_table_of_pairs():
    verticals = {str(v): [f"{v}/{c}" for c in range(5_000)] for v in range(20)}
    tree = LabelTree(verticals, {f"{v}/{c}": [f"{v}/0"] for v in range(20) for c in range(1, 5_000)})
    assert sum(t.numel() for t in vars(tree).values() if isinstance(t, torch.Tensor)) == 4 * len(tree)
    y = torch.tensor([7, 99_999])
    assert tree.lines(y)[0].tolist() == [[7, 0], [99_999, 95_000]]
    teachers = {v: nn.Linear(2, 5_000) for v in verticals}
    rule = KnowledgeConcentration(teachers, tree, top_k=100, hard_weight=0.5, negatives=1_000)
    logits = torch.full((2, len(tree)), -1.0, requires_grad=True)
    rule.loss(logits, torch.randn(2, 2), y).backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 5_000:].sum()


def test_one_vertical_is_plain_distillation_whatever_the_head():
    tree = LabelTree({"all": ["a", "b", "c"]})
    teacher = nn.Linear(4, 3)
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    logits = torch.randn(5, 3)
    wanted = binary_cross_entropy_with_logits(logits, teacher(x).sigmoid(), reduction="sum") / 5
    assert torch.allclose(KnowledgeConcentration({"all": teacher}, tree).loss(logits, x, y), wanted)


def test_a_student_learns_both_verticals_from_its_teachers():
    torch.manual_seed(0)
    y = torch.randint(5, (400,))
    centres = 3 * torch.randn(5, 8)
    x = centres[y] + torch.randn(400, 8)
    knowing = {"birds": nn.Linear(8, 3), "cars": nn.Linear(8, 2)}
    with torch.no_grad():
        for name, part in zip(TREE.names, TREE.slices()):
            knowing[name].weight.copy_(centres[part])
            knowing[name].bias.copy_(-centres[part].square().sum(1) / 2)
    student = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), StructuredHead(16, TREE.sizes, (16, 8)), SelfPacedLogits(TREE.sizes)
    )
    loader = [(x[i : i + 40], y[i : i + 40]) for i in range(0, 400, 40)]
    before = vertical_precision(student(x), y, TREE)
    KnowledgeConcentration(knowing, TREE).compress(student, loader, epochs=20, learning_rate=1e-2)
    after = vertical_precision(student(x), y, TREE)
    assert min(after.values()) > 0.9 > max(before.values())


def test_precision_counts_the_vertical_alone_and_classes_above():
    logits = torch.tensor([[3.0, 0, 2, 9, 9], [0, 3.0, 2, 9, 9], [-9, -9, -9, 1, 0]])
    found = vertical_precision(logits, torch.tensor([0, 1, 3]), TREE)
    assert found == {"birds": 1.0, "cars": 1.0}


def test_precision_by_hand():
    # birds: wren, finch and bird; the examples are a wren, a finch and an owl that is only a bird
    logits = torch.tensor([[2.0, 0, 1, 9, 9], [1, 1, 3, 9, 9], [3, 2, 2, 9, 9]])
    y = torch.tensor([0, 1, 2])
    # wren is second of (3, 2, 1): 1/2; finch second of (2, 1, 0): 1/2; all are birds: 1
    assert vertical_precision(logits, y, TREE) == {"birds": pytest.approx(2 / 3)}  # of cars there is no example
    # without the finch, two examples: wren second of (3, 2): 1/2; bird 1; nothing is said of finches
    assert vertical_precision(logits[[0, 2]], y[[0, 2]], TREE)["birds"] == pytest.approx(3 / 4)
    # each class ranks examples by its own logits, whatever those of other classes are
    shifted = logits + torch.tensor([[0.0], [50.0], [-50.0]])
    assert vertical_precision(shifted, y, TREE)["birds"] == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_an_ordinary_head_is_a_perceptron():
    torch.manual_seed(0)
    head, x = StructuredHead(6, (3, 2), (7, 4), "fc-fc").double(), torch.randn(9, 6).double()
    b1, b2, _, b3 = head.biases
    hidden = ((x @ head.first[0].T + b1[0]).relu() @ head.common.T + b2).relu()
    torch.testing.assert_close(head(x), hidden @ head.output.T + b3)


def test_with_separate_layers_each_vertical_is_a_perceptron():
    torch.manual_seed(0)
    head, x = StructuredHead(6, (3, 2), (7, 4), "sc-sc").double(), torch.randn(9, 6).double()
    b1, _, b2, b3 = head.biases
    rows = ((0, slice(0, 3)), (1, slice(3, 5)))
    for v, part in rows:
        hidden = ((x @ head.first[v].T + b1[v]).relu() @ head.own[v].T + b2[v]).relu()
        torch.testing.assert_close(head(x)[:, part], hidden @ head.output[part].T + b3[part])


def test_weights_start_within_the_root_of_their_fan_in():
    torch.manual_seed(0)
    head = StructuredHead(100, (30, 20), (64, 25))
    for weight, fan_in in ((head.first, 100), (head.own, 64), (head.output, 25), (head.biases[0], 100)):
        assert 0.9 / fan_in**0.5 < float(weight.detach().abs().max()) <= 1 / fan_in**0.5


def test_a_head_takes_any_number_of_leading_dimensions():
    torch.manual_seed(0)
    head, x = StructuredHead(6, (3, 2), (7, 4)), torch.randn(2, 3, 6)
    assert torch.allclose(head(x)[1, 2], head(x[1, 2]), atol=1e-6)
    assert head(x[:0]).shape == (0, 3, 5)


def test_misuse_is_explained():
    for label in (-1, 5):
        with pytest.raises(DataError, match="labels must be class indices from 0 to 4"):
            concentration().targets(torch.zeros(1, 1), torch.tensor([label]))
    with pytest.raises(DataError, match="class 'wren' is in two verticals, 'a' and 'b'"):
        LabelTree({"a": ["wren"], "b": ["wren"]})
    with pytest.raises(DataError, match="parent 'b' of 'a' is not a class of the same vertical"):
        LabelTree({"x": ["a"], "y": ["b"]}, {"a": ["b"]})
    with pytest.raises(ValueError, match="no teacher for vertical 'cars'"):
        KnowledgeConcentration({"birds": nn.Identity()}, TREE)
    wrong = KnowledgeConcentration({"birds": Oracle(2), "cars": Oracle(2)}, TREE)
    with pytest.raises(ValueError, match="vertical 'birds' has 3 classes, its teacher returns 2"):
        wrong.targets(torch.zeros(1, 1), torch.tensor([0]))
    with pytest.raises(ValueError, match="pattern must be one of"):
        StructuredHead(4, (2,), (3, 3), "sc-fc")
    with pytest.raises(ValueError, match="shared must be 0"):
        StructuredHead(4, (2,), (3, 3), shared=2)


def test_a_vertical_without_examples_is_left_out_not_nought():
    tree = LabelTree({"a": ["x", "y"], "b": ["z"]})
    found = vertical_precision(
        torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]]), torch.tensor([0, 1], dtype=torch.int32), tree
    )
    assert found == {"a": 1.0}


def test_teachers_and_students_stay_in_the_modes_that_the_user_gave_them():
    teachers = {name: nn.Sequential(nn.Linear(6, size), nn.Dropout(0.5)) for name, size in (("birds", 3), ("cars", 2))}
    method = KnowledgeConcentration(teachers, TREE)
    x, y = torch.randn(8, 6), torch.arange(8) % 5
    first, second = method.targets(x, y), method.targets(x, y)
    assert torch.equal(first.values, second.values)  # without dropout
    assert all(m.training for teacher in teachers.values() for m in teacher.modules())
    student = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    student[1].eval()
    mean = student[1].running_mean.clone()
    method.compress(student, [(x, y)], epochs=1)
    assert torch.equal(student[1].running_mean, mean)
