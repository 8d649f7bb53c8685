"""Weights as trained bits: values, gradients, scale, frozen planes, storage, reports."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from neurarium.compression import capacity, read, store
from neurarium.layers import bit_layers, bitwise, check_weight_decay, to_dense, to_integers
from neurarium.learning import Backprop, DirectFeedbackAlignment
from neurarium.probes import bit_report
from neurarium.probes.weights._bits import planes
from neurarium.training import fit


def one_weight(signs, bits=3, **options):
    """A single weight with its real variables at the given signs, alpha 0.5."""
    layer = bitwise(nn.Linear(1, 1, bias=False), bits, scale=0.5, **options).model
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.tensor(signs, dtype=torch.float32).view(-1, 1, 1))
    return layer


@pytest.mark.parametrize(
    ("signs", "value"), [((1, 1, 1), -1.5), ((-1, 1, -1), 1.0), ((-1, -1, 1), 0.0), ((1, -1, -1), 0.5)]
)
def test_values(signs, value):
    layer = one_weight(signs)
    assert layer.weight.item() == value
    assert to_integers(layer)[""][0].item() == value / 0.5
    assert bit_report(layer).total_sparsity == float(value == 0)


def test_gradients_go_straight_through():
    layer = one_weight((1, 1, 1))
    layer.weight.backward(torch.full((1, 1), 2.0))
    x = layer.parametrizations.weight.original
    assert x.grad.flatten().tolist() == [-0.5 * 2, -1.0 * 2, -3.0 * 2]
    clipped = one_weight((2.0, 0.5, 0.5), straight_through="clip")
    clipped.weight.backward(torch.ones(1, 1))
    assert clipped.parametrizations.weight.original.grad.flatten().tolist() == [0, -1.0, -3.0]
    zero = one_weight((-1, -1, 1))
    zero.weight.backward(torch.ones(1, 1))
    assert zero.parametrizations.weight.original.grad[-1].item() == 0  # a zero weight says nothing to its sign


def test_a_trained_scale_starts_where_a_fixed_one_stays():
    fixed, trained = (
        bitwise(nn.Linear(6, 4), 5, train_scale=on, generator=torch.Generator().manual_seed(0)).model
        for on in (False, True)
    )
    assert torch.equal(fixed.weight, trained.weight)
    factor = trained.parametrizations.weight[0].gain
    up = torch.randn(4, 6)
    trained.weight.backward(up)
    integers, scale = to_integers(trained)[""]
    assert factor.grad.item() == pytest.approx(float((up * integers).sum()) * scale, rel=1e-4)  # dW / dgain = alpha s m
    with torch.no_grad():
        factor.mul_(3)
    assert torch.allclose(trained.weight, 3 * fixed.weight)
    assert to_integers(trained)[""][1] == pytest.approx(3 * scale)
    assert torch.equal(to_dense(trained).weight, trained.weight)
    again = bitwise(nn.Linear(6, 4), 5, train_scale=True).model
    again.load_state_dict(trained.state_dict())
    assert torch.equal(again.weight, trained.weight)


def test_with_all_bits_frozen_a_trained_scale_still_learns():
    model = network(6, trainable=0, train_scale=True)
    (x, y), before = problem(), {n: v.clone() for n, (v, _) in to_integers(model).items()}
    loss = float(cross_entropy(model(x), y))
    train(model, 40)
    assert float(cross_entropy(model(x), y)) < loss
    assert all(torch.equal(v, before[name]) for name, (v, _) in to_integers(model).items())
    assert all(g.item() != 1 for name, g in model.named_parameters() if name.endswith("gain"))


def test_weight_decay_on_bits_is_said_and_elsewhere_is_not():
    model = network(4)
    with pytest.warns(UserWarning, match="weight decay acts on the bits of 0, 2, 4"):
        assert check_weight_decay(model, torch.optim.AdamW(model.parameters())) == ["0", "2", "4"]
    bits = [x for _, _, x in bit_layers(model)]
    rest = [p for p in model.parameters() if all(p is not x for x in bits)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_weight_decay(model, torch.optim.Adam(model.parameters())) == []
        groups = [{"params": bits, "weight_decay": 0.0}, {"params": rest}]
        assert check_weight_decay(model, torch.optim.AdamW(groups)) == []
        assert check_weight_decay(nn.Linear(2, 2), torch.optim.AdamW(rest)) == []


@pytest.mark.parametrize("bits", [2, 8, 32])
@pytest.mark.parametrize("layer", [nn.Linear(300, 200), nn.Conv2d(16, 64, 3), nn.Embedding(200, 300)])
def test_the_weights_have_hes_spread(layer, bits):
    torch.manual_seed(0)
    made = bitwise(copy.deepcopy(layer), bits).model
    fan_in = layer.weight.shape[-1] if layer.weight.dim() == 2 else math.prod(layer.weight.shape[1:])
    assert float(made.weight.std()) == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
    if bits == 8:
        alpha = float(made.parametrizations.weight[0].alpha)
        assert alpha == pytest.approx(math.sqrt(2 / fan_in) / 73.468, rel=0.02)


def network(bits=8, seed=0, **options):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    return bitwise(model, bits, **options).model


def problem():
    torch.manual_seed(5)
    x = torch.randn(120, 8)
    return x, x[:, :3].argmax(1)


def train(model, epochs=30, rule=Backprop):
    fit(rule(model, cross_entropy), [problem()], torch.optim.Adam(model.parameters(), 1e-2), epochs=epochs)
    return model


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 24])
def test_dense_and_integer_exports_give_the_same_outputs(bits):
    model, (x, _) = train(network(bits)), problem()
    dense = to_dense(model)
    assert torch.equal(dense(x), model(x))
    assert not list(bit_layers(dense))
    assert list(bit_layers(model))
    for name, (integers, alpha) in to_integers(model).items():
        layer = model.get_submodule(name)
        assert torch.equal((integers.float() * alpha), layer.weight)
        assert integers.abs().max() <= max(1, 2 ** (bits - 1) - 1)


def test_one_bit_is_a_binary_weight_with_a_straight_through_sign():
    layer = bitwise(nn.Linear(6, 4), 1, scale=0.3).model
    x = layer.parametrizations.weight.original
    inputs = torch.randn(5, 6)
    assert torch.equal(layer.weight, torch.where(x[0] > 0, -0.3, 0.3))
    layer(inputs).square().sum().backward()
    free = layer.weight.detach().clone().requires_grad_()
    linear(inputs, free, layer.bias).square().sum().backward()
    assert torch.allclose(x.grad[0], -2 * 0.3 * free.grad)


def test_training_lowers_the_loss_and_frozen_planes_stay():
    model = network(6, trainable=3)
    x, y = problem()
    before, loss = planes(model), float(cross_entropy(model(x), y))
    train(model, 60)
    assert float(cross_entropy(model(x), y)) < 0.5 * loss
    report = bit_report(model, before)
    for flips in report.flips.values():
        assert flips[:3] == (0, 0, 0)
        assert min(flips[3:]) > 0
    assert "flipped" in report.summary()


def test_all_planes_frozen_learn_nothing():
    model, (x, _) = network(4, trainable=0), problem()
    before = model[0](x)
    train(model, 3)
    assert all(x.numel() == 0 for _, _, x in bit_layers(model))
    assert torch.allclose(model[0](x) - model[0].bias, before - network(4, trainable=0)[0].bias, atol=1e-6)


def test_only_trained_planes_are_floats_and_the_state_survives():
    model = train(network(32, trainable=3), 5)
    state = model.state_dict()
    weights = 8 * 24 + 24 * 24 + 24 * 3
    floats = sum(v.numel() for v in state.values() if v.is_floating_point())
    assert floats < 3 * weights + 100
    assert sum(v.numel() for v in state.values() if v.dtype == torch.uint8) == 29 * weights // 8
    other = network(32, trainable=3, seed=9)
    other.load_state_dict(state)
    assert torch.equal(other(problem()[0]), model(problem()[0]))


def test_a_payload_survives_training_saving_and_loading(tmp_path):
    model = network(16, trainable=3)
    payload = bytes(range(256)) * (capacity(model) // 256)
    store(model, payload)
    assert len(payload) / (16 * (8 * 24 + 24 * 24 + 24 * 3) / 8) > 0.7
    train(model, 10)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = network(16, trainable=3, seed=4)
    with pytest.raises(ValueError, match="no stored data"):
        read(other)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert read(other) == payload
    parametrization = next(bit_layers(other))[1]
    bits = parametrization.frozen_bits()
    bits[1, 10] ^= True
    parametrization.freeze(bits)
    with pytest.raises(ValueError, match="damaged"):
        read(other)


def test_storage_that_does_not_fit_is_refused():
    model = network(8, trainable=3)
    size = capacity(model)
    store(model, bytes(size))
    with pytest.raises(ValueError, match="untrained planes x weights"):
        store(model, bytes(size + 1))
    assert read(model) == bytes(size)
    assert capacity(network(8)) == 0
    with pytest.raises(ValueError, match="no untrained bits"):
        store(network(8), b"x")


def test_other_rules_train_bits_too():
    x, y = problem()
    model = train(network(6), 60, DirectFeedbackAlignment)
    assert (model(x).argmax(1) == y).double().mean() > 0.7


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: bitwise(nn.Linear(2, 2), 0), "between 1 and 32"),
        (lambda: bitwise(nn.Linear(2, 2), 33), "between 1 and 32"),
        (lambda: bitwise(nn.ReLU()), "no linear"),
        (lambda: bitwise(nn.Linear(2, 2), 4, trainable=5), "trainable"),
        (lambda: bitwise(nn.Linear(2, 2), 4, trainable=[4]), "trainable"),
        (lambda: bitwise(nn.Linear(2, 2), straight_through="tanh"), "straight_through"),
        (lambda: bitwise(nn.Linear(2, 2), scale="lecun"), "scale"),
        (lambda: bitwise(nn.Sequential(nn.Linear(2, 2)), {"1": 4}), "'1'"),
        (lambda: bitwise(bitwise(nn.Linear(2, 2)).model), "parametrised already"),
        (lambda: bitwise(nn.Linear(2, 2), 16).model.half()(torch.ones(1, 2).half()), "does not hold integers of 16"),
        (lambda: bit_report(nn.Linear(2, 2)), "no layer's weight is bits"),
    ],
)
def test_wrong_use_is_said(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("bits", [1, 8, 16, 32])
@pytest.mark.parametrize("trainable", [0, 1, None])
def test_a_cast_to_half_precision_and_back_changes_nothing(bits, trainable):
    layer = bitwise(nn.Linear(6, 4), bits, trainable=trainable).model
    before = layer.weight.detach().clone()
    assert torch.equal(layer.half().float().weight, before)
    assert torch.equal(copy.deepcopy(layer).bfloat16().float().weight, before)
    assert torch.allclose(layer.double().weight, before.double(), rtol=1e-6)


def test_a_dense_copy_has_no_negative_zeros():
    dense = to_dense(bitwise(nn.Linear(60, 40), 3).model).weight
    assert int((dense == 0).sum()) > 100
    assert not bool(torch.signbit(dense[dense == 0]).any())
