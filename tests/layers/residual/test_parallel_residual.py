"""Residual stacks multiplied out: brute force over subsets, explicit Jacobians, and blocks that cannot interact."""

import itertools
import math

import pytest
import torch
from torch import nn

from neurarium.layers import BroadResidual, Increment, ParallelResidual, TruncatedResidual, ordered_products


def mlp(width=5, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)).double()


def stack(branches, x, scale=1.0):
    for branch in branches:
        x = x + scale * branch(x)
    return x


def brute_force(matrices, x, order):
    total = x
    for k in range(1, order + 1):
        for chosen in itertools.combinations(range(len(matrices)), k):
            term = x
            for i in chosen:
                term = term @ matrices[i].mT
            total = total + term
    return total


@pytest.mark.parametrize("order", range(7))
def test_every_order_of_linear_branches_is_the_sum_over_ordered_subsets(order):
    torch.manual_seed(1)
    matrices, x = torch.randn(6, 4, 4, dtype=torch.float64) / 3, torch.randn(3, 4, dtype=torch.float64)
    found = ordered_products(matrices, x, order).sum(0)
    torch.testing.assert_close(found, brute_force(matrices, x, order), rtol=0, atol=1e-10)
    if order == 6:
        torch.testing.assert_close(found, stack([lambda x, w=w: x @ w.mT for w in matrices], x), rtol=0, atol=1e-10)
    if order:
        layers = [nn.Linear(4, 4, bias=False).double() for _ in matrices]
        for layer, weight in zip(layers, matrices, strict=True):
            layer.weight.data = weight
        torch.testing.assert_close(TruncatedResidual(*layers, order=order)(x), found)


def test_the_whole_expansion_of_affine_branches_is_the_stack():
    layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.AvgPool2d(3, 1, 1)) for _ in range(4)]
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(TruncatedResidual(*layers, order=4)(x), stack(layers, x))


@pytest.mark.parametrize(("order", "slope", "within"), [(1, 2, 0.1), (2, 3, 0.15)])
def test_what_an_order_misses_shrinks_with_the_next_power(order, slope, within):
    branches, x = [mlp(seed=s) for s in range(4)], torch.randn(8, 5, dtype=torch.float64)
    scales, errors = (0.125, 0.0625, 0.03125), []
    for scale in scales:
        scaled = [nn.Sequential(branch, Times(scale)) for branch in branches]
        errors.append(float((TruncatedResidual(*scaled, order=order)(x) - stack(branches, x, scale)).norm().detach()))
    found = math.log(errors[0] / errors[-1]) / math.log(scales[0] / scales[-1])
    assert abs(found - slope) < within


class Times(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return self.by * x


@pytest.mark.parametrize("grad", [True, False])
def test_second_order_against_explicit_jacobians(grad):
    branches, x = [mlp(seed=s) for s in range(3)], torch.randn(5, dtype=torch.float64, requires_grad=grad)
    with torch.set_grad_enabled(grad):
        found = TruncatedResidual(*branches)(x[None])[0]
    values = [branch(x) for branch in branches]
    jacobians = [torch.autograd.functional.jacobian(branch, x, create_graph=True) for branch in branches]
    expected = x + sum(values) + jacobians[1] @ values[0] + jacobians[2] @ (values[0] + values[1])
    torch.testing.assert_close(found, expected.detach() if not grad else expected)
    if grad:
        parameters = [p for branch in branches for p in branch.parameters()]
        ours, theirs = (torch.autograd.grad(f.square().sum(), [x, *parameters], allow_unused=True)
                        for f in (found, expected))  # fmt: skip
        torch.testing.assert_close(ours, theirs)


def test_attention_and_batch_norm_have_a_second_order():
    torch.manual_seed(0)
    layers = [Increment(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)) for _ in range(2)]
    truncated, x = TruncatedResidual(*layers), torch.randn(2, 5, 8)
    trained = truncated(x)
    trained.sum().backward()
    with torch.inference_mode():
        torch.testing.assert_close(truncated.eval()(x), trained)
    norms = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    TruncatedResidual(*norms)(torch.randn(6, 4)).sum().backward()
    assert all(int(norm[1].num_batches_tracked) == 1 for norm in norms), "one pass through each branch"


def test_branches_that_read_what_no_other_writes_are_parallel_already():
    linear = nn.Linear(6, 6)
    branches = []
    for k in range(3):  # branch k reads and writes the channels 2k and 2k + 1 alone
        mask = torch.zeros(6)
        mask[2 * k : 2 * k + 2] = 1
        branches.append(Masked(linear, mask))
    x = torch.randn(4, 6)
    torch.testing.assert_close(ParallelResidual(*branches)(x), stack(branches, x))
    one = branches[:1]
    assert torch.equal(ParallelResidual(*one)(x), stack(one, x))


