"""What convolutional networks need: batch norm, GELU, pooling and whole networks without multiplications."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from neurarium.layers import PAMGELU, PAMBatchNorm, PAMGlobalAvgPool2d, pam, to_piecewise_affine
from neurarium.learning import PAMSGD, PAMAdam, PAMAdamW
from neurarium.probes import multiplication_report


def times(a, b):
    """A piecewise affine product by its definition in words."""
    if a == 0 or b == 0:
        return 0.0
    (ma, ea), (mb, eb) = math.frexp(abs(a)), math.frexp(abs(b))
    total = 2 * ma + 2 * mb - 2
    return math.copysign(2.0 ** (ea + eb - 2) * (1 + total if total < 1 else 2 * total), a * b)


def over(a, b):
    """A piecewise affine quotient by its definition in words."""
    if a == 0:
        return 0.0
    (ma, ea), (mb, eb) = math.frexp(abs(a)), math.frexp(abs(b))
    rest = 2 * (ma - mb)
    return math.copysign(2.0 ** (ea - eb) * (1 + rest) if rest >= 0 else 2.0 ** (ea - eb - 1) * (2 + rest), a * b)


def power(x):
    return 2.0 ** math.floor(x) * (1 + x - math.floor(x))


def root(x):
    m, e = math.frexp(x)
    return power(times(e - 1 + 2 * m - 1, 0.5))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_by_its_definition(training):
    x = torch.randn(5, 3, 2, 1, dtype=torch.float64) * 3 + 1
    norm = PAMBatchNorm(3, eps=1e-3, momentum=0.3).double().train(training)
    with torch.no_grad():
        for part in (norm.weight, norm.bias, norm.running_mean):
            part.normal_()
        norm.running_var.uniform_(0.5, 3)
    before = copy.deepcopy(norm.state_dict())
    y = norm(x)
    for c in range(3):
        values, (gain, shift) = x[:, c].flatten().tolist(), (before[name][c].item() for name in ("weight", "bias"))
        center, spread = (before[f"running_{name}"][c].item() for name in ("mean", "var"))
        if training:
            old, old_spread = center, spread
            center = over(sum(values), 10)
            squares = sum(times(v - center, v - center) for v in values)
            spread = over(squares, 10)
            assert norm.running_mean[c].item() == pytest.approx(old + times(0.3, center - old), rel=1e-12)
            wanted = old_spread + times(0.3, over(squares, 9) - old_spread)
            assert norm.running_var[c].item() == pytest.approx(wanted, rel=1e-12)
        wanted = [times(over(v - center, root(spread + 1e-3)), gain) + shift for v in values]
        assert y[:, c].flatten().tolist() == pytest.approx(wanted, rel=1e-12)
    assert norm.num_batches_tracked == (1 if training else 0)
    assert training or torch.equal(norm.running_mean, before["running_mean"])


def test_batch_norm_of_powers_of_two_is_torchs():
    """Forward and, since PAD undoes PAM exactly, backward too."""
    signs = torch.tensor([1.0, -1.0]).repeat(8)
    x = torch.stack([2 * signs, signs[torch.randperm(16)] / 4]).T.reshape(16, 2).requires_grad_()
    true, made = (kind(2, eps=1e-9) for kind in (nn.BatchNorm1d, PAMBatchNorm))
    for norm in (true, made):
        nn.init.constant_(norm.weight, 0.5)
        nn.init.constant_(norm.bias, 3)
    assert torch.allclose(made(x), true(x), atol=1e-6)
    g = torch.randn(16, 2)
    ours = torch.autograd.grad(made(x), (x, *made.parameters()), g)
    for one, other in zip(ours, torch.autograd.grad(true(x), (x, *true.parameters()), g)):
        assert torch.allclose(one, other, atol=1e-5)


def test_running_statistics_settle_at_what_they_average():
    x = torch.randn(64, 40, 3, 3) * torch.linspace(1, 4, 40).view(-1, 1, 1) + torch.linspace(2, 9, 40).view(-1, 1, 1)
    norm = PAMBatchNorm(40)
    for _ in range(150):
        norm(x)
    mean = pam.mean(x, (0, 2, 3))
    centred = x - mean.view(-1, 1, 1)
    var = pam.div(pam.mul(centred, centred).sum((0, 2, 3)), 64 * 9 - 1.0)
    assert torch.allclose(norm.running_mean, mean, rtol=1e-4)
    assert torch.allclose(norm.running_var, var, rtol=1e-4)
    trained = norm(x)
    corner = torch.stack([trained.flatten(), norm.eval()(x).flatten()])
    assert torch.corrcoef(corner)[0, 1] > 0.999


def test_without_momentum_all_batches_count_alike():
    norm = PAMBatchNorm(1, momentum=None)
    for center in (4.0, 8.0, 4.0, 8.0):
        norm(torch.tensor([[center - 1], [center + 1]]))
        assert norm.running_mean.item() == pytest.approx(6, abs=2.01)
    assert norm.running_mean.item() == pytest.approx(6, abs=0.2)
    assert norm.running_var.item() == 2
    free = PAMBatchNorm(3, affine=False, track_running_stats=False).eval()
    assert free(torch.randn(8, 3)).mean(0).abs().max() < 0.2
    assert not free.state_dict()


def test_gelu_by_its_definition():
    x = torch.cat([torch.randn(200, dtype=torch.float64) * 3, torch.tensor([0.0, 9.0, -9.0], dtype=torch.float64)])
    for v, made in zip(x.tolist(), pam.gelu(x).tolist()):
        held = max(-8.0, min(8.0, v))
        z = times(held + times(times(times(held, held), held), 0.044715), 2 * math.sqrt(2 / math.pi))
        e = power(times(-abs(z), 1 / math.log(2)))
        assert made == pytest.approx(times(v, over(e if z < 0 else 1.0, 1 + e)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gelu_is_nearly_torchs(dtype):
    x = torch.linspace(-10, 10, 2001).to(dtype)
    assert (pam.gelu(x) - gelu(x)).abs().max() < 0.06
    large = torch.tensor([-60_000.0, 60_000.0], dtype=dtype)
    assert torch.allclose(PAMGELU()(large), torch.tensor([0.0, 1.0]).to(dtype) * large, atol=1e-3)
    x = x.float().requires_grad_()
    made = torch.autograd.grad(pam.gelu(x).sum(), x)[0]
    assert (made - torch.autograd.grad(gelu(x).sum(), x)[0]).abs().max() < 0.2


@pytest.mark.parametrize("f", [
    lambda x: pam.gelu(x, approximate_backward=False),
    lambda x: pam.batch_norm(x, None, None, training=True, approximate_backward=False),
    lambda x: pam.batch_norm(x, x.new_ones(4), x.new_full((4,), 3.0), approximate_backward=False),
    lambda x: pam.mean(x.view(5, 2, 8), (0, 2), approximate_backward=False),
])  # fmt: skip
def test_exact_derivatives(f):
    x, direction = torch.randn(2, 20, 4, dtype=torch.float64)
    x.requires_grad_()
    y = f(x)
    weights = torch.randn_like(y)
    slope = (torch.autograd.grad(y, x, weights)[0] * direction).sum()
    step = 1e-9
    moved = ((f(x.detach() + step * direction) - f(x.detach())) * weights).sum() / step
    assert slope.item() == pytest.approx(moved.item(), rel=1e-4)


def test_mean_over_an_image():
    x = torch.randint(-50, 50, (3, 5, 4, 8)).float()
    assert torch.equal(PAMGlobalAvgPool2d()(x), x.mean((2, 3), keepdim=True))  # 32 is a power of two
    assert PAMGlobalAvgPool2d()(torch.tensor([[[1.0, 2.0, 3.0]]])).item() == 2
    assert pam.mean(torch.tensor([[1.0, 0, 0]]), (0, 1)).item() == 0.375  # 1 / 3


class Block(nn.Module):
    """Convolutions around a shortcut."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GELU(), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, bias=False),
            nn.BatchNorm2d(8, momentum=None), nn.Dropout(0.1),
        )  # fmt: skip

    def forward(self, x):
        return (x + self.body(x)).relu()


