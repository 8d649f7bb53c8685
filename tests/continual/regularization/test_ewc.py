"""Elastic weight consolidation, its baselines and the contract of strategies."""

import copy
import functools
import gc
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC, Finetune, L2Anchor, Strategy, SynapticIntelligence
from neurarium.data import Arrays, Batches
from neurarium.layers import TaskGains
from neurarium.learning import Backprop
from neurarium.training import fit


def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def tasks(count=3, n=48):
    draw = torch.Generator().manual_seed(0)
    return [Arrays(torch.randn(n, 6, generator=draw), torch.randint(3, (n,), generator=draw)) for _ in range(count)]


def train(strategy, data, *, lr=0.05, make=torch.optim.SGD, attach=False, epochs=3):
    optimizer = make(strategy.model.parameters(), lr=lr)
    if attach:
        strategy.attach(optimizer)
    rule = Backprop(strategy.model, cross_entropy)
    for task, arrays in enumerate(data):
        strategy.begin_task(task)
        fit(rule, Batches(arrays, 8, shuffle=True, seed=task), optimizer, epochs=epochs, penalties=[strategy.penalty])
        strategy.end_task(Batches(arrays, 16))
    return strategy


def weights(strategy):
    return torch.cat([p.detach().flatten() for p in strategy.model.parameters()])


