"""Few-bit activations: the optimal step function, the packing, and the layers."""

import dataclasses
import functools
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from neurarium.layers import (
    FewBitActivation,
    FewBitGELU,
    FewBitReLU,
    QuantizedInputActivation,
    few_bit_activation,
    optimal_derivative,
    pack_bits,
    uniform_derivative,
    unpack_bits,
)
from neurarium.layers.low_bit._derivative_levels import _solve
from neurarium.layers.low_bit._few_bit import STANDARD, built_in
from neurarium.training import saved_bytes

ERRORS = {  # least integral on [-10, 10] of the squared error, for 1 to 4 bits
    F.gelu: (0.14105, 0.04056, 0.01191, 0.00315),
    F.silu: (0.21498, 0.04786, 0.01702, 0.00447),
    F.softplus: (0.29022, 0.05405, 0.01212, 0.00290),
    torch.tanh: (1.0115, 0.11358, 0.02590, 0.00648),
}


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("fn", ERRORS, ids=lambda fn: fn.__name__)
def test_least_error(fn, bits):
    found = optimal_derivative(fn, bits, symmetry="none")
    assert found.error == pytest.approx(ERRORS[fn][bits - 1], rel=0.01)
    # and the error is that of the function it returns
    x = torch.linspace(-10, 10, 400_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(fn(x).sum(), x)
    assert 20 * float((found(x.detach()) - slope).square().mean()) == pytest.approx(found.error, rel=2e-3)


@pytest.mark.parametrize("fn", [F.gelu, F.silu, F.softplus])
def test_mirrored_levels_lose_nothing(fn):
    folded, free = optimal_derivative(fn, 3), optimal_derivative(fn, 3, symmetry="none")
    assert folded.fold == "odd"
    assert folded.error == pytest.approx(free.error, rel=1e-4)


def test_an_even_derivative_gains_a_bit():
    folded = optimal_derivative(torch.tanh, 2)
    assert folded.fold == "even"
    assert len(folded.levels) == 4
    assert folded.error < 0.3 * optimal_derivative(torch.tanh, 2, symmetry="none").error
    assert folded(torch.tensor([-0.3])) == folded(torch.tensor([0.3]))


def test_gelu_two_bits():
    found = optimal_derivative(F.gelu, 2, symmetry="none")
    assert found.thresholds == pytest.approx((-0.467, 0, 0.467), abs=5e-3)
    assert found.levels == pytest.approx((-0.0157, 0.3204, 0.6796, 1.0157), abs=2e-3)


def test_thresholds_are_stationary_and_levels_are_secants():
    found = optimal_derivative(F.silu, 3, symmetry="none")
    x = torch.tensor(found.thresholds, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(F.silu(x).sum(), x)
    levels = np.array(found.levels)
    np.testing.assert_allclose(slope.numpy(), (levels[1:] + levels[:-1]) / 2, atol=2e-3)
    widths = np.diff([-10, *found.thresholds, 10])
    ends = F.silu(torch.tensor([-10.0, 10.0], dtype=torch.float64))
    assert (levels * widths).sum() == pytest.approx(float(ends[1] - ends[0]), abs=1e-9)


def test_dynamic_programming_equals_brute_force():
    grid = np.linspace(-3, 3, 13)
    fine = torch.linspace(-3, 3, 12_001, dtype=torch.float64)
    middle = ((fine[1:] + fine[:-1]) / 2).requires_grad_()
    slope = torch.autograd.grad(F.silu(middle).sum(), middle)[0].numpy().reshape(12, -1)

    def error(cuts):
        pieces = [slope[a:b] for a, b in itertools.pairwise((0, *cuts, 12))]
        return sum(float(((p - p.mean()) ** 2).sum()) for p in pieces) * 6 / slope.size

    cuts = min(itertools.combinations(range(1, 12), 3), key=error)
    thresholds, _, least = _solve(F.silu, None, grid, grid, 4)
    np.testing.assert_allclose(thresholds, grid[list(cuts)])
    assert least == pytest.approx(error(cuts), rel=1e-4)


def test_weight_draws_the_thresholds():
    near = optimal_derivative(F.gelu, 3, weight=lambda x: torch.exp(-8 * x**2))
    assert max(near.thresholds) < max(optimal_derivative(F.gelu, 3).thresholds) - 0.5
    moved = optimal_derivative(F.gelu, 2, weight=lambda x: torch.exp(-((x - 1) ** 2)))
    assert moved.fold == "none"


def test_optimal_beats_uniform():
    for bits in (2, 3, 4):
        assert optimal_derivative(F.gelu, bits).error < uniform_derivative(F.gelu, bits).error


@pytest.mark.parametrize("module", STANDARD, ids=repr)
def test_built_in_tables_are_the_optimum(module):
    domain = (-7.0, 13.0) if isinstance(module, nn.ReLU6) else (-10.0, 10.0)
    for bits in (1, 3):
        fresh, kept = optimal_derivative(module, bits, domain=domain), built_in(repr(module), bits)
        assert kept.fold == fresh.fold
        assert kept.error == pytest.approx(fresh.error, abs=1e-7)
        assert kept.levels == pytest.approx(fresh.levels, abs=1e-5)


@pytest.mark.parametrize(
    "module",
    [nn.ReLU(), nn.LeakyReLU(0.2), nn.Hardtanh(), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardshrink(), nn.Softshrink()],
    ids=repr,
)
def test_one_bit_is_exact_for_piecewise_linear(module):
    layer = FewBitActivation(module, 1)
    assert layer.error < 1e-9
    x = (3 * torch.randn(1001)).requires_grad_()
    seed = torch.randn(1001)
    (ours,) = torch.autograd.grad(layer(x), x, seed)
    (exact,) = torch.autograd.grad(module(x), x, seed)
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-6)
    if isinstance(module, nn.ReLU):
        assert torch.equal(ours, exact)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packing(bits):
    for count in range(101):
        codes = torch.randint(0, 2**bits, (count,), dtype=torch.uint8)
        packed = pack_bits(codes, bits)
        assert len(packed) == -(-bits * count // 8)
        assert torch.equal(unpack_bits(packed, bits, count), codes)


@functools.cache
def step_function(fn, bits, domain):
    return optimal_derivative(fn, bits, domain=domain)


def gradients(layer, x):
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    y.backward(torch.ones_like(y))
    return x.grad


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("fn", [nn.GELU(), nn.Tanh(), nn.Mish(), nn.ReLU6()], ids=repr)
@pytest.mark.parametrize("count", [5, 1003, 4096])  # several chunks, and not a multiple of 8
def test_gradient_is_the_step_function(fn, bits, count, monkeypatch):
    monkeypatch.setattr("neurarium.layers.low_bit._bit_planes.CHUNK", 256)
    domain = (-7.0, 13.0) if isinstance(fn, nn.ReLU6) else (-10.0, 10.0)  # symmetric about another point than 0
    table = step_function(fn, bits, domain)
    layer = FewBitActivation(fn, bits, table=table).double()
    x = 3 * torch.randn(count, dtype=torch.float64)
    torch.testing.assert_close(gradients(layer, x), table(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(layer(x), fn(x))


def test_many_bits_approach_the_exact_gradient():
    x = torch.randn(10_000)
    exact = gradients(nn.GELU(), x)
    errors = [float((gradients(FewBitGELU(b), x) - exact).norm() / exact.norm()) for b in (1, 2, 3, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_shapes_and_strides(dtype):
    layer = FewBitGELU(3)
    x = torch.randn(5, 7, 3)
    plain = gradients(layer, x.to(dtype))
    assert plain.dtype == dtype
    assert plain.shape == x.shape
    turned = x.to(dtype).permute(2, 0, 1).detach().requires_grad_()
    layer(turned).sum().backward()
    assert torch.equal(turned.grad.permute(1, 2, 0), plain)
    assert gradients(layer, torch.empty(0, 3, dtype=dtype)).shape == (0, 3)
    assert gradients(layer, torch.tensor(0.5, dtype=dtype)).shape == ()


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_compiled_codes_and_those_of_the_processor_are_one_function(bits):
    """A tensor of another type goes the way that a compiler or a graphics card goes."""
    x, layer = 3 * torch.randn(777), FewBitGELU(bits)
    assert torch.equal(gradients(layer, x.as_subclass(type("Other", (torch.Tensor,), {}))), gradients(layer, x))


def test_keeps_the_bits_and_the_table_only():
    for bits in range(1, 9):
        x = torch.randn(13, 17, requires_grad=True)
        layer = FewBitGELU(bits)
        assert saved_bytes(lambda layer=layer, x=x: layer(x)) == -(-bits * x.numel() // 8) + 4 * 2**bits
    with torch.no_grad():
        assert not FewBitGELU()(torch.randn(3, requires_grad=True)).requires_grad


def test_checkpoint_autocast_and_double_use():
    layer = FewBitGELU(3)
    x = torch.randn(64, 33)
    expected = gradients(layer, x)
    assert torch.equal(gradients(lambda x: checkpoint(layer, x, use_reentrant=False), x), expected)
    linear = nn.Linear(33, 33)
    with torch.autocast("cpu", torch.bfloat16):
        twice = layer(linear(layer(linear(x))))
    assert twice.dtype == torch.bfloat16
    twice.float().sum().backward()
    assert linear.weight.grad.dtype == torch.float32
    assert linear.weight.grad.isfinite().all()


COMPILED = """
import torch
from neurarium.layers import FewBitGELU
layer = FewBitGELU(3)
compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
x, twin = (torch.linspace(-4, 4, 77).requires_grad_() for _ in range(2))
layer(x).square().sum().backward()
compiled(twin).square().sum().backward()
torch.testing.assert_close(x.grad, twin.grad)
"""


def test_compiles_to_one_graph():
    # in a process of its own: the type checks that the tests switch on are not traceable
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=120)


def test_inplace_module_is_left_out_of_place():
    x = torch.randn(9, requires_grad=True)
    before = x.detach().clone()
    FewBitActivation(nn.SiLU(inplace=True), 3)(x)
    assert torch.equal(x, before)
    assert built_in("ReLU()", 1) is not None
    assert FewBitReLU().fold == "odd"


def test_quantized_input_is_unbiased_and_sharpens():
    x = torch.randn(1000)  # not a multiple of the group
    square = lambda x: x**2 / 2  # noqa: E731  (its derivative is the kept input)
    layer = QuantizedInputActivation(square, 2, group_size=64)
    mean = torch.stack([gradients(layer, x) for _ in range(1000)]).mean(0)
    torch.testing.assert_close(mean, x, rtol=0, atol=0.17)
    exact = gradients(nn.GELU(), x)
    errors = [float((gradients(QuantizedInputActivation(None, b), x) - exact).norm()) for b in (2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    kept = saved_bytes(lambda: layer(x.requires_grad_()))
    assert kept == 2 * 1000 // 8 + 2 * 4 * 16


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FewBitGELU(0), "bits must be a whole number from 1 to 8"),
        (lambda: FewBitGELU(9), "bits must be a whole number from 1 to 8"),
        (lambda: optimal_derivative(lambda x: x.softmax(-1)), "elementwise"),
        (lambda: optimal_derivative(lambda x: x.sum()), "elementwise"),
        (lambda: optimal_derivative(torch.sqrt), "finite derivative"),
        (lambda: optimal_derivative(F.gelu, domain=(1.0, 1.0)), "low < high"),
        (lambda: optimal_derivative(F.gelu, weight=lambda x: -x), "not negative"),
        (lambda: FewBitActivation(bits=2, table=optimal_derivative(F.gelu, 3)), "4 levels for 2 bits"),
        (lambda: few_bit_activation(torch.randn(3), F.gelu, torch.zeros(2), torch.zeros(2)), "1 thresholds, not 2"),
        (lambda: pack_bits(torch.zeros(3), 2), "vector of uint8"),
        (lambda: unpack_bits(torch.zeros(3, dtype=torch.uint8), 3, 4), "2 bytes for 4 codes"),
        (lambda: QuantizedInputActivation(bits=0), "bits"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_equal_tables_from_equal_arguments():
    assert dataclasses.asdict(optimal_derivative(F.gelu, 2)) == dataclasses.asdict(optimal_derivative(F.gelu, 2))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_device_draws_the_same_thresholds(bits, dtype, monkeypatch):
    x = (3 * torch.randn(10_007)).to(dtype)
    layer = FewBitActivation(nn.GELU(), bits)
    here = gradients(layer, x)
    monkeypatch.setattr("neurarium.layers.low_bit._few_bit._by_planes", lambda x, bits: False)
    assert torch.equal(gradients(layer, x), here)


def test_a_cast_to_half_precision_and_back_keeps_the_table():
    layer = FewBitGELU(4)
    before = layer.thresholds.clone(), layer.levels.clone()
    for kept, buffer in zip(before, layer.half().float().buffers(), strict=True):
        assert torch.equal(kept, buffer)


def test_mirrored_levels_are_used_only_where_they_are_best():
    def steps(x):  # its derivative is odd: 0 to 0.5, 1 to 1.5, 5 to 2.5
        return torch.relu(x.abs() - 0.5) + 4 * torch.relu(x.abs() - 1.5)

    found = optimal_derivative(steps, 2, domain=(-2.5, 2.5))
    assert found.error == pytest.approx(0.5, abs=1e-6)
    assert found.fold == "none"  # -5, -1, 0 and 1 as one, 5
    assert optimal_derivative(F.gelu, 2).fold == "odd"


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_a_symmetry_is_seen_at_any_scale(scale):
    plain, scaled = optimal_derivative(F.gelu, 2), optimal_derivative(lambda x: scale * F.gelu(x), 2)
    assert scaled.fold == plain.fold
    assert np.allclose(scaled.thresholds, plain.thresholds, atol=1e-6)
    assert np.allclose(np.array(scaled.levels) / scale, plain.levels, atol=1e-6)
