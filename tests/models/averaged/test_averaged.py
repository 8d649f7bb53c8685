"""Averages over groups and frames against the definition; a graph network against renamed nodes."""

import itertools

import pytest
import torch
from torch import nn

from neurarium.data import cyclic_shifts
from neurarium.models import FrameAveraged, GraphSumNet, GroupAveraged, cyclic_frame, sorting_frame


def mlp(outputs, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, outputs))


def x(rows=7):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


def test_average_over_a_group_by_definition():
    net, shifts = mlp(3), cyclic_shifts(5)
    found = GroupAveraged(net, shifts)(x())
    torch.testing.assert_close(found, sum(net(x()[:, g]) for g in shifts) / 5)
    for g in shifts:
        torch.testing.assert_close(GroupAveraged(net, shifts)(x()[:, g]), found)


def test_equivariant_average_moves_along():
    average = GroupAveraged(mlp(5), cyclic_shifts(5), equivariant=True)
    for g in cyclic_shifts(5):
        torch.testing.assert_close(average(x()[:, g]), average(x())[:, g])
    assert not torch.allclose(average(x()[:, [1, 0, 2, 3, 4]]), average(x())[:, [1, 0, 2, 3, 4]])


def test_average_of_an_invariant_module_is_itself():
    class Sum(nn.Module):
        def forward(self, x):
            return x.square().sum(1)

    everything = torch.tensor(list(itertools.permutations(range(5))))
    torch.testing.assert_close(GroupAveraged(Sum(), everything)(x()), Sum()(x()))


def test_one_hidden_layer_averaged_over_shifts_is_a_convolution_with_sum_pooling():
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    conv = nn.Conv1d(1, 4, 5, padding=4, padding_mode="circular")
    with torch.no_grad():
        conv.weight.copy_(dense[0].weight[:, None])
        conv.bias.copy_(dense[0].bias)
    pooled = conv(x()[:, None])[:, :, :5].relu().mean(2)
    torch.testing.assert_close(GroupAveraged(dense, cyclic_shifts(5))(x()), dense[2](pooled))


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize(
    ("frame", "group"),
    [(sorting_frame, torch.tensor(list(itertools.permutations(range(5))))), (cyclic_frame, cyclic_shifts(5))],
    ids=["sorting", "cyclic"],
)
def test_frames_make_invariant(frame, group, equivariant):
    net = FrameAveraged(mlp(5), frame, equivariant=equivariant)
    for g in group[::7]:
        expected = net(x())[:, g] if equivariant else net(x())
        torch.testing.assert_close(net(x()[:, g]), expected)


def test_frames_with_equal_coordinates():
    """Ties: no rotation of a row with repeated largest numbers changes what the module is given."""
    ties = torch.tensor([[1.0, 0, 1, 0, 0], [2, 2, 1, 2, 2], [1, 1, 1, 1, 1], [3, 1, 3, 2, 0]])
    for frame in (cyclic_frame, sorting_frame):
        seen = ties.gather(1, frame(ties)[:, 0])
        for g in cyclic_shifts(5):
            moved = ties[:, g]
            assert torch.equal(moved.gather(1, frame(moved)[:, 0]), seen)


def test_graph_net_does_not_notice_names_and_notices_edges():
    net = GraphSumNet(8, 2, layers=2, features=3)
    generator = torch.Generator().manual_seed(0)
    graph = torch.randint(2, (4, 6, 6), generator=generator).float().triu(1)
    graph = graph + graph.mT
    nodes = torch.randn(4, 6, 3, generator=generator)
    order = torch.randperm(6, generator=generator)
    torch.testing.assert_close(net(graph[:, order][:, :, order], nodes[:, order]), net(graph, nodes))
    assert not torch.allclose(net(1 - graph, nodes), net(graph, nodes))


def test_refusals():
    with pytest.raises(ValueError, match="a permutation of the input coordinates"):
        GroupAveraged(mlp(1), torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="x has 4 coordinates"):
        GroupAveraged(mlp(1), cyclic_shifts(5))(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="takes 0 features"):
        GraphSumNet()(torch.zeros(1, 3, 3), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="at least 1"):
        GraphSumNet(0)
