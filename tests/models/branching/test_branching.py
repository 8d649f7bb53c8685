"""Branching networks: against the plain one, path by path, gradient by gradient, and the published sizes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.layers import Residual
from neurarium.learning import Backprop
from neurarium.models import BranchingNetwork, TreeOfStages, bandersnatch, branching
from neurarium.objectives import heads_loss


def tree(branches=2, activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    stages = [lambda: nn.Linear(4, 6), lambda: nn.Linear(6, 6), lambda: nn.Linear(6, 5)]
    return BranchingNetwork(stages, lambda: nn.Linear(5, 3), branches, activation)


def test_without_branches_it_is_the_plain_network_bit_for_bit():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 3)]
    plain, x = nn.Sequential(*layers), torch.randn(7, 4)
    assert torch.equal(tree(1)(x)[0], plain(x))


def test_copies_and_heads_double_at_every_level():
    model = tree()
    assert [len(level) for level in model.levels] == [1, 2, 4]
    assert model.heads == 4
    assert model.head_paths == [(0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 1, 3)]
    assert tree((1, 3)).head_paths == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    assert [model.shared_depth(0, other) for other in range(4)] == [3, 2, 1, 1]


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("blocks", "baseline", "whole"), [(3, 23_641_418, 163_021_968), (0, 4_829_258, 33_564_048)], ids=["R3", "R0"]
)
def test_sizes_are_those_of_the_release(blocks, baseline, whole):
    with torch.device("meta"):
        branched = bandersnatch(blocks)
        assert size(bandersnatch(blocks, branches=1)) == baseline
    assert size(branched) == whole
    assert size(branched.path(5)) == baseline
    assert [len(level) for level in branched.levels] == [1, 2, 4, 8]


def test_the_network_of_the_paper_written_out():
    torch.manual_seed(0)
    model = bandersnatch(2, 5, 1, widths=(4, 6)).eval()
    stem, first, _, second, act, projection, third, _, fourth, end, pool, flat, linear = model.path(0)
    assert [type(m) for m in (first, second, third, fourth)] == [Residual] * 4
    assert [type(m) for m in (act, end)] == [nn.ReLU] * 2
    x = torch.randn(2, 3, 8, 8)
    h = stem(x)
    h = second((h + first.branch(h)).relu()).relu()
    h = (projection.branch(h) + projection.around(h)).relu()
    h = third(h).relu()
    h = (h + fourth.branch(h)).relu()
    assert h.shape == (2, 6, 4, 4)
    torch.testing.assert_close(model(x)[0], linear(h.mean((2, 3))))
    assert isinstance(pool, nn.AdaptiveAvgPool2d)
    assert isinstance(flat, nn.Flatten)


def test_a_path_is_its_head_bit_for_bit_and_a_subset_its_heads():
    model, x = bandersnatch(1, 3, widths=(4, 5, 6)).eval(), torch.randn(2, 3, 16, 16)
    outputs = model(x)
    for head in range(4):
        assert torch.equal(model.path(head)(x), outputs[head])
    few = model.subset([3, 1])
    assert torch.equal(few(x), outputs[[3, 1]])
    assert [len(level) for level in few.levels] == [1, 2, 2]
    assert [len(level) for level in model.subset([2, 3]).levels] == [1, 1, 2]
    assert {id(p) for p in few.parameters()} < {id(p) for p in model.parameters()}


def test_shared_stages_run_once():
    model = tree()
    calls = []
    for index, level in enumerate(model.levels):
        for stage in level:
            stage.register_forward_hook(lambda *_, index=index: calls.append(index))
    model(torch.zeros(1, 4))
    assert sorted(calls) == [0, 1, 1, 2, 2, 2, 2]


def test_copies_alike_stay_alike_under_relu_and_part_by_the_slopes_of_prelu():
    x, y = torch.randn(16, 4), torch.randint(3, (16,))

    def trained(activation, apart):
        model = tree(activation=activation)
        for level in model.levels[1:]:
            for stage in level[1:]:
                stage.load_state_dict(level[0].state_dict())
        if apart:
            model.levels[1][1][0].weight.data += 0.3
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            Backprop(model, heads_loss).assign_credit(x, y)
            optimizer.step()
        return model(x)

    same = trained(nn.ReLU, False)
    assert all(torch.equal(same[0], other) for other in same[1:])
    assert not torch.allclose(*trained(nn.PReLU, True)[[0, 2]])


def test_gradients_are_means_over_the_paths():
    model, x, y = tree(), torch.randn(9, 4), torch.randint(3, (9,))
    heads_loss(model(x), y).backward()
    trunk, leaf = model.levels[0][0].weight, model.levels[2][3][1].weight
    paths = [torch.autograd.grad(cross_entropy(model.path(h)(x), y), trunk)[0] for h in range(4)]
    torch.testing.assert_close(trunk.grad, torch.stack(paths).mean(0))
    own = torch.autograd.grad(cross_entropy(model.path(3)(x), y), leaf)[0]
    torch.testing.assert_close(leaf.grad, own / 4)


def test_heads_with_a_later_common_ancestor_agree_more():
    torch.manual_seed(0)
    x = torch.randn(400, 4)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    model = tree()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        heads_loss(model(x), y).backward()
        optimizer.step()
    answers = model(torch.randn(2_000, 4)).argmax(-1)
    pairs = [(a, b) for a in range(4) for b in range(a)]
    agreement = torch.tensor([float((answers[a] == answers[b]).float().mean()) for a, b in pairs])
    depth = torch.tensor([float(model.shared_depth(a, b)) for a, b in pairs])
    assert float(torch.corrcoef(torch.stack([agreement, depth]))[0, 1]) > 0


def test_a_users_network_is_cut_behind_its_activations():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    model = nn.Sequential(body, nn.Conv2d(3, 3, 3), nn.PReLU(), nn.Flatten(), nn.Linear(3 * 16, 4)).eval()
    before, x = copy.deepcopy(model.state_dict()), torch.randn(2, 1, 8, 8)
    found = branching(model, ["0.2", "2"], (2, 3), generator=torch.Generator().manual_seed(0))
    assert found.heads == 6
    assert torch.equal(found.path(0)(x), model(x))
    outputs = found(x)
    assert all(not torch.equal(outputs[0], other) for other in outputs[1:])
    again = branching(model, 2, (2, 3), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), outputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not {id(p) for p in found.parameters()} & {id(p) for p in model.parameters()}


def test_any_tree_serves_tasks_of_their_own():
    stages = [[nn.Linear(3, 4)], [nn.ReLU(), nn.Tanh()], [nn.Linear(4, 1), nn.Linear(4, 2), nn.Linear(4, 3)]]
    model, x = TreeOfStages(stages, [[0, 0], [1, 0, 1]]), torch.randn(2, 3)
    h = stages[0][0](x)
    expected = [stages[2][0](h.tanh()), stages[2][1](h.relu()), stages[2][2](h.tanh())]
    for found, wanted in zip(model.outputs(x), expected, strict=True):
        assert torch.equal(found, wanted)
    with pytest.raises(ValueError, match="cannot be one tensor"):
        model(x)


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="two at least"):
        BranchingNetwork([lambda: nn.ReLU()], nn.ReLU)
    with pytest.raises(ValueError, match="branches must be one number, or 2"):
        tree((2, 2, 2))
    with pytest.raises(ValueError, match="1 at least, not 0"):
        tree(0)
    with pytest.raises(ValueError, match="10,000 heads, more than 4,096"):
        tree(100)
    with pytest.raises(ValueError, match="one root"):
        TreeOfStages([[nn.ReLU(), nn.ReLU()]])
    with pytest.raises(ValueError, match="no multiple"):
        TreeOfStages([[nn.ReLU()], [nn.ReLU()] * 2, [nn.ReLU()] * 3])
    with pytest.raises(ValueError, match="parents of level 1 must be from 0 to 0"):
        TreeOfStages([[nn.ReLU()], [nn.ReLU()]], [[1]])
    with pytest.raises(ValueError, match="head must be from 0 to 3"):
        tree().path(4)
    with pytest.raises(ValueError, match="heads must be different ones"):
        tree().subset([1, 1])
    generator = torch.Generator()
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="layers in a row"):
        branching(nn.Linear(2, 2), ["0"], generator=generator)
    with pytest.raises(ValueError, match="among 0, 1, 2, not relu"):
        branching(plain, ["relu"], generator=generator)
    with pytest.raises(ValueError, match="0 activations were found between layers"):
        branching(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), 2, generator=generator)
    with pytest.raises(ValueError, match="neither the first nor the last"):
        branching(plain, ["2"], generator=generator)

    class Stuck(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match="Stuck has weights and no reset_parameters"):
        branching(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Stuck()), ["1"], generator=generator)
