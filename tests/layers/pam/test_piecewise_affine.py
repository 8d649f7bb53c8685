"""Piecewise affine operations against their definition, brute force, finite differences and exact special cases."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from neurarium.layers import PAMConv2d, PAMLinear, PAMMultiheadAttention, pam, to_piecewise_affine
from neurarium.layers.pam import _sums as sums
from neurarium.layers.pam._elementary import offset_bits
from neurarium.models import CausalTransformer
from neurarium.probes import multiplication_report

ONE = 0x3F800000


def tensor(*values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(1.5, 1.5, 2), (1.3, -1.3, -1.6), (4.5, 3, 13), (-6, 3, -16), (-3.5, -3.5, 12), (0.1, 0.1, 0.009375),
     (1.2345, 32, 1.2345 * 32), (1.2345, -32, -1.2345 * 32), (0, 7, 0), (-0.0, 1e36, 0), (1e-30, 1e-30, 0)],
)  # fmt: skip
def test_products_worked_by_hand(a, b, expected):
    assert pam.mul(tensor(a), tensor(b)).item() == pytest.approx(expected, rel=2e-7, abs=0)


@pytest.mark.parametrize(
    ("a", "b"), [(1e30, 1e30), (math.inf, 1), (1, -math.inf), (math.nan, 2), (math.inf, 0), (math.inf, math.inf)]
)
def test_products_that_are_not_defined(a, b):
    assert pam.mul(tensor(a), tensor(b)).isnan().all()


def test_denormal_numbers_count_as_zero():
    tiny = torch.tensor([1], dtype=torch.int32).view(torch.float32)
    assert pam.mul(tiny, tensor(1e30)).item() == 0
    assert pam.div(tiny, tensor(1e-30)).item() == 0
    assert pam.div(tensor(1.0), tiny).isnan().all()


@pytest.mark.parametrize(("a", "b"), [(1, 0), (0, 0), (math.inf, 1e30), (1, math.inf), (1e30, 1e-30), (math.nan, 1)])
def test_quotients_that_are_not_defined(a, b):
    assert pam.div(tensor(a), tensor(b)).isnan().all()


def test_one_number_out_of_range_does_not_touch_the_others():
    a, b = torch.randn(2, 100)
    a[3], a[4], a[5], a[6] = 0, 1e-30, math.inf, 1e30
    b[4], b[6] = 1e-30, 1e30
    alone = torch.stack([pam.mul(x, y) for x, y in zip(a, b)])
    assert torch.equal(pam.mul(a, b).nan_to_num(7), alone.nan_to_num(7))
    alone = torch.stack([pam.div(x, y) for x, y in zip(a, b)])
    assert torch.equal(pam.div(a, b).nan_to_num(7), alone.nan_to_num(7))
    assert pam.matmul(a.view(1, -1), b.view(-1, 1)).isnan().all()


@pytest.mark.parametrize(("a", "b", "expected"), [(1, 3, 0.375), (3, 1.5, 2), (7, 7, 1), (-1, 3, -0.375), (0, 3, 0)])
def test_quotients_worked_by_hand(a, b, expected):
    assert pam.div(tensor(a), float(b)).item() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_format_has_the_same_products(dtype):
    a, b = tensor(1.5, 4.5, -6, -3.5, 0, dtype=dtype), tensor(1.5, 3, 3, -3.5, 2, dtype=dtype)
    assert pam.mul(a, b).tolist() == [2, 13, -16, 12, 0]
    assert pam.div(a[:4], tensor(3, 1.5, 1.5, 1.75, dtype=dtype)).tolist() == [0.5, 3.25, -4, -2]
    assert pam.mul(tensor(60000.0, 1e-3, dtype=torch.float16), tensor(2.0, 1e-3, dtype=torch.float16))[1] == 0


def test_ratio_to_the_true_product():
    a, b = torch.randn(2, 1_000_000)
    ratio = pam.mul(a, b).double() / (a.double() * b.double())
    assert ratio.min() >= 8 / 9 - 1e-6
    assert ratio.max() <= 1 + 1e-6
    assert ratio.mean().item() == pytest.approx(0.9619, abs=5e-4)
    quotients = pam.div(a, b).double() / (a.double() / b.double())
    assert quotients.min() >= 1 - 1e-6
    assert quotients.max() <= 9 / 8 + 1e-6


def test_an_offset_scales_by_itself():
    a, b = torch.randn(2, 1000)
    assert torch.equal(pam.mul(a, b, offset=1.25), pam.mul(pam.mul(a, b), 1.25))
    x, y = torch.randn(2, 5, 5)
    assert torch.allclose(pam.matmul(x, y, offset=1.25), pam.mul(x[:, :, None], y, offset=1.25).sum(1), atol=1e-5)


def test_products_are_powers_of_sums_of_logarithms():
    a, b = torch.randn(2, 10_000, dtype=torch.float64)
    made = pam.exp2(pam.log2(a.abs()) + pam.log2(b.abs()))
    assert torch.allclose(pam.mul(a, b).abs(), made, rtol=1e-14, atol=0)
    assert torch.equal(pam.mul(a, b).sign(), a.sign() * b.sign())


def test_largest_errors_of_exponential_logarithm_and_root():
    x = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    assert (pam.exp2(x) / 2**x).max().item() == pytest.approx(1.061476, abs=1e-6)
    assert ((1 + x).log2() - pam.log2(1 + x)).max().item() == pytest.approx(0.086071, abs=1e-6)
    assert pam.sqrt(tensor(2, 3, 0, 16)).tolist() == [1.5, 1.75, 0, 4]
    assert pam.exp2(tensor(-math.inf, -126, -127, 128)).tolist() == [0, 2.0**-126, 0, math.inf]
    assert pam.log2(tensor(0.0)).item() == -math.inf
    assert pam.log2(tensor(-1.0)).isnan().all()
    assert pam.exp(pam.log(tensor(5.0))).item() == pytest.approx(5, rel=1e-5)  # the two constants cancel


def differences(f, x, step=1e-9):
    return (f(x + step) - f(x)) / step


@pytest.mark.parametrize(
    "f",
    [lambda a, b: pam.mul(a, b, approximate_backward=False), lambda a, b: pam.mul(b, a, approximate_backward=False),
     lambda a, b: pam.div(a, b, approximate_backward=False), lambda a, b: pam.div(b, a, approximate_backward=False)],
)  # fmt: skip
def test_exact_derivatives_of_products_and_quotients(f):
    a, b = torch.randn(2, 500, dtype=torch.float64).requires_grad_()
    a = a.detach().requires_grad_()
    b = b.detach()
    f(a, b).sum().backward()
    assert torch.allclose(a.grad, differences(lambda x: f(x, b), a.detach()), rtol=1e-5)
    assert set(torch.frexp(a.grad)[0].abs().tolist()) == {0.5}  # powers of two


@pytest.mark.parametrize("f", [pam.exp2, pam.log2, pam.exp, pam.log, pam.sqrt])
def test_exact_derivatives_of_functions(f):
    x = torch.rand(500, dtype=torch.float64).add(0.1).mul(5).requires_grad_()
    f(x, approximate_backward=False).sum().backward()
    assert torch.allclose(x.grad, differences(lambda t: f(t, approximate_backward=False), x.detach()), rtol=1e-5)


def test_the_exact_derivative_is_that_of_the_composition():
    a, b = torch.rand(2, 300, dtype=torch.float64) + 0.3
    slopes = []
    for f in (pam.mul, lambda a, b, **mode: pam.exp2(pam.log2(a, **mode) + pam.log2(b, **mode), **mode)):
        x = a.clone().requires_grad_()
        f(x, b, approximate_backward=False).sum().backward()
        slopes.append(x.grad)
    assert torch.equal(*slopes)


@pytest.mark.parametrize("offset", [1.25, 0.8])
def test_exact_derivatives_know_the_offset(offset):
    a, b = torch.randn(2, 500, dtype=torch.float64)
    a.requires_grad_()

    def f(x):
        return pam.mul(x, b, offset=offset, approximate_backward=False)

    f(a).sum().backward()
    assert torch.allclose(a.grad, differences(f, a.detach()), rtol=1e-5)
    x, y, g = torch.randn(3, 6, 6)
    x.requires_grad_()
    made = torch.autograd.grad(pam.matmul(x, y, offset=offset, approximate_backward=False), x, g)[0]
    terms = pam.mul(x[:, :, None], y, offset=offset, approximate_backward=False)
    assert torch.allclose(made, torch.autograd.grad(terms.sum(1), x, g)[0], atol=1e-5)


def test_layers_with_hooks_are_left_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].register_forward_hook(lambda *_: None)
    conversion = to_piecewise_affine(model)
    assert list(conversion.changed) == ["0"]
    assert "hooks" in conversion.skipped["1"]


def test_approximate_derivatives():
    a, b, g = torch.rand(3, 200) + 0.5
    a.requires_grad_()
    b.requires_grad_()
    y = pam.mul(a, b)
    assert torch.equal(torch.autograd.grad(y, a, g)[0], pam.mul(g, b).detach())
    by_a, by_b = torch.autograd.grad(pam.div(a, b), (a, b), g)
    assert torch.equal(by_a, pam.div(g, b).detach())
    assert torch.equal(by_b, -pam.div(pam.mul(a, g), pam.mul(b, b)).detach())
    assert torch.equal(torch.autograd.grad(pam.exp(a), a, g)[0], pam.mul(pam.exp(a), g).detach())
    assert torch.equal(torch.autograd.grad(pam.log(a), a, g)[0], pam.div(g, a).detach())


def loop(a, b):
    """Products of integers, one at a time."""
    ia, ib = a.numpy().view(np.int32).astype(np.int64), b.numpy().view(np.int32).astype(np.int64)
    total = np.zeros((a.shape[0], b.shape[1]))
    for i, j, k in np.ndindex(a.shape[0], b.shape[1], a.shape[1]):
        if a[i, k] and b[k, j]:
            bits = np.uint64((ia[i, k] + ib[k, j] - ONE) % 2**32).astype(np.uint32)
            total[i, j] += bits.view(np.float32)
    return total


@pytest.mark.parametrize("shape", [(5, 7, 3), (3, 2, 9), (1, 11, 1)])
@pytest.mark.parametrize("tile", [4, 1 << 17])
def test_matrix_product_against_a_loop_over_integers(shape, tile, monkeypatch):
    monkeypatch.setattr(sums, "TILE", tile)
    n, k, m = shape
    a, b = torch.randn(n, k), torch.randn(k, m)
    a[0, 0] = b[-1, 0] = 0
    assert np.allclose(pam.matmul(a, b), loop(a, b), atol=2e-6)


def test_matrix_of_powers_of_two_is_exact():
    a = torch.randint(-1000, 1000, (3, 6, 20)).float()
    b = torch.tensor(2.0) ** torch.randint(-3, 4, (3, 20, 8)) * torch.randint(0, 2, (3, 20, 8)).mul(2).sub(1)
    assert torch.equal(pam.matmul(a, b), a @ b)
    assert torch.equal(pam.matmul(a, b[0]), a @ b[0])
    assert torch.equal(pam.matmul(a[:, None], b[:2]), a[:, None] @ b[:2])


@pytest.mark.parametrize("scale", [1.0, 1e-22])
@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("tile", [16, 1 << 17])
def test_gradients_of_the_matrix_product_are_those_of_its_products(scale, approximate, tile, monkeypatch):
    """At the smaller scale products leave the range of floats, and the fast path with them."""
    monkeypatch.setattr(sums, "TILE", tile)
    a, b, g = torch.randn(2, 6, 9), torch.randn(2, 9, 4) * scale, torch.randn(2, 6, 4) * scale
    a[0, 1], b[:, 3], g[0, 0] = 0, 0, 0
    a.requires_grad_()
    b.requires_grad_()
    made = torch.autograd.grad(pam.matmul(a, b, approximate_backward=approximate), (a, b), g)
    products = pam.mul(a[:, :, :, None], b[:, None], approximate_backward=approximate).sum(2)
    for one, other in zip(made, torch.autograd.grad(products, (a, b), g)):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6 * float(other.abs().max()))
        assert other.abs().max() > 0 or scale < 1


def test_half_types_sum_in_float32():
    a = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert pam.matmul(a, a.mT).item() == 4096
    assert pam.matmul(a.half(), a.half().mT).dtype == torch.float16


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"padding": (2, 0), "dilation": (1, 2)}, {"groups": 2, "stride": (1, 3)}],
)
def test_convolution_by_powers_of_two_is_torchs(options):
    torch.manual_seed(1)
    x = torch.randint(-9, 9, (2, 4, 8, 9)).float().requires_grad_()
    shape = (6, 4 // options.get("groups", 1), 3, 2)
    weight = (torch.tensor(2.0) ** torch.randint(-2, 3, shape)).requires_grad_()
    bias = torch.arange(6.0)
    made, true = pam.conv2d(x, weight, bias, **options), conv2d(x, weight, bias, **options)
    assert torch.equal(made, true)
    ones = torch.ones_like(true)
    for one, other in zip(torch.autograd.grad(made, (x, weight), ones), torch.autograd.grad(true, (x, weight), ones)):
        assert torch.allclose(one, other)


def times(a, b):
    """A piecewise affine product by its definition in words: exponents added, mantissas added, carry."""
    if a == 0 or b == 0:
        return 0.0
    (ma, ea), (mb, eb) = math.frexp(abs(a)), math.frexp(abs(b))
    total = 2 * ma + 2 * mb - 2
    size = 2.0 ** (ea + eb - 2) * (1 + total if total < 1 else 2 * total)
    return math.copysign(size, a * b)


def over(a, b):
    """A piecewise affine quotient by its definition in words."""
    (ma, ea), (mb, eb) = math.frexp(abs(a)), math.frexp(abs(b))
    rest = 2 * (ma - mb)
    return math.copysign(2.0 ** (ea - eb) * (1 + rest) if rest >= 0 else 2.0 ** (ea - eb - 1) * (2 + rest), a * b)


def power(x):
    return 2.0 ** math.floor(x) * (1 + x - math.floor(x))


def logarithm(x):
    m, e = math.frexp(x)
    return e - 1 + 2 * m - 1


def test_softmax_by_its_definition():
    x = torch.randn(6, 9, dtype=torch.float64) * 3
    made, logs = pam.softmax(x), pam.log_softmax(x)
    for row, probabilities, log_probabilities in zip(x.tolist(), made.tolist(), logs.tolist()):
        z = [times(v, 1 / math.log(2)) for v in row]
        z = [v - math.floor(max(z)) for v in z]
        total = sum(power(v) for v in z)
        assert probabilities == pytest.approx([over(power(v), total) for v in z], rel=1e-12)
        wanted = [over(v - logarithm(total), 1 / math.log(2)) for v in z]
        assert log_probabilities == pytest.approx(wanted, rel=1e-12)
    assert made.sum(-1).sub(1).abs().max() <= 1 / 8


def test_softmax_of_hidden_and_equal_logits():
    hidden = pam.softmax(torch.tensor([[1.0, -math.inf, 2.0], [3.0, 3.0, -math.inf]]))
    assert hidden[0, 1] == hidden[1, 2] == 0
    assert hidden[1].tolist() == [0.5, 0.5, 0]
    assert torch.equal(pam.softmax(torch.full((4,), 300.0)), torch.full((4,), 0.25))  # no overflow


def test_layer_norm_is_nearly_torchs():
    x = torch.randn(50, 32) * 4 + 3
    weight, bias = torch.randn(32), torch.randn(32)
    made, true = pam.layer_norm(x, weight, bias), nn.functional.layer_norm(x, (32,), weight, bias)
    assert ((made - bias) / (true - bias)).median().item() == pytest.approx(1, abs=0.1)
    assert torch.corrcoef(torch.stack([made.flatten(), true.flatten()]))[0, 1] > 0.995
    one = tensor(-1.0, 1.0, -1.0, 1.0)  # powers of two: exact but for eps
    assert torch.allclose(pam.layer_norm(one, eps=0.0), one)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_of_cross_entropy(smoothing):
    logits = torch.randn(8, 5, requires_grad=True)
    target = torch.randint(5, (8,))
    loss = pam.cross_entropy(logits, target, label_smoothing=smoothing)
    loss.backward()
    wanted = nn.functional.one_hot(target, 5) * (1 - smoothing) + smoothing / 5
    assert torch.allclose(logits.grad, (pam.softmax(logits.detach()) - wanted) / 8, atol=1e-7)  # 8: a power of two
    true = nn.functional.cross_entropy(logits, target, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(true.item(), rel=0.15)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_with_masks_is_nearly_torchs(batch_first):
    torch.manual_seed(2)
    true = nn.MultiheadAttention(16, 4, batch_first=batch_first)
    made = to_piecewise_affine(nn.Sequential(true), "matmul").model[0]
    x = torch.randn(3, 3, 16)
    causal = torch.ones(3, 3, dtype=torch.bool).triu(1)
    padding = torch.tensor([[False, False, True]] * 3)
    for options in ({}, {"attn_mask": causal}, {"key_padding_mask": padding}, {"average_attn_weights": False},
                    {"attn_mask": torch.zeros(12, 3, 3).masked_fill(causal, -math.inf)}):  # fmt: skip
        (y, w), (other, weights) = made(x, x, x, **options), true(x, x, x, **options)
        assert y.shape == other.shape
        assert torch.equal(w == 0, weights == 0)
        assert (w - weights).abs().max() < 0.1
        assert (y - other).norm() / other.norm() < 0.2


@pytest.mark.parametrize("training", [True, False])
def test_a_converted_transformer_multiplies_nowhere(training):
    model = CausalTransformer(20, 16, 2, 2, 32, 8, dropout=0.1)
    conversion = to_piecewise_affine(model, "network")
    assert not conversion.skipped
    converted = conversion.model.train(training)
    x, y = torch.randint(20, (3, 8)), torch.randint(20, (24,))

    def step():
        loss = pam.cross_entropy(converted(x).flatten(0, 1), y)
        if training:
            loss.backward()

    with torch.set_grad_enabled(training):
        report = multiplication_report(step)
        assert report.total == 0, report.summary()
        assert not report.scalings
        assert multiplication_report(lambda: model.train(training)(x)).total > 0
    matmul = to_piecewise_affine(model, "matmul").model
    assert not {"mm", "addmm", "bmm"} & set(multiplication_report(lambda: matmul(x)).multiplications)


def test_conversion_keeps_parameters_ties_modes_and_names():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 2))
    model[3].weight = nn.Parameter(model[2].weight[:2].detach().clone())
    shared = nn.ModuleDict({"a": model, "b": model[2]}).eval()
    keys = list(shared.state_dict())
    weight = model[2].weight
    conversion = to_piecewise_affine(shared, inplace=True)
    assert conversion.model is shared
    assert list(shared.state_dict()) == keys
    assert isinstance(shared["a"][0], PAMConv2d)
    assert shared["a"][2] is shared["b"]
    assert shared["b"].weight is weight
    assert not shared["b"].training
    assert isinstance(to_piecewise_affine(nn.Linear(2, 2)).model, PAMLinear)


def test_conversion_copies_unless_in_place():
    model = nn.Sequential(nn.Linear(4, 4))
    before = copy.deepcopy(model.state_dict())
    converted = to_piecewise_affine(model).model
    converted[0].weight.data.add_(1)
    assert type(model[0]) is nn.Linear
    assert torch.equal(model[0].weight, before["0.weight"])


def test_conversion_names_what_still_multiplies():
    model = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.LSTM(4, 4), nn.GroupNorm(2, 4), nn.ReLU())
    assert set(to_piecewise_affine(model, "matmul").skipped) == {"2"}
    conversion = to_piecewise_affine(model, "network")
    assert set(conversion.skipped) == {"1", "2", "3"}
    assert "SiLU" in str(conversion)
    layer = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 8, activation=nn.functional.silu))
    assert "use relu or gelu" in to_piecewise_affine(layer, "network").skipped["0"]
    with pytest.raises(ValueError, match=r"nothing to convert in Sequential.*LSTM is not known"):
        to_piecewise_affine(nn.Sequential(nn.LSTM(2, 2)))


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="got int64"):
        pam.mul(torch.arange(3), torch.arange(3))
    with pytest.raises(TypeError, match="one dtype"):
        pam.matmul(torch.ones(2, 2), torch.ones(2, 2).double())
    with pytest.raises(TypeError, match="offset must be a plain number"):
        offset_bits(torch.tensor(1.05, requires_grad=True), tensor(1.0))
    with pytest.raises(ValueError, match="offset must be a factor near 1"):
        pam.mul(tensor(1.0), tensor(1.0), offset=3.0)
    with pytest.raises(ValueError, match="must fit"):
        pam.matmul(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="level must be"):
        to_piecewise_affine(nn.Linear(2, 2), "all")
    with pytest.raises(ValueError, match="nhead must divide"):
        PAMMultiheadAttention(8, 3)
    with pytest.raises(ValueError, match="target"):
        pam.cross_entropy(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64))
