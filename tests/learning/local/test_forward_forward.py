"""Forward-Forward: goodness, labels, locality, and that it learns."""

import copy
import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from neurarium.learning import ForwardForward
from neurarium.testing import check_learning_rule

CLASSES = 3


def model(depth=3, inputs=8, width=10):
    torch.manual_seed(0)
    sizes = [inputs] + [width] * depth
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES)).double()


def batch(rows=12, inputs=8):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (rows,), generator=generator)


def gradients(rule, x, y):
    rule.zero_grad()
    torch.manual_seed(3)
    rule.assign_credit(x, y)
    return {name: p.grad.clone() for name, p in rule.named_parameters() if p.grad is not None}


def test_contract():
    check_learning_rule(ForwardForward)


def test_the_label_is_written_over_the_first_features():
    rule = ForwardForward(model(), cross_entropy)
    x = torch.randn(4, 2, 4)
    y = torch.tensor([0, 1, 2, 1])
    shown, neutral = rule.embed(x, y), rule.embed(x, None)
    assert shown.shape == x.shape
    assert torch.equal(shown.flatten(1)[:, 3:], x.flatten(1)[:, 3:])
    assert torch.equal(shown.flatten(1)[:, :3].argmax(1), y)
    height = x.flatten(1).abs().amax(1)
    assert torch.equal(shown.flatten(1)[:, :3].sum(1), height)
    assert torch.allclose(neutral.flatten(1)[:, :3], height[:, None].expand(4, 3) / 3)


def test_wrong_labels_are_wrong_and_equally_likely():
    rule = ForwardForward(model(), cross_entropy, generator=torch.Generator().manual_seed(0))
    y = torch.arange(3).repeat(4000)
    wrong = rule.wrong_labels(y)
    assert not (wrong == y).any()
    counts = torch.stack([torch.bincount(wrong[y == c], minlength=3) for c in range(3)]).double() / 4000
    assert ((counts - 0.5).abs() < 0.03).sum() == 6


def test_loss_at_the_threshold_is_ln_2():
    identity = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Identity(), nn.Linear(6, CLASSES))
    nn.init.eye_(identity[0].weight)
    rule = ForwardForward(identity, cross_entropy, threshold=1.0)
    x = torch.ones(5, 6)
    rule.embed = lambda x, y: x
    rule.assign_credit(x, torch.zeros(5, dtype=torch.long))
    assert float(rule.layer_losses[0]) == pytest.approx(math.log(2), abs=1e-6)


def test_closed_form_and_locality():
    x, y = batch()
    rule = ForwardForward(model(), cross_entropy, threshold=1.5)
    found = gradients(rule, x, y)
    torch.manual_seed(3)
    wrong = rule.wrong_labels(y)
    before = torch.cat([rule.embed(x, y), rule.embed(x, wrong)])
    for i in range(3):
        linear = rule.model[2 * i]
        a = linear(before).relu()
        g = a.square().mean(1)
        loss = 0.5 * (softplus(1.5 - g[:12]).mean() + softplus(g[12:] - 1.5).mean())
        assert torch.allclose(loss, rule.layer_losses[i])
        expected = torch.autograd.grad(loss, [linear.weight, linear.bias])
        assert torch.allclose(found[f"model.{2 * i}.weight"], expected[0], rtol=1e-10, atol=1e-14)
        assert torch.allclose(found[f"model.{2 * i}.bias"], expected[1], rtol=1e-10, atol=1e-14)
        before = (a / (g.sqrt() + 1e-4)[:, None]).detach()


def test_the_length_of_an_activation_is_hidden_from_the_next_block():
    x, _ = batch()
    rule = ForwardForward(model(), cross_entropy)
    with torch.no_grad():
        first = rule.goodness(x)
        for p in rule.model[0].parameters():
            p *= 3
        second = rule.goodness(x)
    assert torch.allclose(9 * first[0], second[0])
    assert torch.allclose(first[1], second[1], rtol=1e-2)  # up to the small number that keeps the division finite


