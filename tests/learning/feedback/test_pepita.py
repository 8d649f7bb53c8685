"""PEPITA and adaptive feedback alignment where they are exact, to first order, and where they are another rule."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot, softmax

from neurarium.learning import AdaptiveFeedbackAlignment, Backprop, ForwardForward, Pepita, WeightMirror
from neurarium.probes import alignment, feedback_angle
from neurarium.testing import check_learning_rule

RULES = (Pepita, AdaptiveFeedbackAlignment)


def mlp(*sizes, nonlinearity=nn.ReLU, bias=False, seed=0):
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=bias), nonlinearity()]
    return nn.Sequential(*layers[:-1]).double()


def batch(rows=16, inputs=6, classes=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (rows,), generator=generator)


def gradients(rule, x, y):
    rule.zero_grad()
    rule.assign_credit(x, y)
    return [p.grad.clone() for p in rule.model.parameters()]


def with_feedback(rule_class, rule, **options):
    other = rule_class(copy.deepcopy(rule.model), rule.loss, **options)
    other.feedback = rule.feedback
    return other


@pytest.mark.parametrize("rule_class", RULES)
def test_contract(rule_class):
    check_learning_rule(rule_class)


@pytest.mark.parametrize("update", ["hebbian", "time-local"])
def test_the_other_forms_run_on_convolutions(update):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    rule = Pepita(model, cross_entropy, update=update)
    rule.assign_credit(torch.randn(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("rule_class", RULES)
@pytest.mark.parametrize("loss", [cross_entropy, lambda z, y: mse_loss(z, one_hot(y, 3).double())])
def test_without_feedback_only_the_last_layer_learns_and_as_by_backpropagation(rule_class, loss):
    x, y = batch()
    rule = rule_class(mlp(6, 8, 7, 3), loss, feedback_scale=0.0)
    found = gradients(rule, x, y)
    true = gradients(Backprop(copy.deepcopy(rule.model), loss), x, y)
    assert not found[0].any()
    assert not found[1].any()
    torch.testing.assert_close(found[-1], true[-1], rtol=1e-12, atol=1e-15)


def test_one_linear_hidden_layer_in_closed_form():
    x, y = batch()
    rule = Pepita(mlp(6, 8, 3, nonlinearity=nn.Identity), cross_entropy, feedback_scale=1.0)
    found = gradients(rule, x, y)[0]
    e = softmax(rule.model(x), 1) - one_hot(y, 3)
    moved = e @ rule.feedback.T
    signal = -moved @ rule.model[0].weight.T
    torch.testing.assert_close(found, signal.T @ (x + moved) / len(x), rtol=1e-12, atol=1e-14)


def test_hebbian_is_pepita_and_the_clean_activity_times_the_change_of_the_input():
    x, y = batch()
    rule = Pepita(mlp(6, 8, 3), cross_entropy)
    e = softmax(rule.model(x), 1) - one_hot(y, 3)
    extra = -rule.model[:2](x).T @ (e @ rule.feedback.T) / len(x)
    hebbian = gradients(with_feedback(Pepita, rule, update="hebbian"), x, y)
    plain = gradients(rule, x, y)
    torch.testing.assert_close(hebbian[0], plain[0] + extra, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(hebbian[1], plain[1])


@pytest.mark.parametrize("sizes", [(6, 8, 3), (6, 8, 7, 3), (6, 8, 7, 8, 3)])
@pytest.mark.parametrize("nonlinearity", [nn.Tanh, nn.Identity])
def test_adaptive_feedback_alignment_is_pepita_to_first_order(sizes, nonlinearity):
    x, y = batch()
    model = mlp(*sizes, nonlinearity=nonlinearity)

    def distance(scale):
        rule = Pepita(model, cross_entropy, feedback_scale=scale, generator=torch.Generator().manual_seed(0))
        exact = gradients(with_feedback(AdaptiveFeedbackAlignment, rule), x, y)
        near = gradients(rule, x, y)
        return [float((a - b).norm() / a.norm()) for a, b in zip(exact[:-1], near[:-1], strict=True)]

    for coarse, fine in zip(distance(0.01), distance(0.005), strict=True):
        assert fine < 0.02
        assert coarse / fine == pytest.approx(2, abs=0.3)


def test_with_relu_the_two_agree_where_no_unit_switches():
    x, y = batch()
    rule = Pepita(mlp(6, 8, 3), cross_entropy, feedback_scale=1e-7)
    exact = gradients(with_feedback(AdaptiveFeedbackAlignment, rule), x, y)
    for a, b in zip(exact, gradients(rule, x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))


def test_adaptive_feedback_that_is_the_transposed_readout_is_backpropagation():
    x, y = batch()
    model = mlp(6, 4, 3)
    rule = AdaptiveFeedbackAlignment(model, cross_entropy)
    rule.feedback = -torch.linalg.pinv(model[0].weight.detach()) @ model[2].weight.detach().T  # so that W_1 F = -W_2ᵀ
    for a, b in zip(gradients(rule, x, y), gradients(Backprop(model, cross_entropy), x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert alignment(rule, x.clone(), y).mean[0] > 0


def test_time_local_is_two_steps_of_gradient_descent():
    x, y = batch()
    rate = 0.03
    rule = Pepita(mlp(6, 8, 3, bias=True), cross_entropy, update="time-local", local_rate=rate)
    gradient = gradients(rule, x, y)
    model = copy.deepcopy(rule.model)
    e = softmax(model(x), 1) - one_hot(y, 3)
    moved = x + e @ rule.feedback.T
    with torch.no_grad():
        h = model[:2](x)
        model[0].weight -= rate * h.T @ x / len(x)
        model[0].bias -= rate * h.mean(0)
        h = model[:2](moved)
        model[0].weight += rate * h.T @ moved / len(x)
        model[0].bias += rate * h.mean(0)
        model[2].weight -= rate * e.T @ h / len(x)
        model[2].bias -= rate * e.mean(0)
    for p, q, g in zip(rule.model.parameters(), model.parameters(), gradient, strict=True):
        torch.testing.assert_close(p - rate * g, q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule_class", RULES)
def test_both_passes_drop_the_same_units(rule_class):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32, bias=False), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3, bias=False))
    x, y = batch(rows=1)
    rule = rule_class(model.double(), cross_entropy)
    gradient = gradients(rule, x, y)
    silent = gradient[1].abs().sum(0) == 0
    assert 5 < int(silent.sum()) < 32
    assert not gradient[0][silent].any()


def test_factored_feedback_has_the_deviation_it_says():
    rule = Pepita(mlp(200, 150, 100, 20), cross_entropy, factored=True)
    assert float(rule.feedback.std()) == pytest.approx(0.05 * math.sqrt(2 / 200), rel=0.1)
    product = rule.get_buffer("factor_0") @ rule.get_buffer("factor_1") @ rule.get_buffer("factor_2")
    torch.testing.assert_close(rule.feedback, product)


def test_mirroring_learns_the_weights():
    rule = Pepita(mlp(10, 12, 4), cross_entropy, factored=True)
    mirror = WeightMirror(rule, rate=0.1, decay=1e-3 * 5)
    mirror.step(2000)
    signs = (-1, 1)
    for i, (layer, sign) in enumerate(zip(rule.layers, signs, strict=True)):
        factor = rule.get_buffer(f"factor_{i}").flatten()
        goal = sign * layer.weight.detach().T.flatten()
        assert torch.cosine_similarity(factor, goal, 0) > math.cos(math.radians(10))
        # at the optimum rate · amplitude² / decay = 0.2 of the weights
        assert float(factor.norm() / goal.norm()) == pytest.approx(0.2, rel=0.1)
    assert feedback_angle(rule).degrees > 165


def test_forward_forward_is_hebbian_minus_anti_hebbian_too():
    torch.manual_seed(0)
    x, y = batch()
    rule = ForwardForward(mlp(6, 8, 3), cross_entropy, generator=torch.Generator().manual_seed(3))
    found = gradients(rule, x, y)[0]
    wrong = ForwardForward(mlp(6, 8, 3), cross_entropy, generator=torch.Generator().manual_seed(3)).wrong_labels(y)
    hebbian = torch.zeros_like(found)
    for labels, sign in ((y, -1), (wrong, 1)):
        given = rule.embed(x, labels)
        h = rule.model[:2](given)
        share = torch.sigmoid(sign * (h.square().mean(1) - rule.threshold))
        hebbian += sign * (share[:, None] * h).T @ given / (8 * len(x))
    torch.testing.assert_close(found, hebbian, rtol=1e-10, atol=1e-12)


def test_no_graph_is_left_and_the_loss_is_the_predictions():
    x, y = batch()
    rule = Pepita(nn.Sequential(mlp(6, 8, 3), nn.LogSoftmax(1)), nn.functional.nll_loss)
    loss = rule.assign_credit(x, y)
    torch.testing.assert_close(loss, nn.functional.nll_loss(rule(x), y).detach())
    plain = Pepita(rule.model[0], cross_entropy)
    plain.feedback = rule.feedback
    first = [p.grad.clone() for p in rule.model.parameters()]
    for a, b in zip(first, gradients(plain, x, y), strict=True):
        torch.testing.assert_close(a, b)


def test_refusals():
    with pytest.raises(ValueError, match="wider than the input"):
        Pepita(mlp(3, 8, 5), cross_entropy)
    with pytest.raises(ValueError, match="factored=True"):
        WeightMirror(Pepita(mlp(6, 8, 3), cross_entropy))
    with pytest.raises(ValueError, match="BatchNorm1d"):
        Pepita(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), cross_entropy)
    with pytest.raises(ValueError, match="update must be"):
        Pepita(mlp(6, 8, 3), cross_entropy, update="other")
    with pytest.raises(ValueError, match="no hidden layer"):
        Pepita(nn.Sequential(nn.Linear(6, 3)), cross_entropy)
    rule = Pepita(mlp(6, 8, 3).float(), cross_entropy)
    with pytest.raises(ValueError, match="floating-point"):
        rule.projected(torch.zeros(2, 3), torch.zeros(2, 6, dtype=torch.long))
