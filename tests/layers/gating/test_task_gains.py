"""Gains and biases per task."""

import pytest
import torch

from neurarium.layers import TaskGains


def test_starts_as_the_identity_and_scales_by_the_current_task():
    layer, x = TaskGains(3, 2), torch.randn(4, 5, 3)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gain[1].copy_(torch.tensor([1.0, 2.0, 3.0]))
        layer.bias[1].fill_(0.5)
    layer.set_task(1)
    torch.testing.assert_close(layer(x), x * torch.tensor([1.0, 2.0, 3.0]) + 0.5)
    layer.set_task(torch.tensor([0, 1, 1, 0]))
    torch.testing.assert_close(layer(x)[[0, 3]], x[[0, 3]])
    torch.testing.assert_close(layer(x)[[1, 2]], x[[1, 2]] * torch.tensor([1.0, 2.0, 3.0]) + 0.5)


def test_other_tasks_are_not_moved_even_by_momentum():
    layer = TaskGains(3, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for task in (0, 0, 1, 1, 1):
        if task == 1:
            kept = layer.gain[0].detach().clone()
        layer.set_task(task)
        optimizer.zero_grad()
        layer(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        if task == 1:
            assert torch.equal(layer.gain[0], kept)
    assert not torch.equal(layer.gain[0], torch.ones(3))


def test_without_bias_and_errors():
    layer = TaskGains(3, 2, bias=False)
    assert sum(p.numel() for p in layer.parameters()) == 6
    layer.set_task(torch.tensor([1, 0]))
    assert layer(torch.randn(2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="2 examples were set, but 3"):
        layer(torch.randn(3, 3))
    with pytest.raises(ValueError, match="between 0 and 1, not 2"):
        layer.set_task(2)
    with pytest.raises(TypeError):
        layer.set_task("chess")
    with pytest.raises(ValueError, match="at least 1"):
        TaskGains(0, 2)