def test_one_dimensional_quadratics_have_the_known_minimum():
    # Task B: 1/2 * 2 * (theta - 1)^2; anchor -1, F = 3, lambda = 5.
    model = nn.Linear(1, 1, bias=False).double()
    ewc = EWC(model, strength=5.0)
    ewc.springs.add({"weight": torch.full((1, 1), 3.0)}, {"weight": torch.full((1, 1), -1.0).double()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        ((model.weight - 1).square().sum() + ewc.penalty()).backward()
        optimizer.step()
    assert float(model.weight.detach()) == pytest.approx(-0.764706, abs=1e-6)


def test_zero_strength_is_plain_training_bit_for_bit():
    plain = train(Finetune(mlp()), tasks())
    for strategy in (EWC(mlp(), strength=0.0), L2Anchor(mlp(), strength=0.0), EWC(mlp(), strength=0.0, implicit=True)):
        assert torch.equal(weights(train(strategy, tasks(), attach=strategy.__class__ is EWC)), weights(plain))


def test_equal_importance_is_the_l2_anchor(monkeypatch):
    ewc = EWC(mlp(), strength=0.3)
    ones = {name: torch.ones_like(p) for name, p in ewc.model.named_parameters()}
    monkeypatch.setattr(ewc, "importance", lambda loader: ones)
    found, wanted = weights(train(ewc, tasks())), weights(train(L2Anchor(mlp(), strength=0.3), tasks()))
    assert torch.equal(found, wanted)
    assert not torch.equal(found, weights(train(Finetune(mlp()), tasks())))


def test_separate_penalty_is_the_explicit_sum_over_tasks():
    ewc, anchors = EWC(mlp().double(), strength=7.0, fisher="exact"), []
    for arrays in tasks():
        loader = Batches(Arrays(arrays.x.double(), arrays.y), 16)
        with torch.no_grad():
            for p in ewc.model.parameters():
                p.add_(0.3 * torch.randn_like(p))
        ewc.end_task(loader)
        f = ewc.importance(loader)
        anchors.append((f, {name: p.detach().clone() for name, p in ewc.model.named_parameters()}))
    with torch.no_grad():
        for p in ewc.model.parameters():
            p.add_(torch.randn_like(p))
    named = dict(ewc.model.named_parameters())
    explicit = sum(3.5 * (f[k] * (named[k] - m[k]).square()).sum() for f, m in anchors for k in named)
    torch.testing.assert_close(ewc.penalty(), explicit, rtol=1e-9, atol=0)
    pairs = zip(*(torch.autograd.grad(v, list(named.values())) for v in (ewc.penalty(), explicit)))
    assert all(float((a - b).abs().max()) < 1e-9 for a, b in pairs)


def test_online_mode_keeps_one_spring_at_the_latest_weights():
    ewc, fishers = EWC(mlp(), fisher="exact", mode="online", decay=0.5), []
    for arrays in tasks():
        with torch.no_grad():
            ewc.model[0].weight.add_(0.1)
        loader = Batches(arrays, 16)
        ewc.end_task(loader)
        fishers.append(ewc.importance(loader)["0.weight"])
    wanted = 0.25 * fishers[0] + 0.5 * fishers[1] + fishers[2]
    torch.testing.assert_close(ewc.springs.stiffness["0.weight"], wanted)
    assert torch.equal(ewc.springs.centre["0.weight"], ewc.model[0].weight)
    assert float(ewc.penalty()) == 0


@pytest.mark.parametrize("mode", ["separate", "online"])
def test_a_run_resumes_from_its_state(mode):
    def make():
        return EWC(mlp(), strength=50.0, fisher="exact", mode=mode)

    whole = train(make(), tasks())
    half = train(make(), tasks()[:2])
    resumed = make()
    resumed.load_state_dict(half.state_dict())
    for strategy in (half, resumed):
        optimizer = torch.optim.SGD(strategy.model.parameters(), lr=0.05)
        loader = Batches(tasks()[2], 8, shuffle=True, seed=2)
        fit(Backprop(strategy.model, cross_entropy), loader, optimizer, epochs=3, penalties=[strategy.penalty])
        assert torch.equal(weights(strategy), weights(whole))


def test_implicit_step_is_the_proximal_one_and_stays_finite_at_any_strength():
    data = tasks(2)
    ewc = EWC(mlp(), strength=1e9, fisher="exact", implicit=True)
    with pytest.raises(ValueError, match="attach"):
        train(ewc, data)
    ewc = train(EWC(mlp(), strength=1e9, fisher="exact", implicit=True), data[:1], attach=True)
    held, before = ewc.springs.stiffness["2.bias"], ewc.model[2].bias.detach().clone()
    optimizer = torch.optim.SGD(ewc.model.parameters(), lr=0.05)
    handle = ewc.attach(optimizer)
    fit(Backprop(ewc.model, cross_entropy), Batches(data[1], 8), optimizer, penalties=[ewc.penalty])
    assert float(held.min()) > 1e-3
    torch.testing.assert_close(ewc.model[2].bias.detach(), before, rtol=0, atol=1e-6)
    assert torch.isfinite(weights(ewc)).all()
    ewc.strength = 2.0
    p = ewc.model[0].weight
    after_step = p.detach() - 0.05 * 1.0
    for q in ewc.model.parameters():
        q.grad = torch.ones_like(q)
    optimizer.step()
    pull = 0.05 * 2.0 * ewc.springs.stiffness["0.weight"]
    torch.testing.assert_close(p.detach(), (after_step + pull * ewc.springs.centre["0.weight"]) / (1 + pull))
    handle.remove()
    now = p.detach().clone()
    optimizer.step()
    torch.testing.assert_close(p.detach(), now - 0.05)


def test_warns_once_where_the_explicit_step_would_diverge():
    ewc, arrays = EWC(mlp(), strength=1e6, fisher="exact"), tasks(1)[0]
    steep = torch.optim.SGD(ewc.model.parameters(), lr=0.1)
    ewc.attach(steep)
    with pytest.warns(RuntimeWarning, match="implicit=True"):
        ewc.end_task(Batches(arrays, 16))
    calm = EWC(mlp(), strength=1e6, fisher="exact", normalize=True)
    assert calm.springs.largest() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ewc.begin_task(1)
        for strategy, optimizer in (
            (EWC(mlp(), strength=1.0, fisher="exact"), torch.optim.SGD),
            (EWC(mlp(), strength=1e6, fisher="exact"), torch.optim.Adam),
        ):
            held = optimizer(strategy.model.parameters(), lr=0.1)
            strategy.attach(held)
            strategy.end_task(Batches(arrays, 16))
        calm.end_task(Batches(arrays, 16))
    assert calm.springs.largest() == 1


def test_optimizers_of_past_tasks_are_not_kept():
    ewc = EWC(mlp())
    for _ in range(3):
        ewc.attach(torch.optim.SGD(ewc.model.parameters(), lr=0.1))
    gc.collect()
    assert len(ewc._optimizers) == 0


class Heads(nn.Module):
    """A shared body with a head per task, chosen by name."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 3)})
        self.current = "a"

    def set_task(self, task):
        if task not in self.heads:
            self.heads[task] = nn.Linear(8, 3)
        self.current = task

    def forward(self, x):
        return self.heads[self.current](self.body(x))


def test_a_head_per_task_and_a_head_that_comes_later():
    torch.manual_seed(0)
    first, second = tasks(2)
    ewc = EWC(Heads(), strength=100.0, infer_task=lambda x: "a" if float(x.mean()) < 50 else "b")
    ewc.begin_task("a")
    ewc.end_task(Batches(first, 16))
    logits = ewc.predict(first.x)
    ewc.begin_task("b")
    optimizer = torch.optim.SGD(ewc.model.parameters(), lr=0.1)
    fit(Backprop(ewc.model, cross_entropy), Batches(second, 8), optimizer, penalties=[ewc.penalty])
    assert "heads.b.weight" not in ewc.springs.stiffness
    assert torch.equal(ewc.model.heads["a"].weight, ewc.springs.centre["heads.a.weight"])
    ewc.end_task(Batches(second, 16))
    assert float(ewc.springs.stiffness["heads.b.weight"].sum()) > 0
    ewc.model.eval()
    assert ewc.model.current == "b"
    assert torch.equal(ewc.predict(first.x), ewc.model.heads["a"](ewc.model.body(first.x)))
    assert ewc.model.current == "b"
    assert logits.shape == (48, 3)
    del ewc.model.heads["a"]
    with pytest.raises(ValueError, match=r"'heads\.a\.weight' had shape"):
        ewc.penalty()


def test_task_gains_are_switched_and_not_anchored():
    model = nn.Sequential(nn.Linear(6, 8), TaskGains(8, 3), nn.ReLU(), nn.Linear(8, 3))
    ewc = EWC(model, infer_task=lambda x: 2)
    ewc.begin_task(1)
    assert model[1].task == 1
    ewc.end_task(Batches(tasks(1)[0], 16))
    assert ewc.springs.stiffness.keys() == {"0.weight", "0.bias", "3.weight", "3.bias"}
    with torch.no_grad():
        model[1].gain[2].zero_()
        expected = model[3].bias.expand(4, -1)
    torch.testing.assert_close(ewc.predict(torch.randn(4, 6)), expected)
    assert model[1].task == 1
    with pytest.raises(ValueError, match="no module with a set_task"):
        EWC(mlp(), infer_task=lambda x: 0).predict(torch.randn(2, 6))


@pytest.mark.untyped
def test_arguments_are_checked():
    model = mlp()
    with pytest.raises(ValueError, match="end_task needs at least one batch of task data"):
        EWC(model).end_task([])
    for arguments, message in (
        ({"strength": -1.0}, "strength must be finite and not negative"),
        ({"mode": "both"}, "separate or online"),
        ({"mode": "online", "decay": 1.5}, "decay must be between"),
        ({"decay": 0.5}, "decay is for mode='online'"),
        ({"fisher": "true"}, "exact, sampled, empirical"),
        ({"loss": lambda o, y: o.sum()}, "'empirical' remains"),
        ({"clip": 0.0}, "clip must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            EWC(model, **arguments)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        EWC(model).attach(torch.optim.SGD(mlp().parameters(), lr=0.1))
    with pytest.raises(ValueError, match="nothing to anchor"):
        EWC(mlp().requires_grad_(False)).end_task(Batches(tasks(1)[0], 8))


@pytest.mark.parametrize("make", [Strategy, Finetune, L2Anchor, EWC])
def test_every_strategy_keeps_the_contract(make):
    strategy, arrays = make(mlp()), tasks(1)[0]
    model = strategy.model
    strategy.begin_task(0)
    assert float(strategy.penalty()) == 0
    assert not strategy.penalty().requires_grad
    strategy.observe(arrays.x, arrays.y)
    strategy.end_task(Batches(arrays, 16))
    assert torch.equal(strategy.predict(arrays.x), model(arrays.x))
    assert strategy.predict(arrays.x).requires_grad is False
    assert {id(p) for p in model.parameters()} <= {id(p) for p in strategy.parameters()}
    assert copy.deepcopy(strategy).state_dict().keys() == strategy.state_dict().keys()


def test_peer_convention_batch_of_one_squared_gradients():
    # The common reimplementation: mean over batches of one of the squared gradient of the loss on the true label.
    model, arrays = mlp(), tasks(1)[0]
    importance = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in Batches(arrays, 1):
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        for name, p in model.named_parameters():
            importance[name] += p.grad.square() / len(arrays)
    found = EWC(model, fisher="empirical").importance(Batches(arrays, 48))
    for name, value in importance.items():
        torch.testing.assert_close(found[name], value)


def grow_head(model, rows):
    old = model[-1]
    new = nn.Linear(old.in_features, old.out_features + rows)
    with torch.no_grad():
        new.weight[: old.out_features], new.bias[: old.out_features] = old.weight, old.bias
    model[-1] = new


@pytest.mark.parametrize("mode", ["separate", "online"])
@pytest.mark.parametrize("kind", [EWC, L2Anchor, SynapticIntelligence])
def test_a_head_that_grows_keeps_its_old_rows_and_frees_the_new(kind, mode):
    def batches(classes):
        y = torch.arange(60) % classes
        return [(torch.randn(60, 4) + y[:, None], y)]

    def learn(strategy, classes):
        strategy.begin_task(classes)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for x, y in 5 * batches(classes):
            optimizer.zero_grad()
            (cross_entropy(model(x), y) + strategy.penalty()).backward()
            optimizer.step()
            strategy.observe(x, y)
        strategy.end_task(batches(classes))

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    strategy = kind(model, strength=1.0, mode=mode, grow=True)
    learn(strategy, 2)
    stiffness = strategy.springs.stiffness["2.weight"].clone()
    grow_head(model, 2)
    assert float(strategy.penalty()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        model[-1].weight[2:] += 10
        assert float(strategy.penalty()) == pytest.approx(0, abs=1e-6)  # new rows are free
        model[-1].weight[:2] += 1
    assert float(strategy.penalty()) == pytest.approx(0.5 * float(stiffness.sum()), rel=1e-4)
    grow_head(model, 1)  # twice before the next task ends
    learn(strategy, 5)
    assert strategy.springs.stiffness["2.weight"].shape == (5, 8)
    fresh = kind(copy.deepcopy(model), strength=1.0, mode=mode, grow=True)
    fresh.load_state_dict(strategy.state_dict())
    assert torch.equal(fresh.penalty(), strategy.penalty())
    model[-1] = nn.Linear(8, 4)
    with pytest.raises(ValueError, match=r"'2.weight' had shape \[5, 8\] and now has shape \[4, 8\]"):
        strategy.penalty()
    strict = kind(model, strength=1.0, mode=mode)
    learn(strict, 4)
    grow_head(model, 1)
    with pytest.raises(ValueError, match="anchored parameters must stay"):
        strict.penalty()


@pytest.mark.parametrize("fisher", ["sampled", "exact", "empirical"])
def test_without_strength_it_is_plain_training_bit_for_bit(fisher):
    def train(strategy_class):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))
        strategy = strategy_class(model)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for task in range(3):
            strategy.begin_task(task)
            loader = [(torch.randn(20, 4), torch.randint(3, (20,))) for _ in range(4)]
            for x, y in loader:
                optimizer.zero_grad()
                (cross_entropy(strategy(x), y) + strategy.penalty()).backward()
                optimizer.step()
                strategy.observe(x, y)
            strategy.end_task(loader)
        return [p.detach() for p in model.parameters()]

    plain, ewc = train(Finetune), train(functools.partial(EWC, strength=0.0, fisher=fisher))
    assert all(torch.equal(a, b) for a, b in zip(plain, ewc, strict=True))