def convolutional(classes=2):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Block(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False), nn.GELU("tanh"),
        nn.Linear(8, classes),
    )  # fmt: skip


@pytest.mark.parametrize(
    "optimizer",
    [PAMAdamW, lambda p: PAMAdam(p, weight_decay=0.1), lambda p: PAMSGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True)],
)
@pytest.mark.parametrize("approximate", [True, False])
def test_a_converted_convolutional_network_multiplies_nowhere(optimizer, approximate):
    model = convolutional()
    conversion = to_piecewise_affine(model, "network", approximate_backward=approximate)
    assert not conversion.skipped
    network = conversion.model
    rule = optimizer(network.parameters())
    x, y = torch.randn(6, 1, 10, 10), torch.randint(2, (6,))

    def step():
        rule.zero_grad()
        pam.cross_entropy(network(x), y).backward()
        rule.step()

    for _ in range(2):
        before = copy.deepcopy(network.state_dict())
        report = multiplication_report(step)
        assert report.total == 0, report.summary()
        assert not report.scalings
        after = network.state_dict()
        assert not [name for name, values in after.items() if torch.equal(values, before[name])]
        assert all(values.isfinite().all() for values in after.values())
    with torch.no_grad():
        network.eval()
        assert multiplication_report(lambda: network(x)).total == 0
    assert multiplication_report(lambda: model(x)).total > 0