class Masked(nn.Module):
    def __init__(self, linear, mask):
        super().__init__()
        self.linear, self.mask = linear, mask

    def forward(self, x):
        return self.mask * self.linear(self.mask * x).tanh()


def test_order_of_branches_matters_in_the_stack_alone():
    branches, x = [mlp(seed=s) for s in range(3)], torch.randn(4, 5, dtype=torch.float64)
    other = branches[::-1]
    torch.testing.assert_close(ParallelResidual(*branches)(x), ParallelResidual(*other)(x))
    assert not torch.allclose(stack(branches, x), stack(other, x))


def test_scale_multiplies_every_branch_and_learns():
    branches, x = [mlp(seed=s) for s in range(3)], torch.randn(4, 5, dtype=torch.float64)
    model = ParallelResidual(*branches, scale=0.5)
    torch.testing.assert_close(model(x), x + 0.5 * sum(branch(x) for branch in branches))
    model(x).sum().backward()
    expected = torch.stack([branch(x).sum() for branch in branches])
    torch.testing.assert_close(model.scale.grad, expected)


def narrow(kind, width=4):
    torch.manual_seed(3)
    make = {
        "conv2d": lambda: nn.Conv2d(width, width, 3, padding=1),
        "conv1d": lambda: nn.Conv1d(width, width, 5, padding=4, dilation=2, bias=False, padding_mode="circular"),
        "linear": lambda: nn.Linear(width, width),
    }[kind]
    return [nn.Sequential(make(), nn.GELU()) for _ in range(3)]


@pytest.mark.parametrize(("kind", "shape"), [("conv2d", (2, 4, 6, 6)), ("conv1d", (2, 4, 9)), ("linear", (2, 3, 4))])
def test_the_broad_layer_is_the_sum_of_the_narrow_ones_in_twenty_steps_of_training(kind, shape):
    parallel = ParallelResidual(*narrow(kind))
    broad = BroadResidual.fuse(list(parallel.branches))
    assert sum(p.numel() for p in broad.parameters()) == sum(p.numel() for p in parallel.parameters())
    optimizers = [torch.optim.SGD(m.parameters(), 0.05) for m in (parallel, broad)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, made = torch.randn(shape, generator=generator), []
        for model, optimizer in zip((parallel, broad), optimizers, strict=True):
            optimizer.zero_grad()
            made.append(model(x))
            made[-1].square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(*made, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(broad.unfuse()(x), broad(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(broad(x[0]), broad(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.untyped
def test_refusals():
    relu, tanh = (nn.Sequential(nn.Linear(3, 3), act) for act in (nn.ReLU(), nn.Tanh()))
    with pytest.raises(ValueError, match=r"branches 0 and 1 are not alike: activation ReLU\(\) and Tanh\(\)"):
        BroadResidual.fuse([relu, tanh])
    with pytest.raises(ValueError, match="branches 0 and 1 are not alike: kernel_size"):
        BroadResidual.fuse([nn.Conv1d(3, 3, 3, padding=1), nn.Conv1d(3, 3, 5, padding=2)])
    with pytest.raises(ValueError, match=r"branch 0 is not a linear layer or convolution .* Linear, PReLU"):
        BroadResidual.fuse([nn.Sequential(nn.Linear(3, 3), nn.PReLU())])
    with pytest.raises(ValueError, match="groups"):
        BroadResidual.fuse([nn.Conv1d(4, 4, 1, groups=2)])
    with pytest.raises(ValueError, match="one module at least"):
        BroadResidual.fuse([])
    with pytest.raises(TypeError, match="module must be a linear layer"):
        BroadResidual(nn.ReLU())
    with pytest.raises(ValueError, match="branches must divide the 3 outputs"):
        BroadResidual(nn.Linear(3, 3), branches=2)
    with pytest.raises(ValueError, match="they must keep the shape"):
        BroadResidual(nn.Linear(3, 4))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"branch 1 maps \[2, 3\] to \[2, 4\]"):
        ParallelResidual(nn.Linear(3, 3), nn.Linear(3, 4))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"branch 0 maps .* to a tuple"):
        ParallelResidual(nn.GRU(3, 3))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="order 3 needs branches that are linear; branch 1"):
        TruncatedResidual(nn.Linear(3, 3), nn.ReLU(), order=3)
    with pytest.raises(ValueError, match="order must be 1 at least"):
        TruncatedResidual(order=0)
    with pytest.raises(ValueError, match="must not be negative"):
        ordered_products(torch.zeros(1, 2, 2), torch.zeros(2), -1)


def test_a_branch_without_a_second_derivative_is_named():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient

    class Module(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    with pytest.raises(ValueError, match="no second derivative"):
        TruncatedResidual(Module(), Module())(torch.zeros(2, 3))
