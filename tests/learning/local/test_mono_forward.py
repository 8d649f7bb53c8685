"""Mono-Forward against backpropagation where the two are one, against its closed form, and on models of many kinds."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from neurarium.learning import MonoForward
from neurarium.learning.cutting._local_blocks import find_entries, visiting
from neurarium.testing import check_learning_rule
from neurarium.training import graph_parameters, live_bytes, peak_bytes

CLASSES = 4


def mlp(depth=3, width=12, inputs=6, readout=True):
    torch.manual_seed(0)
    sizes = [inputs] + [width] * depth
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, *([nn.Linear(width, CLASSES)] if readout else [])).double()


def batch(rows=16, inputs=6):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (rows,), generator=generator)


def gradients(rule, x, y):
    rule.zero_grad()
    rule.assign_credit(x, y)
    return {name: p.grad.clone() for name, p in rule.named_parameters() if p.grad is not None}


def test_contract():
    check_learning_rule(MonoForward)


def test_one_hidden_layer_is_backpropagation():
    x, y = batch()
    model = mlp(depth=1)
    rule = MonoForward(model, cross_entropy)
    assert not len(rule.projections)  # the model's readout is the matrix
    found = gradients(rule, x, y)
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    for name, p in model.named_parameters():
        assert torch.allclose(found[f"model.{name}"], p.grad, rtol=1e-12, atol=1e-15)


def test_one_hidden_layer_with_a_matrix_is_backpropagation_of_the_two_matrices():
    x, y = batch()
    model = mlp(depth=1, readout=False)
    rule = MonoForward(model, cross_entropy, num_outputs=CLASSES)
    found = gradients(rule, x, y)
    matrix = rule.projections[0]
    expected = torch.autograd.grad(cross_entropy(model(x) @ matrix.T, y), [*model.parameters(), matrix])
    mine = [*(found[f"model.{n}"] for n, _ in model.named_parameters()), found["projections.0"]]
    for a, b in zip(mine, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-15)
    assert torch.allclose(rule(x), model(x) @ matrix.T)


def test_closed_form_of_every_hidden_layer():
    x, y = batch()
    model = mlp(depth=4)
    rule = MonoForward(model, cross_entropy)
    found = gradients(rule, x, y)
    assert len(rule.projections) == 3
    before = x
    for i, matrix in enumerate([*rule.projections, None]):
        linear = model[2 * i]
        z = before @ linear.weight.T + linear.bias
        a = z.relu()
        # The last hidden layer reads out through the model's own linear layer.
        readout = model[-1].weight if matrix is None else matrix
        scores = a @ readout.T + (model[-1].bias if matrix is None else 0)
        p = (scores.softmax(1) - one_hot(y, CLASSES)) / len(y)
        delta = (p @ readout) * (z > 0)
        name = "model.8.weight" if matrix is None else f"projections.{i}"
        assert torch.allclose(found[name], p.T @ a, rtol=1e-12, atol=1e-15)
        assert torch.allclose(found[f"model.{2 * i}.weight"], delta.T @ before, rtol=1e-12, atol=1e-15)
        assert torch.allclose(found[f"model.{2 * i}.bias"], delta.sum(0), rtol=1e-12, atol=1e-15)
        before = a.detach()


def test_no_gradient_crosses_a_cut():
    x, y = batch()
    rule = MonoForward(mlp(depth=4), cross_entropy)
    first = gradients(rule, x, y)
    with torch.no_grad():
        rule.model[4].weight += 1.0  # third layer
        rule.projections[2] += 1.0
    second = gradients(rule, x, y)
    for name in ("model.0.weight", "model.2.weight", "projections.0", "projections.1"):
        assert torch.equal(first[name], second[name])
    for name in ("model.4.weight", "model.6.weight", "projections.2"):
        assert not torch.equal(first[name], second[name])


def test_a_layer_below_matters_through_its_activation_only():
    x, y = batch()
    rule = MonoForward(mlp(depth=3), cross_entropy)
    first = gradients(rule, x, y)
    scale = 4.0  # a power of two: relu(4 z) / 4 is exact
    with torch.no_grad():
        for p in rule.model[0].parameters():
            p *= scale
        rule.model[2].weight /= scale
    second = gradients(rule, x, y)
    assert torch.equal(first["model.2.bias"], second["model.2.bias"])
    assert torch.equal(first["model.2.weight"] * scale, second["model.2.weight"])


def test_each_loss_reaches_its_own_block_only():
    x, y = batch()
    rule = MonoForward(mlp(depth=3), cross_entropy)
    reached = []

    def loss(output, target):
        value = cross_entropy(output, target)
        reached.append({id(p) for p in graph_parameters(value)})
        return value

    rule.loss = loss
    rule.assign_credit(x, y)
    blocks = [
        [rule.model[0], rule.projections[0]],
        [rule.model[2], rule.projections[1]],
        [rule.model[4], rule.model[6]],
    ]
    for found, members in zip(reached, blocks, strict=True):
        own = [p for m in members for p in (m.parameters() if isinstance(m, nn.Module) else [m])]
        assert found == {id(p) for p in own}


def test_a_graph_is_gone_before_the_next_block_runs():
    x, y = batch()
    rule = MonoForward(mlp(depth=3), cross_entropy)
    order = []
    for i in (0, 2, 4):
        rule.model[i].register_forward_hook(lambda *_, i=i: order.append(f"forward {i}"))
        rule.model[i].weight.register_hook(lambda g, i=i: order.append(f"backward {i}"))
    rule.assign_credit(x, y)
    assert order == [f"{way} {i}" for i in (0, 2, 4) for way in ("forward", "backward")]


def test_memory_of_a_step():
    x, y = torch.randn(500, 784), torch.randint(CLASSES, (500,))
    shapes = {"depth": 8, "width": 100, "inputs": 784}
    peaks = {}
    rules = {
        "local": MonoForward(mlp(**shapes).float(), cross_entropy),
        "shallow": MonoForward(mlp(**(shapes | {"depth": 4})).float(), cross_entropy),
    }
    for name, rule in rules.items():
        rule.assign_credit(x, y)
        peaks[name] = peak_bytes(lambda rule=rule: rule.assign_credit(x, y))
    model = mlp(**shapes).float()
    cross_entropy(model(x), y).backward()
    history = live_bytes(lambda: cross_entropy(model(x), y).backward())
    assert peaks["local"] < 0.6 * max(history)
    assert peaks["local"] < 1.02 * peaks["shallow"]  # depth costs nothing


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_fused_steps_equal_one_optimizer_to_the_last_bit(kind):
    make = {"sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "adam": lambda p: torch.optim.Adam(p, lr=0.01)}
    x, y = batch()
    plain = MonoForward(mlp(), cross_entropy)
    fused = copy.deepcopy(plain)
    fused.fuse(make[kind])
    optimizer = make[kind](plain.parameters())
    for _ in range(20):
        optimizer.zero_grad()
        plain.assign_credit(x, y)
        optimizer.step()
        fused.assign_credit(x, y)
    assert len(fused.optimizers) == 3
    assert all(p.grad is None for p in fused.parameters())
    for a, b in zip(plain.parameters(), fused.parameters(), strict=True):
        assert torch.equal(a, b)


def test_predictions():
    x, y = batch()
    rule = MonoForward(mlp(), cross_entropy)
    scores = rule.goodness(x)
    assert [tuple(s.shape) for s in scores] == [(16, CLASSES)] * 3
    assert torch.equal(rule(x), scores[-1])
    assert torch.equal(scores[-1], rule.model(x))
    rule.prediction = "sum"
    assert torch.allclose(rule(x), scores[0] + scores[1] + scores[2])
    loss = rule.assign_credit(x, y)
    assert torch.allclose(torch.stack(rule.layer_losses), torch.stack([cross_entropy(s, y) for s in scores]))
    assert loss == rule.layer_losses[-1]


def test_the_matrices_start_at_variance_two_over_features():
    rule = MonoForward(mlp(depth=2, width=4000), cross_entropy)
    assert rule.projections[0].std().item() == pytest.approx(math.sqrt(2 / 4000), rel=0.05)


class Functional(nn.Module):
    """The nonlinearity is a function, so no module's output is the activation."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.three(self.two(self.one(x).relu()).relu())


