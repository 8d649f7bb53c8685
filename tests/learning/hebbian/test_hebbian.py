"""The soft Hebbian rule against its fixed point, its limits in temperature, and a loop over a convolution's patches."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurarium.learning import SoftHebbian, soft_hebbian_update

DOUBLE = torch.float64


def patch_loop(module, x, temperature, competition, norm):
    """Delta w by the book: every patch cut out and learned from on its own."""
    c = module
    x = F.pad(x, (c.padding[1], c.padding[1], c.padding[0], c.padding[0]))
    per_group = x.shape[1] // c.groups
    out = len(c.weight) // c.groups
    reach = [d * (k - 1) + 1 for d, k in zip(c.dilation, c.kernel_size)]
    rows = range(0, x.shape[2] - reach[0] + 1, c.stride[0])
    columns = range(0, x.shape[3] - reach[1] + 1, c.stride[1])
    total, count = torch.zeros_like(c.weight), 0
    for image, top, left in itertools.product(x, rows, columns):
        window = image[:, top : top + reach[0] : c.dilation[0], left : left + reach[1] : c.dilation[1]]
        u, seen, unit = [], [], []
        for k, kernel in enumerate(c.weight.detach()):
            patch = window[k // out * per_group : (k // out + 1) * per_group]
            if norm == "preserve":
                patch = (patch - patch.mean()) / patch.std(correction=0)
                kernel = kernel / kernel.norm()
            seen.append(patch)
            unit.append(kernel)
            u.append((kernel * patch).sum())
        u = torch.stack(u)
        y = (u / temperature).softmax(0) if competition == "soft" else (u == u.max()).to(u)
        for k in range(len(u)):
            change = y[k] * (seen[k] - u[k] * unit[k])
            total[k] += change * (c.weight[k].detach().norm() if norm == "preserve" else 1)
        count += 1
    return total / count


@pytest.mark.parametrize("norm", ["plain", "preserve"])
@pytest.mark.parametrize("competition", ["soft", "hard"])
@pytest.mark.parametrize("groups", [1, 2])
def test_closed_form_equals_a_loop_over_patches(norm, competition, groups):
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=(1, 2), groups=groups, dtype=DOUBLE)
    x = torch.randn(3, 4, 7, 8, dtype=DOUBLE)
    found = SoftHebbian(conv, temperature=0.7, competition=competition, norm=norm).update(x)
    expected = patch_loop(conv, x, 0.7, competition, norm)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    single = SoftHebbian(conv.float(), temperature=0.7, competition=competition, norm=norm).update(x.float())
    assert torch.allclose(single, expected.float(), atol=1e-6)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("padding", [1, "same"])
def test_patches_are_those_of_the_convolution(mode, padding):
    # Hard competition of one neuron: y = 1, so E[y u] and E[x] are means of the layer's own output and patches.
    conv = nn.Conv2d(2, 1, 3, padding=padding, padding_mode=mode, bias=False, dtype=DOUBLE)
    x = torch.randn(4, 2, 6, 5, dtype=DOUBLE)
    u = conv(x).detach()
    weight = conv.weight.detach().clone().requires_grad_()
    (mean_patch,) = torch.autograd.grad(torch.func.functional_call(conv, {"weight": weight}, x).mean(), weight)
    expected = mean_patch - u.mean() * conv.weight.detach()
    assert torch.allclose(SoftHebbian(conv, norm="plain").update(x), expected, rtol=0, atol=1e-12)


def test_convolutions_of_one_and_three_dimensions_and_linear_layers():
    x = torch.randn(5, 3, 9, dtype=DOUBLE)
    line = nn.Conv1d(3, 4, 3, dtype=DOUBLE)
    patches = x.unfold(2, 3, 1).permute(0, 2, 1, 3).reshape(-1, 9)
    expected = soft_hebbian_update(line.weight.detach().flatten(1), patches).view_as(line.weight)
    assert torch.allclose(SoftHebbian(line, norm="plain").update(x), expected, atol=1e-12)
    cube = nn.Conv3d(1, 4, (1, 1, 3), dtype=DOUBLE)
    one = x.reshape(5, 1, 3, 1, 9)
    patches = one.unfold(4, 3, 1).reshape(-1, 3)
    expected = soft_hebbian_update(cube.weight.detach().flatten(1), patches).view_as(cube.weight)
    assert torch.allclose(SoftHebbian(cube, norm="plain").update(one), expected, atol=1e-12)
    linear = nn.Linear(9, 4, dtype=DOUBLE)
    expected = soft_hebbian_update(linear.weight.detach(), x.reshape(-1, 9))
    assert torch.allclose(SoftHebbian(linear, norm="plain").update(x), expected, atol=1e-12)


def test_one_neuron_alone_tends_to_the_direction_of_the_mean_with_norm_one():
    # y is 1 whatever the input, so the fixed point is E[x] = E[u] w.
    mean = torch.tensor([2.0, -1.0, 0.5], dtype=DOUBLE)
    weight = torch.randn(1, 3, dtype=DOUBLE)
    for _ in range(2000):
        weight += 1e-2 * soft_hebbian_update(weight, mean + torch.randn(64, 3, dtype=DOUBLE))
    assert torch.allclose(weight[0], mean / mean.norm(), atol=0.03)


def test_temperature_limits():
    weight, x = torch.randn(5, 7, dtype=DOUBLE), torch.randn(40, 7, dtype=DOUBLE)
    hard = soft_hebbian_update(weight, x, competition="hard")
    assert torch.allclose(soft_hebbian_update(weight, x, temperature=1e-6), hard, atol=1e-12)
    u = x @ weight.T
    even = (x.mean(0) - u.mean(0)[:, None] * weight) / 5
    assert torch.allclose(soft_hebbian_update(weight, x, temperature=1e12), even, atol=1e-11)


def test_norms_go_to_one_under_the_plain_rule():
    # Two clusters: each neuron comes to point at one, with norm near 1.
    centres = torch.eye(4, dtype=DOUBLE)[:2] * 3
    weight = torch.randn(2, 4, dtype=DOUBLE) * 0.1
    for _ in range(800):
        x = centres[torch.randint(2, (64,))] + 0.1 * torch.randn(64, 4, dtype=DOUBLE)
        weight += 0.02 * soft_hebbian_update(weight, x)
    assert torch.allclose(weight.norm(dim=1), torch.ones(2, dtype=DOUBLE), atol=0.05)
    assert torch.allclose((weight @ centres.T / 3).max(0).values, torch.ones(2, dtype=DOUBLE), atol=0.05)


def test_the_negative_update_is_added_to_grad_and_rescaling_keeps_norms():
    conv = nn.Conv2d(1, 4, 3)
    rule = SoftHebbian(conv)
    x = torch.randn(8, 1, 9, 9)
    norms, change = conv.weight.detach().flatten(1).norm(dim=1), rule.update(x)
    rule.assign_credit(x)
    rule.assign_credit(x)
    assert torch.allclose(conv.weight.grad, -2 * change)
    assert conv.bias.grad is None
    torch.optim.SGD([conv.weight], 1.0).step()
    rule.rescale()
    assert torch.allclose(conv.weight.detach().flatten(1).norm(dim=1), norms)


def test_flat_patches_teach_nothing_however_bright():
    conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")
    assert float(SoftHebbian(conv).update(torch.full((2, 1, 8, 8), 1234.5)).abs().max()) == 0
    x = torch.randn(4, 1, 8, 8)
    assert torch.allclose(SoftHebbian(conv).update(5 * x + 300), SoftHebbian(conv).update(x), atol=1e-4)


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(TypeError, match="Linear or a convolution, not ReLU"):
        SoftHebbian(nn.ReLU())
    with pytest.raises(ValueError, match="parametrisation"):
        SoftHebbian(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="two weights per kernel"):
        SoftHebbian(nn.Conv2d(1, 3, 1))
    with pytest.raises(ValueError, match="norm must be"):
        SoftHebbian(nn.Linear(3, 3), norm="unit")
    with pytest.raises(ValueError, match="no example"):
        SoftHebbian(nn.Linear(3, 3)).update(torch.zeros(0, 3))
    for wrong, sentence in [({"temperature": 0}, "temperature"), ({"competition": "fair"}, "competition")]:
        with pytest.raises(ValueError, match=sentence):
            soft_hebbian_update(torch.zeros(2, 3), torch.zeros(4, 3), **wrong)
    with pytest.raises(ValueError, match="same inputs"):
        soft_hebbian_update(torch.zeros(2, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="empty"):
        soft_hebbian_update(torch.zeros(2, 3), torch.zeros(0, 3))
