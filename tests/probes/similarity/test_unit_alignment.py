"""Shuffled copies of a network are put back in order; the barrier to them goes away."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.layers import Maxout
from neurarium.probes import align_units, loss_along_line


def mlp():
    return nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 2, bias=False),
        nn.PReLU(5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 4, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    )


def maxout():
    return nn.Sequential(Maxout(9, 8, pieces=3), nn.Dropout(), Maxout(8, 7, pieces=2), nn.Linear(7, 3))


NETS = {"mlp": (mlp, (9,)), "cnn": (cnn, (2, 7, 7)), "maxout": (maxout, (9,))}


def shuffled(model):
    """A copy with all hidden units (channels, maxout pieces) in random order: written out layer by layer."""
    result = copy.deepcopy(model)
    last = [m for m in result if hasattr(m, "weight")][-1]
    order = None
    with torch.no_grad():
        for layer in result:
            if not hasattr(layer, "weight"):
                continue
            if isinstance(layer, nn.Linear | nn.Conv2d | Maxout):
                axis = 2 if isinstance(layer, Maxout) else 1
                if order is not None:
                    block = layer.weight.shape[axis] // len(order)
                    columns = (order[:, None] * block + torch.arange(block)).flatten()
                    layer.weight.copy_(layer.weight.index_select(axis, columns))
                if layer is last:
                    break
                order = torch.randperm(len(layer.weight))
                layer.weight.copy_(layer.weight[order])
                if layer.bias is not None:
                    layer.bias.copy_(layer.bias[order])
                if isinstance(layer, Maxout):
                    pieces = torch.randperm(layer.pieces)
                    layer.weight.copy_(layer.weight[:, pieces])
                    layer.bias.copy_(layer.bias[:, pieces])
            else:
                for tensor in (*layer.parameters(), *layer.buffers()):
                    if tensor.dim() == 1:
                        tensor.copy_(tensor[order])
    return result


def randomised(model):
    """Statistics and gains that differ between units, so that forgetting to move one shows."""
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.PReLU):
                for tensor in (*module.parameters(), *module.buffers()):
                    if tensor.is_floating_point():
                        tensor.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("name", NETS)
def test_a_shuffled_copy_is_put_back_exactly(name):
    torch.manual_seed(2)
    build, shape = NETS[name]
    model = randomised(build()).eval()
    other = shuffled(model)
    x = torch.randn(20, *shape)
    torch.testing.assert_close(other(x), model(x))
    assert not torch.equal(other[0].weight, model[0].weight)
    aligned = align_units(other, model, x)
    for (key, value), wanted in zip(aligned.state_dict().items(), model.state_dict().values()):
        assert torch.equal(value, wanted), key


def test_the_barrier_to_a_shuffled_copy_vanishes():
    torch.manual_seed(0)
    x, y = torch.randn(200, 9), torch.randint(3, (200,))
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    other, loader = shuffled(model), Batches(Arrays(x, y), 200)
    before = loss_along_line(model, cross_entropy, loader, model, other)
    after = loss_along_line(model, cross_entropy, loader, model, align_units(other, model, x))
    assert before.ends[0] == pytest.approx(before.ends[1], rel=1e-4)
    assert before.barrier > 0.1
    assert after.barrier < 1e-6


@pytest.mark.parametrize("name", NETS)
def test_another_network_comes_closer_and_computes_the_same(name):
    build, shape = NETS[name]
    model, reference = randomised(build()), randomised(build())
    model.train()
    state = copy.deepcopy(model.state_dict())
    x = torch.randn(10, *shape)
    aligned = align_units(model, reference, x)
    assert aligned.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    torch.testing.assert_close(aligned.eval()(x), copy.deepcopy(model).eval()(x))

    def agreement(net):
        return sum(
            float((net.get_parameter(k) * p).sum().detach()) for k, p in reference.named_parameters() if p.dim() > 1
        )

    assert agreement(aligned) > agreement(model)
    again = align_units(aligned, reference, x)
    assert agreement(again) == pytest.approx(agreement(aligned), rel=1e-6)


def test_one_hidden_layer_is_matched_optimally():
    from itertools import permutations

    torch.manual_seed(4)
    model, reference = (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double() for _ in range(2))
    aligned = align_units(model, reference, torch.randn(4, 3).double())

    def agreement(net, order):
        order = list(order)
        pairs = ((net[0].weight[order], reference[0].weight), (net[0].bias[order], reference[0].bias))
        return sum(float((a * b).sum().detach()) for a, b in (*pairs, (net[2].weight[:, order], reference[2].weight)))

    best = max(agreement(model, order) for order in permutations(range(5)))
    assert agreement(aligned, range(5)) == pytest.approx(best, rel=1e-12)


def test_what_cannot_be_aligned_is_refused():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))) + x)

    torch.manual_seed(1)
    x = torch.randn(5, 4)
    with pytest.raises(ValueError, match="do not form a chain"):
        align_units(Skip(), Skip(), x)
    with pytest.raises(ValueError, match="no hidden layer"):
        align_units(nn.Linear(4, 2), nn.Linear(4, 2), x)
    with pytest.raises(TypeError, match="LSTM"):
        align_units(nn.LSTM(4, 3), nn.LSTM(4, 3), x)
    with pytest.raises(ValueError, match=r"reference has '0\.weight'"):
        align_units(mlp(), nn.Sequential(nn.Linear(9, 13), *mlp()[1:]), torch.randn(2, 9))
    layer = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="used twice"):
        align_units(nn.Sequential(layer, nn.ReLU(), layer), nn.Sequential(layer, nn.ReLU(), layer), x)