def test_a_converted_convolutional_network_learns():
    """Horizontal bars against vertical ones; evaluation rests on the running statistics."""
    torch.manual_seed(0)
    model = convolutional()
    model[3].body[4].momentum = 0.1  # an average over all batches would keep the first
    network = to_piecewise_affine(model, "network").model
    rule = PAMAdamW(network.parameters(), 2e-2)
    y = torch.arange(2).repeat(32)
    x = torch.zeros(64, 1, 8, 8)
    for image, kind in zip(x[:, 0], y):
        (image if kind else image.T)[torch.randint(8, ())] = 1
    x += 0.1 * torch.randn_like(x)
    for _ in range(40):
        rule.zero_grad()
        pam.cross_entropy(network(x), y).backward()
        rule.step()
    with torch.no_grad():
        assert (network.eval()(x).argmax(1) == y).float().mean() > 0.95


def test_conversion_keeps_statistics_and_names():
    model = convolutional()
    model(torch.randn(16, 1, 8, 8))
    keys, mean = list(model.state_dict()), model[1].running_mean
    made = to_piecewise_affine(model, "network").model
    assert list(made.state_dict()) == keys
    assert all(torch.equal(made.state_dict()[name], values) for name, values in model.state_dict().items())
    assert isinstance(made[1], PAMBatchNorm)
    assert made[1].running_mean is not mean
    assert to_piecewise_affine(model, "network", inplace=True).model[1].running_mean is mean
    assert made[3].body[4].momentum is None
    twice = to_piecewise_affine(nn.Sequential(made, nn.Linear(2, 2)), "network")
    assert list(twice.changed) == ["1"]
    assert not twice.skipped
    convolutional().load_state_dict(made.state_dict())


def test_matrix_products_alone_leave_the_rest():
    made = to_piecewise_affine(convolutional(), "matmul").model
    assert type(made[1]) is nn.BatchNorm2d
    assert type(made[9]) is nn.GELU
    assert "convolution" not in multiplication_report(lambda: made(torch.randn(4, 1, 8, 8))).multiplications


@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
@pytest.mark.parametrize("activation", ["gelu", gelu, nn.GELU()])
def test_gelu_inside_transformer_layers(kind, activation):
    layer = kind(8, 2, 16, 0.0, copy.deepcopy(activation), batch_first=True)
    conversion = to_piecewise_affine(nn.Sequential(layer), "network")
    assert not conversion.skipped
    assert "0.activation" in conversion.changed
    made = conversion.model[0]
    given = [torch.randn(3, 4, 8)] * (1 if kind is nn.TransformerEncoderLayer else 2)
    for mode in (True, False):
        made.train(mode)
        with torch.set_grad_enabled(mode):
            assert multiplication_report(lambda: made(*given)).total == 0
    assert (made(*given) - layer.eval()(*given)).norm() < 0.2 * layer(*given).norm()
    assert "0.activation" not in to_piecewise_affine(nn.Sequential(layer), "matmul").changed


@pytest.mark.parametrize(
    ("layer", "word"),
    [(nn.GroupNorm(2, 4), "GroupNorm"), (nn.SyncBatchNorm(4), "SyncBatchNorm"), (nn.RMSNorm(4), "RMSNorm"),
     (nn.InstanceNorm2d(4), "InstanceNorm2d"), (nn.SiLU(), "SiLU"), (nn.Sigmoid(), "Sigmoid"),
     (nn.AvgPool2d(2), "AvgPool2d"), (nn.AdaptiveAvgPool2d(2), "output_size 1"),
     (nn.Conv2d(4, 4, 3, padding="same"), "padded"), (nn.Conv1d(4, 4, 3), "Conv1d"),
     (nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d")],
)  # fmt: skip
def test_what_is_not_converted_is_named(layer, word):
    conversion = to_piecewise_affine(nn.Sequential(nn.Linear(4, 4), layer), "network")
    assert list(conversion.changed) == ["0"]
    assert word in conversion.skipped["1"]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="more than one value per channel"):
        PAMBatchNorm(3)(torch.randn(1, 3))
    with pytest.raises(ValueError, match=r"must be \[batch, 3"):
        PAMBatchNorm(3)(torch.randn(2, 4))
    with pytest.raises(ValueError, match="running_mean and running_var"):
        pam.batch_norm(torch.randn(2, 3), None, None)
    with pytest.raises(ValueError, match="approximate must be"):
        PAMGELU("fast")
