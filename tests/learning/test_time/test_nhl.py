"""Test-time adaptation: identities between methods, what is left untouched, protocols, refusals."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm

from neurarium.learning import BatchNormAdapt, NeuroModulatedHebbian, PseudoLabel, Tent, TestTimeAdaptation
from neurarium.learning.test_time._tent import pseudo_label_loss
from neurarium.objectives import prediction_entropy

SHAPE = (12, 1, 10, 10)


def cnn(norm=True, dtype=torch.float32):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), *([nn.BatchNorm2d(6)] if norm else []), nn.ReLU()]
    layers += [nn.Conv2d(6, 8, 3, stride=2), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, 4)).to(dtype)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(SHAPE, dtype=dtype))  # running statistics
    return model.eval()


def shifted(count=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [2 * torch.randn(SHAPE, generator=generator, dtype=dtype) + 0.5 for _ in range(count)]


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


METHODS = {
    "bn": BatchNormAdapt,
    "tent": Tent,
    "pseudo-label": PseudoLabel,
    "nhl": lambda model: NeuroModulatedHebbian(model, rate=0.1),
    "nhl-1x1": lambda model: NeuroModulatedHebbian(model, modulator="conv1x1", rate=0.1),
    "nhl-bn": lambda model: NeuroModulatedHebbian(model, modulator="bn", rate=0.1),
    "hebbian": lambda model: NeuroModulatedHebbian(model, modulator="none", rate=0.1),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_source_model_is_untouched_but_for_what_adapts_and_comes_back_bit_for_bit(method):
    model = cnn()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    before, x = state(model), shifted()[0]
    logits, flags = model(x), [p.requires_grad for p in model.parameters()]
    adapter = METHODS[method](model)
    assert not same({"": adapter.adapt(x)}, {"": logits})
    adapter.adapt(x)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    may = {"tent": {"1", "4"}, "pseudo-label": {"1", "4"}, "bn": set(), "nhl-bn": {"0", "1"}}.get(method, {"0"})
    assert {name.split(".")[0] for name in changed} == may
    assert not any("running" in name or "batches" in name for name in changed)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert torch.equal(model[3].weight.grad, torch.ones_like(model[3].weight))
    assert all(p.grad is None for name, p in model.named_parameters() if name != "3.weight")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert adapter.restore() is model
    assert same(state(model), before)
    assert torch.equal(model(x), logits)


@pytest.mark.parametrize("modulator", ["affine", "conv1x1", "none"])
def test_nothing_to_learn_with_leaves_the_logits_alone(modulator):
    model, x = cnn(), shifted()[0]
    expected = model(x)
    adapter = NeuroModulatedHebbian(
        model, modulator=modulator, rate=0, bn="source", optimizer=lambda p: torch.optim.SGD(p, lr=0.0)
    )
    assert torch.equal(adapter.adapt(x), expected)
    assert torch.equal(TestTimeAdaptation(model).adapt(x), expected)


def test_tent_on_the_first_normalisation_is_nhl_with_that_modulator_and_no_hebbian_step():
    a = Tent(cnn(), layers=["1"], lr=0.01)
    b = NeuroModulatedHebbian(cnn(), modulator="bn", rate=0, lr=0.01)
    for x in shifted(4):
        assert torch.equal(a.adapt(x), b.adapt(x))
    assert same(state(a.model), state(b.model))


def test_batch_statistics():
    model, x = cnn(), shifted()[0]
    source = copy.deepcopy(model)
    by_hand = source[0](x).detach()
    mean, variance = by_hand.mean((0, 2, 3)), by_hand.var((0, 2, 3), correction=0)
    expected = copy.deepcopy(source)
    for layer in (expected[1], expected[4]):
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    assert torch.equal(BatchNormAdapt(model).adapt(x), expected(x))
    # A mix: the first normalisation by hand, through a model that ends there.
    head = nn.Sequential(*source[:2]).eval()
    mixed = batch_norm(by_hand, 0.7 * source[1].running_mean + 0.3 * mean, 0.7 * source[1].running_var + 0.3 * variance,
                       source[1].weight, source[1].bias, False, 0.0, 1e-5)  # fmt: skip
    assert torch.allclose(BatchNormAdapt(head, mix=0.3).adapt(x), mixed, atol=1e-5)
    assert torch.equal(TestTimeAdaptation(source).adapt(x), source(x))


def test_the_modulator_goes_behind_the_normalisation_that_would_undo_it():
    x = shifted()[0]
    for norm, place in [(True, 1), (False, 0)]:
        model = cnn(norm)
        adapter = NeuroModulatedHebbian(model, rate=0, lr=0.1, bn="batch")
        adapter.adapt(x)
        assert adapter._sites == [model[place]]
        with torch.no_grad():
            adapter.modulators[0].gain.copy_(torch.linspace(-0.5, 0.5, 6))
            adapter.modulators[0].shift.fill_(0.25)
        expected = BatchNormAdapt(model) if norm else TestTimeAdaptation(model)
        handle = model[place].register_forward_hook(
            lambda m, i, o: (1 + torch.linspace(-0.5, 0.5, 6)).view(-1, 1, 1) * o + 0.25
        )
        by_hand = expected.predict(x)
        handle.remove()
        assert torch.allclose(adapter.predict(x), by_hand, atol=1e-6)


def test_one_step_by_hand():
    model, x = cnn(norm=False, dtype=torch.float64), shifted(dtype=torch.float64)[0]
    adapter = NeuroModulatedHebbian(
        model, rate=0.05, max_change=10, norm="plain", optimizer=lambda p: torch.optim.SGD(p, lr=0.3)
    )
    first, rest = copy.deepcopy(model[0]), copy.deepcopy(model[1:])
    found = adapter.adapt(x)
    patches = x.unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 9)
    w = first.weight.detach().flatten(1)
    u = patches @ w.T
    y = u.softmax(1)
    w = w + 0.05 * (y.T @ patches - (y * u).sum(0)[:, None] * w) / len(patches)
    h = nn.functional.conv2d(x, w.view_as(first.weight), first.bias)
    gain, shift = (torch.zeros(6, 1, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    p = rest((1 + gain) * h + shift).softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    entropy.backward()
    expected = rest((1 - 0.3 * gain.grad) * h - 0.3 * shift.grad)
    assert torch.allclose(model[0].weight.flatten(1), w, rtol=0, atol=1e-12)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    early = NeuroModulatedHebbian(cnn(norm=False, dtype=torch.float64), rate=0.05, max_change=10, norm="plain",
                                  predict_before=True)  # fmt: skip
    assert torch.allclose(early.adapt(x), rest(h), rtol=0, atol=1e-12)


def test_a_kernel_moves_by_at_most_its_share():
    model = cnn()
    before = model[0].weight.detach().flatten(1).clone()
    NeuroModulatedHebbian(model, modulator="none", rate=100, max_change=0.05).adapt(shifted()[0])
    after = model[0].weight.detach().flatten(1)
    moved = (after - before).norm(dim=1) / before.norm(dim=1)
    assert float(moved.max()) < 0.0501
    assert float(moved.min()) > 0.01
    assert torch.allclose(after.norm(dim=1), before.norm(dim=1))


def test_gradient_of_the_entropy():
    z = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    prediction_entropy(z).backward()
    p = z.detach().softmax(1)
    entropy = -(p * p.log()).sum(1, keepdim=True)
    assert torch.allclose(z.grad, -p * (p.log() + entropy) / 5, atol=1e-12)
    assert float(prediction_entropy(torch.zeros(3, 4))) == pytest.approx(math.log(4))


def test_pseudo_labels():
    z = torch.tensor([[3.0, 0.0], [0.1, 0.0]])
    sure = -float(z[0].log_softmax(0)[0])
    assert float(pseudo_label_loss(z, 0.9)) == pytest.approx(sure / 2)
    assert float(pseudo_label_loss(z)) == pytest.approx((sure - float(z[1].log_softmax(0)[0])) / 2)


@pytest.mark.parametrize("make", [Tent, lambda m, **k: NeuroModulatedHebbian(m, rate=0.1, **k)], ids=["tent", "nhl"])
def test_protocols(make):
    xs = shifted(3)
    episodic = make(cnn(), lr=0.05, episodic=True)
    alone = [make(cnn(), lr=0.05).adapt(x) for x in xs]
    assert all(torch.equal(episodic.adapt(x), y) for x, y in zip(xs, alone))
    online = make(cnn(), lr=0.05)
    assert torch.equal(online.adapt(xs[0]), alone[0])
    assert not torch.equal(online.adapt(xs[1]), alone[1])
    by_domain = make(cnn(), lr=0.05, reset_on_domain_change=True)
    by_domain.adapt(xs[0], domain="fog")
    assert torch.equal(by_domain.adapt(xs[1], domain="snow"), alone[1])
    assert not torch.equal(by_domain.adapt(xs[2], domain="snow"), alone[2])
    assert by_domain.batches == 3


def test_state_dict_goes_on_where_it_was():
    xs = shifted(3)
    first = NeuroModulatedHebbian(cnn(), rate=0.1, lr=0.05)
    for x in xs[:2]:
        first.adapt(x)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = NeuroModulatedHebbian(cnn(), rate=0.1, lr=0.05)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(first.adapt(xs[2]), second.adapt(xs[2]))
    assert second.batches == 3
    assert same(state(second.restore()), state(cnn()))


def test_linear_layers_several_layers_and_inference_mode():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    before = state(mlp)
    adapter = NeuroModulatedHebbian(mlp, layers=["0", "2"], rate=0.1, lr=0.05)
    x = torch.randn(20, 10)
    loss = float(prediction_entropy(adapter.predict(x)))
    with torch.inference_mode():
        for _ in range(20):
            adapter.adapt(torch.randn(20, 10))
    assert float(prediction_entropy(adapter.predict(x))) < loss
    assert len(adapter.modulators) == 2
    moved = {n for n, value in mlp.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {"0.weight", "2.weight"}


def test_a_batch_with_holes_is_named_and_skipped():
    adapter = Tent(cnn())
    adapter.adapt(shifted()[0])
    before = state(adapter.model)
    broken = shifted()[0]
    broken[3, 0, 2, 2] = math.nan
    with pytest.warns(RuntimeWarning, match="batch 1 holds values that are not finite"):
        assert adapter.adapt(broken).shape == (12, 4)
    assert same(state(adapter.model), before)
    huge = Tent(cnn(), loss=lambda z: prediction_entropy(z) * math.inf)
    with pytest.warns(RuntimeWarning, match="batch 0 gave a gradient"):
        huge.adapt(shifted()[0])
    assert same(state(huge.model), state(cnn()))


@pytest.mark.untyped
def test_refusals():
    x = shifted()[0]
    with pytest.raises(TypeError, match="no labels"):
        Tent(cnn()).adapt(x, torch.zeros(12))
    with pytest.raises(TypeError, match="one tensor"):
        Tent(cnn()).adapt((x, torch.zeros(12)))
    assert BatchNormAdapt(cnn(), mix=0.5).adapt(x[:1]).shape == (1, 4)
    dropping = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"dropout off \(module '1'\): call model.eval"):
        NeuroModulatedHebbian(dropping).adapt(torch.randn(4, 3))
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        NeuroModulatedHebbian(nn.Sequential(nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match="'conv9'; there are: 0"):
        NeuroModulatedHebbian(nn.Sequential(nn.Linear(3, 3)), layers=["conv9"])
    with pytest.raises(ValueError, match="needs a batch normalisation"):
        NeuroModulatedHebbian(cnn(norm=False), modulator="bn")
    with pytest.raises(ValueError, match="modulator must be one of"):
        NeuroModulatedHebbian(cnn(), modulator="gru")
    for nothing in (Tent, BatchNormAdapt):
        with pytest.raises(ValueError, match="nothing to adapt"):
            nothing(cnn(norm=False))
    with pytest.raises(ValueError, match="no normalisation layer is called '7'; there are: 1, 4"):
        Tent(cnn(), layers=["7"])


@pytest.mark.parametrize("make", [BatchNormAdapt, Tent, lambda model: NeuroModulatedHebbian(model, bn="batch")])
def test_a_lone_image_has_statistics_of_its_places(make):
    x = shifted()[0][:1]
    output = make(cnn()).adapt(x)
    assert output.shape == (1, 4)
    assert bool(output.isfinite().all())


def test_a_lone_vector_has_no_statistics():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    for adapter in (BatchNormAdapt(model), Tent(model)):
        with pytest.raises(ValueError, match="one example has no batch statistics: give larger batches"):
            adapter.adapt(torch.randn(1, 3))
        assert model[1].running_mean is not None
    assert BatchNormAdapt(model, mix=0.5).adapt(torch.randn(1, 3)).shape == (1, 2)