def test_local_and_global():
    x, y = batch()
    local = gradients(ForwardForward(model(), cross_entropy), x, y)
    whole = gradients(ForwardForward(model(), cross_entropy, local=False), x, y)
    same = [name for name in local if torch.allclose(local[name], whole[name], rtol=1e-10, atol=1e-14)]
    assert same == ["model.4.weight", "model.4.bias", "model.6.weight", "model.6.bias"]  # the last block, the readout


def test_both_predictions_learn_digits():
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    rule = ForwardForward(net, cross_entropy)
    optimizer = torch.optim.Adam(rule.parameters(), lr=1e-2)
    for _ in range(300):
        rows = torch.randint(1300, (100,))
        optimizer.zero_grad()
        rule.assign_credit(x[rows], y[rows])
        optimizer.step()
    for prediction in ("goodness", "readout"):
        rule.prediction = prediction
        assert float((rule(x[1300:]).argmax(1) == y[1300:]).double().mean()) > 0.8, prediction


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"prediction": "sum"}, "prediction must be"), ({"num_classes": 1}, "at least 2 classes")],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ForwardForward(model(), cross_entropy, **arguments)


def test_bad_batches():
    x, y = batch()
    rule = ForwardForward(model(), cross_entropy)
    with pytest.raises(ValueError, match="one class index per example"):
        rule.assign_credit(x, y.double())
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        rule.assign_credit(x, y + 1)
    with pytest.raises(ValueError, match="at least 3 values per example"):
        rule.assign_credit(x[:, :2], y)
    with pytest.raises(ValueError, match="no hidden block"):
        ForwardForward(nn.Linear(4, 3), cross_entropy)


def table(order, rows=400):
    """Only one column says anything of the class."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (rows,), generator=generator)
    x = torch.randn(rows, 6, generator=generator)
    x[:, 0] = 3 * (y - 1) + 0.3 * torch.randn(rows, generator=generator)
    return x[:, order], y


def reached(label, order):
    x, y = table(order)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    rule = ForwardForward(net, label=label, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(rule.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        rule.assign_credit(x, y)
        optimizer.step()
    return float((rule(x).argmax(1) == y).double().mean())


def test_beside_a_table_the_label_takes_no_column():
    orders = [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]
    padded = [reached("pad", order) for order in orders]
    assert min(padded) > 0.9
    overlaid = [reached("overlay", order) for order in orders]
    assert overlaid[0] < 0.7 < overlaid[1]


@pytest.mark.parametrize("convolutional", [False, True])
def test_a_padded_label_is_further_inputs_of_the_first_layer(convolutional):
    torch.manual_seed(0)
    if convolutional:
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES)).double()
        x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    else:
        net, x = model(), batch(5)[0]
    rule = ForwardForward(net, label="pad", blocks=None)
    y = torch.arange(5, dtype=torch.int32) % CLASSES
    seen = []
    handle = net[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    rule._run(x, [y])
    handle.remove()
    codes = x.flatten(1).abs().amax(1, keepdim=True) * nn.functional.one_hot(y.long(), CLASSES)
    share = codes @ rule.label_weight.T
    assert torch.allclose(seen[0], net[0](x) + (share[:, :, None, None] if convolutional else share))
    assert torch.equal(net[0](x), net[0](x))  # no hook is left
    rule.assign_credit(x, y)
    assert bool(rule.label_weight.grad.any())
    assert [name for name, _ in rule.named_parameters()].count("label_weight") == 1
    again = ForwardForward(copy.deepcopy(net), label="pad")
    again.load_state_dict(rule.state_dict())
    assert torch.equal(again(x), rule(x))


@pytest.mark.untyped
def test_a_label_goes_over_or_beside():
    with pytest.raises(ValueError, match="label must be 'overlay' or 'pad'"):
        ForwardForward(model(), label="beside")