def test_functional_nonlinearities_belong_to_their_block():
    x, y = batch()
    functional, stack = Functional().double(), mlp(depth=2)
    functional.load_state_dict(dict(zip(functional.state_dict(), stack.state_dict().values(), strict=True)))
    torch.manual_seed(5)
    a = gradients(MonoForward(functional, cross_entropy), x, y)
    torch.manual_seed(5)
    b = gradients(MonoForward(stack, cross_entropy), x, y)
    assert len(a) == len(b) == 7
    assert all(torch.equal(p, q) for p, q in zip(a.values(), b.values(), strict=True))


def test_normalisation_is_trained_with_its_block():
    def names(*layers):
        return [entry.name for entry in find_entries(nn.Sequential(*layers))]

    hidden = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU()]
    assert names(*hidden, nn.Linear(8, 3)) == ["4", "7"]
    assert names(nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)) == ["3"]
    assert names(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)) == [
        "5"
    ]


def test_convolutional_maps_are_pooled_before_their_matrix():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.Conv2d(6, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, CLASSES),
    )  # fmt: skip
    rule = MonoForward(model, cross_entropy, side=3)
    assert [tuple(m.shape) for m in rule.projections] == [(CLASSES, 4 * 9), (CLASSES, 6 * 9)]
    x = torch.randn(5, 1, 14, 14)
    assert [tuple(g.shape) for g in rule.goodness(x)] == [(5, CLASSES)] * 3
    rule.assign_credit(x, torch.arange(5) % CLASSES)
    assert all(p.grad is not None for p in rule.parameters())
    pooled = nn.functional.adaptive_avg_pool2d(model[:3](x), 3).flatten(1)
    assert torch.allclose(rule.goodness(x)[0], pooled @ rule.projections[0].T)


