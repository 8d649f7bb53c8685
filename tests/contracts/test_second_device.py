"""The second device refuses what CUDA refuses, and otherwise computes what the CPU computes."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.testing import second_device

NAME = second_device.register()


def test_what_cuda_refuses_is_refused():
    x, cpu = torch.randn(3, 4, device=NAME), torch.ones(3, 4)
    for mixed in (
        lambda: x + cpu,
        lambda: torch.cat([x, cpu]),
        lambda: cpu[x[:, 0] > 0],
        lambda: x.index_select(0, torch.tensor([0])),
        lambda: x.gather(0, torch.tensor([[0]])),
        lambda: torch.zeros(()).add_(x.sum()),
        lambda: nn.Linear(4, 2)(x),
        lambda: nn.functional.cross_entropy(x, torch.tensor([0, 1, 2])),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()
    with pytest.raises(TypeError, match="cpu"):
        np.asarray(x)
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=NAME, generator=torch.Generator())


def test_what_cuda_allows_is_allowed():
    x = torch.randn(3, 4, device=NAME)
    assert (x + torch.tensor(2.0)).device.type == NAME  # a number of the CPU's
    assert x[torch.tensor([0, 2])].shape == (2, 4)  # an index of the CPU's
    x[torch.tensor([0])] = 1.0
    assert x.cpu()[0].tolist() == [1.0] * 4
    assert torch.vmap(lambda row: row.sum())(x).device.type == NAME


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)), (3, 4)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()), (2, 1, 5, 5)),
        (lambda: nn.LSTM(4, 3, bidirectional=True), (5, 2, 4)),
        (lambda: nn.GRU(4, 3), (5, 2, 4)),
        (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), (5, 2, 4)),
    ],
)
def test_a_training_step_gives_the_numbers_of_the_cpu(make, shape):
    model = make()
    other = copy.deepcopy(model).to(NAME)
    x = torch.randn(shape)
    for network, given in ((model, x), (other, x.to(NAME))):
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            output = network(given)
            (output[0] if isinstance(output, tuple) else output).square().sum().backward()
            optimizer.step()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert q.device.type == NAME
        torch.testing.assert_close(q.detach().cpu(), p.detach(), msg=name, rtol=1e-4, atol=1e-5)


def test_its_random_state_is_its_own():
    cpu = torch.get_rng_state()
    x = torch.ones(64, device=NAME)
    torch.manual_seed(0)
    first = [
        torch.randn(3, device=NAME),
        nn.functional.dropout(x),
        torch.randperm(9, device=NAME),
        torch.bernoulli(x / 2),
    ]
    torch.manual_seed(0)
    second = [
        torch.randn(3, device=NAME),
        nn.functional.dropout(x),
        torch.randperm(9, device=NAME),
        torch.bernoulli(x / 2),
    ]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    torch.set_rng_state(cpu)
    with torch.random.fork_rng(device_type=NAME):
        torch.randn(3, device=NAME)
    assert torch.equal(torch.get_rng_state(), cpu)
    state = torch.get_device_module(NAME).get_rng_state()
    with torch.random.fork_rng(device_type=NAME):
        torch.randn(3, device=NAME)
    assert torch.equal(torch.get_device_module(NAME).get_rng_state(), state)


def test_waiting_for_the_device_is_counted():
    x = torch.randn(4, device=NAME)
    with second_device.counted_synchronisations() as count:
        y = (x * 2).sum()
        assert count() == 0
        float(y)
        y.cpu()
        x[x > 0]
    assert count() == 3