class Tokens(nn.Module):
    """An encoder for one class per sequence, or per token."""

    def __init__(self, per_token):
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(3)])
        self.head = nn.Linear(8, CLASSES)
        self.per_token = per_token

    def forward(self, x):
        hidden = self.embedding(x)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden if self.per_token else hidden.mean(1))


@pytest.mark.parametrize("per_token", [False, True])
def test_token_models(per_token):
    torch.manual_seed(0)
    rule = MonoForward(Tokens(per_token), lambda output, y: cross_entropy(output.flatten(0, -2), y.flatten()))
    assert [entry.name for entry in rule.entries] == ["layers.1", "layers.2"]
    x = torch.randint(9, (5, 7))
    y = x % CLASSES if per_token else x[:, 0] % CLASSES
    shape = (5, 7, CLASSES) if per_token else (5, CLASSES)
    assert [tuple(g.shape) for g in rule.goodness(x)] == [shape] * 3
    optimizer = torch.optim.Adam(rule.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = rule.assign_credit(x, y)
        optimizer.step()
    assert float(loss) < 0.1


def test_regression():
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1)
    model = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    rule = MonoForward(model, mse_loss)
    assert [tuple(m.shape) for m in rule.projections] == [(2, 64)]
    optimizer = torch.optim.Adam(rule.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        loss = rule.assign_credit(x, y)
        optimizer.step()
    assert float(loss) < 0.02 < float(y.var())


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)])

    def forward(self, x):
        first = self.layers[0](x).relu()
        return self.layers[2](first + self.layers[1](first).relu())


def test_a_bypassed_cut_is_named():
    x, y = batch()
    rule = MonoForward(Skip().double(), cross_entropy)
    with pytest.raises(ValueError, match=r"'layers\.1' is bypassed"):
        rule.assign_credit(x, y)
    with pytest.raises(ValueError, match="is bypassed"):  # and again: it does not go unseen the second time
        rule.assign_credit(x, y)


def test_tied_weights_are_no_bypass():
    model = mlp(depth=3, inputs=12)
    model[2].weight = model[4].weight
    rule = MonoForward(model, cross_entropy)
    x, y = batch(inputs=12)
    rule.assign_credit(x, y)
    rule.fuse(lambda p: torch.optim.SGD(p, lr=0.1))
    with pytest.raises(ValueError, match="share parameters"):
        rule.assign_credit(x, y)


def test_a_frozen_block_stays():
    x, y = batch()
    rule = MonoForward(mlp(), cross_entropy)
    rule.model[0].requires_grad_(False)
    found = gradients(rule, x, y)
    assert "model.0.weight" not in found
    assert {"model.2.weight", "model.4.weight", "projections.0"} <= set(found)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prediction": "mean"}, "prediction must be"),
        ({"side": 0}, "side and num_outputs"),
        ({"blocks": ["nine"]}, "no module named 'nine'"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        MonoForward(mlp(), cross_entropy, **arguments)


def test_bad_labels():
    x, y = batch()
    rule = MonoForward(mlp(), cross_entropy)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.3"):
        rule.assign_credit(x, y + 1)


def test_named_blocks():
    x, y = batch()
    rule = MonoForward(mlp(depth=4), cross_entropy, blocks=["3"])
    assert [entry.name for entry in rule.entries] == ["4"]
    rule.assign_credit(x, y)
    assert len(rule.layer_losses) == 2


def test_a_block_that_takes_no_tensor_is_named():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

        def forward(self, x):
            return self.layers[1](input=self.layers[0](x))

    pair = Pair()
    with visiting(find_entries(pair), lambda i, a: a), pytest.raises(TypeError, match=r"'layers\.1' must be given one"):
        pair(torch.randn(2, 6))
