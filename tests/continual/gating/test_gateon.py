"""Gates, availability and context detection against closed forms, brute force and plain training."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurarium.continual import ContextDetector, GateON, learn_stream, updated_availability
from neurarium.continual.gating._relevance import inner_relevance, output_relevance, unit_relevance
from neurarium.data import load, permuted_stream
from neurarium.layers import ContextGate, ContextNorm, retanh
from neurarium.learning import Backprop


def mlp(width: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))


def batch(seed: int = 0, count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=draws), torch.randint(3, (count,), generator=draws)


def step(strategy: GateON, optimizer: torch.optim.Optimizer, seed: int = 0, factor: float = 1.0) -> None:
    x, y = batch(seed)
    optimizer.zero_grad()
    (factor * F.cross_entropy(strategy.model(x), y)).backward()
    optimizer.step()


def test_retanh_is_dead_below_zero() -> None:
    x = torch.tensor([-1.0, 0.5, 1.0], requires_grad=True)
    gates = retanh(x)
    gates.sum().backward()
    assert gates.tolist() == pytest.approx([0.0, 0.213552, 0.580026], abs=1e-6)
    assert x.grad is not None
    assert x.grad[0] == 0
    assert x.grad[1] > 0


def test_about_half_of_a_new_contexts_gates_are_shut_for_good() -> None:
    torch.manual_seed(0)
    gate = ContextGate(2000, 4)
    shut = gate.gate(1) == 0
    assert 0.45 < float(shut.double().mean()) < 0.55
    gate.set_task(1)
    gate(torch.randn(3, 2000)).sum().backward()
    assert gate.logit[0].grad is None  # other contexts are not touched
    assert gate.logit[1].grad is not None
    assert (gate.logit[1].grad[shut] == 0).all()


def test_norm_evaluates_with_its_contexts_own_statistics() -> None:
    norm = ContextNorm(2, 3)
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert torch.allclose(norm(x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), atol=1e-4)
    norm.set_task(1)
    norm(x + 100)
    norm.eval()
    assert torch.allclose(norm(x[:1] + 100), torch.tensor([[-1.0, -1.0]]), atol=1e-4)
    norm.set_task(0)
    assert torch.allclose(norm(x[:1]), torch.tensor([[-1.0, -1.0]]), atol=1e-4)


def test_availability_decays_and_leaks_as_the_closed_form_says() -> None:
    used, idle = torch.ones(1, dtype=torch.float64), torch.tensor([0.1, 0.5], dtype=torch.float64)
    for _ in range(500):
        used = updated_availability(used, torch.ones(1), rate=0.01)
        idle = updated_availability(idle, torch.tensor([0.0, 2.0]), rate=0.01, leak=0.2)
    assert float(used) == pytest.approx(0.99**500)  # 0.006570
    assert float(used) == pytest.approx(0.006570, abs=1e-6)
    assert float(idle[0]) == pytest.approx(0.1 * 1.002**500)
    assert float(idle[0]) == pytest.approx(0.27156, abs=1e-5)
    assert updated_availability(torch.tensor([0.999, 1.0]), torch.tensor([0.0, 1.0]), 0.1, leak=1.0)[0] == 1


@pytest.mark.parametrize("level", ["neuron", "parameter"])
def test_the_scale_of_the_loss_does_not_matter(level: str) -> None:
    found = []
    for factor in (1.0, 10.0):
        strategy = GateON(mlp(), level=level, normalize=False)  # before a norm, biases have no gradient
        optimizer = torch.optim.SGD(strategy.model.parameters(), 0.0)
        strategy.attach(optimizer)
        strategy.begin_task(0)
        step(strategy, optimizer, factor=factor)
        found.append([s.working for layer in strategy.gated for s in layer.states().values()])
    assert any((a < 1).any() for a in found[0])
    for a, b in zip(*found):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
])  # fmt: skip
def test_a_unit_without_availability_does_not_move_and_others_do(make) -> None:
    strategy = GateON(mlp(), gates=False)
    optimizer = make(strategy.model.parameters())
    strategy.attach(optimizer)
    strategy.begin_task(0)
    step(strategy, optimizer)
    for state in strategy.gated[0].states().values():
        state.in_force = state.in_force.clone()
        state.in_force[3] = 0
    layer = strategy.model[0]
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    for seed in range(5):
        step(strategy, optimizer, seed)
    assert torch.equal(layer.weight[3], before[3])
    assert layer.bias[3] == bias[3]
    assert not torch.equal(layer.weight[4], before[4])


def test_obstructing_gradients_is_undone_by_adam_and_obstructing_updates_is_not() -> None:
    moved = {}
    for place in ("update", "gradient"):
        strategy = GateON(mlp(), gates=False, obstruct=place)
        optimizer = torch.optim.Adam(strategy.model.parameters(), 0.01)
        strategy.attach(optimizer)
        for state in strategy.gated[0].states().values():
            state.in_force = torch.full_like(state.in_force, 0.01)
        before = strategy.model[0].weight.detach().clone()
        step(strategy, optimizer)
        moved[place] = float((strategy.model[0].weight.detach() - before).abs().mean())
    assert moved["update"] < 0.02 * moved["gradient"]


def test_without_gates_and_norm_the_first_task_is_plain_training() -> None:
    plain, strategy = mlp(), GateON(mlp(), gates=False, normalize=False)
    optimizer = torch.optim.Adam(strategy.model.parameters(), 0.01)
    strategy.attach(optimizer)
    strategy.begin_task(0)
    other = torch.optim.Adam(plain.parameters(), 0.01)
    for seed in range(5):
        step(strategy, optimizer, seed)
        x, y = batch(seed)
        other.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        other.step()
    for a, b in zip(plain.parameters(), strategy.model.parameters()):
        assert torch.equal(a, b)


def test_availability_comes_into_force_with_the_next_context() -> None:
    strategy = GateON(mlp(), rate=0.3)
    optimizer = torch.optim.Adam(strategy.model.parameters(), 0.01)
    strategy.attach(optimizer)
    strategy.begin_task("first")
    for seed in range(10):
        step(strategy, optimizer, seed)
    state = strategy.gated[0].states()["weight"]
    assert state.untouched
    assert (state.working < 0.5).any()
    strategy.begin_task("second")
    assert torch.equal(state.in_force, state.working)
    assert not optimizer.state


def test_local_relevance_of_the_last_layer_is_the_softmax_jacobian() -> None:
    torch.manual_seed(0)
    x, weight = torch.rand(4, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    wanted = torch.zeros(5, dtype=torch.float64)
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda a: (weight @ a).softmax(0), row)
        wanted += (jacobian * row).square().mean(0) / 4
    assert torch.allclose(output_relevance(x, weight, x @ weight.T), wanted, atol=1e-12)


def test_inner_relevance_is_the_sum_over_next_units() -> None:
    x, weight, slope = torch.rand(3, 4), torch.randn(2, 4), torch.rand(3, 2)
    wanted = sum(weight[k] ** 2 * (slope[:, k, None] ** 2 * x**2).mean(0) for k in range(2)) / 2
    assert torch.allclose(inner_relevance(x, weight, slope), wanted, atol=1e-6)


def test_full_relevance_reads_the_backward_pass() -> None:
    strategy = GateON(mlp(), normalize=False, gates=False, rate=0.5, leak=0.0)
    optimizer = torch.optim.SGD(strategy.model.parameters(), 0.0)
    strategy.attach(optimizer)
    step(strategy, optimizer)
    x, y = batch()
    a = strategy.model[0](x).detach().requires_grad_()
    F.cross_entropy(strategy.model[1:](a), y).backward()
    assert a.grad is not None
    relevance = unit_relevance(a.detach(), a.grad)
    wanted = updated_availability(torch.ones(12), relevance, 0.5)
    assert torch.allclose(strategy.gated[0].states()["bias"].working, wanted, atol=1e-5)


def test_contexts_with_disjoint_units_do_not_disturb_each_other() -> None:
    strategy = GateON(mlp(), max_contexts=2, normalize=False, rate=0.0)
    with torch.no_grad():
        for layer in (strategy.model[0], strategy.model[2]):
            mine = torch.arange(12) < 6
            layer.context_gate.logit[0].copy_(torch.where(mine, 1.0, -1.0))
            layer.context_gate.logit[1].copy_(torch.where(mine, -1.0, 1.0))
    strategy.begin_task(0)
    x, _ = batch(9)
    strategy.model[4].requires_grad_(False)
    before = strategy.predict(x, 0)
    strategy.begin_task(1)
    optimizer = torch.optim.Adam([p for p in strategy.model.parameters() if p.requires_grad], 0.05)
    strategy.attach(optimizer)
    other = strategy.predict(x, 1)
    for seed in range(5):
        step(strategy, optimizer, seed)
    assert torch.equal(strategy.predict(x, 0), before)
    assert not torch.equal(strategy.predict(x, 1), other)


def test_contexts_are_found_and_recognised_from_the_loss() -> None:
    detector = ContextDetector(growth=0.2, window=20)
    first, second = detector.open(), detector.open()
    draws = torch.Generator().manual_seed(0)
    for _ in range(30):
        detector.note(first, 0.3 + 0.02 * float(torch.randn((), generator=draws)))
        detector.note(second, 2.0 + 0.02 * float(torch.randn((), generator=draws)))
    assert detector.trusted(first)
    assert detector.fits(first, 0.33)
    assert not detector.fits(first, 0.6)
    assert detector.fits(second, 2.03)
    strict = ContextDetector(ratio=1.01)
    strict.restore(**detector.state())
    assert not strict.fits(second, 2.05)
    assert strict.fits(second, 2.005)
    assert strict.fits(first, 0.29)


def test_a_stream_without_task_names_opens_contexts_and_returns_to_them() -> None:
    split = load("mnist-small").flat().scaled()
    tasks = permuted_stream(split, 2, seed=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10))
    strategy = GateON(model, max_contexts=16, rate=0.03, detect=True, detector=ContextDetector(growth=0.05, window=20))
    rule = Backprop(model, F.cross_entropy)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    strategy.attach(optimizer)
    seen = []
    for which in (0, 1, 0):
        for i in range(70):
            x, y = tasks[which].train.x[100 * i : 100 * i + 100], tasks[which].train.y[100 * i : 100 * i + 100]
            strategy.observe(x, y)
            optimizer.zero_grad()
            rule.assign_credit(x, y)
            optimizer.step()
        seen.append(strategy.context)
    assert seen == [0, 1, 0]
    assert strategy.num_contexts == 2
    assert strategy.infer_context(tasks[1].test.x[:50], tasks[1].test.y[:50]) == 1
    overlap = strategy.gate_overlap()
    assert torch.allclose(overlap.diag(), torch.ones(2))
    assert 0 < float(overlap[0, 1]) < 0.95


def test_a_checkpoint_goes_on_where_it_was() -> None:
    first = GateON(mlp(), rate=0.2)
    optimizer = torch.optim.SGD(first.model.parameters(), 0.1)
    first.attach(optimizer)
    for task in range(2):
        first.begin_task(task)
        step(first, optimizer, task)
    second = GateON(mlp(), rate=0.2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.contexts == first.contexts
    x, _ = batch(5)
    assert torch.equal(second.predict(x), first.predict(x))
    assert second.occupancy() == first.occupancy()


def test_room_runs_out_or_grows() -> None:
    strategy = GateON(mlp(), max_contexts=2)
    strategy.begin_task("a")
    strategy.begin_task("b")
    with pytest.raises(ValueError, match="raise max_contexts, or set grow=True"):
        strategy.begin_task("c")
    assert strategy.num_contexts == 2  # and nothing of the third is left behind
    assert strategy.predict(batch()[0]).shape == (20, 3)
    growing = GateON(mlp(), max_contexts=2, grow=True)
    optimizer = torch.optim.Adam(growing.model.parameters(), 0.01)
    growing.attach(optimizer)
    for task in "abc":
        growing.begin_task(task)
        step(growing, optimizer)
    gate = growing.model[0].context_gate
    assert gate.num_contexts == 4
    assert any(p is gate.logit[2] for group in optimizer.param_groups for p in group["params"])
    resumed = GateON(mlp(), max_contexts=2, grow=True)
    resumed.load_state_dict(growing.state_dict())
    assert torch.equal(resumed.predict(batch()[0], 2), growing.predict(batch()[0], 2))


def test_an_optimizer_built_before_the_gates_is_refused() -> None:
    model = mlp()
    early = torch.optim.Adam(model.parameters(), 0.01)
    with pytest.raises(ValueError, match="lacks the gates: build it after the strategy"):
        GateON(model).attach(early)
    plain = mlp()
    early = torch.optim.Adam(plain.parameters(), 0.01)
    GateON(plain, gates=False).attach(early)  # nothing to miss


def worn(strategy: GateON, layer: int, name: str = "weight") -> torch.Tensor:
    """What one step has worn off, over rate (0.01) and its mean, which is the rule's factor: [1, factor]."""
    optimizer = torch.optim.SGD(strategy.model.parameters(), 0.0)
    strategy.attach(optimizer)
    step(strategy, optimizer)
    return (1 - strategy.gated[layer].states()[name].working) / 0.01


def relu(x: torch.Tensor) -> torch.Tensor:
    return x.clamp_min(0)


@pytest.mark.parametrize(("rule", "factors"), [("full", (1, 1)), ("activity", (2, 3)), ("local", (1, 1))])
def test_rates_per_rule(rule: str, factors: tuple[int, int]) -> None:
    for layer, factor in enumerate(factors):
        strategy = GateON(mlp(), relevance=rule, leak=0.0)
        assert float(worn(strategy, layer).mean()) == pytest.approx(factor, rel=1e-4)
    net = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    assert float(worn(GateON(net, leak=0.0), 0).mean()) == pytest.approx(0.4, rel=1e-4)


def test_relevance_by_activity_is_that_of_the_papers_formulas() -> None:
    x, _ = batch()
    net = mlp()
    a = relu(net[0](x))
    units = GateON(copy.deepcopy(net), relevance="activity", normalize=False, gates=False, leak=0.0)
    torch.testing.assert_close(worn(units, 0), 2 * a.mean(0) / a.mean(), rtol=1e-3, atol=1e-4)
    weights = GateON(copy.deepcopy(net), relevance="activity", level="parameter", gates=False, leak=0.0)
    found = worn(weights, 0)
    unit = F.normalize(relu(F.batch_norm(net[0](x), None, None, training=True)), dim=1)  # the paper's layer
    products = torch.einsum("bi,bj->ij", unit.square(), x.square())
    torch.testing.assert_close(found, products / products.mean(), rtol=1e-3, atol=1e-4)
    full = GateON(copy.deepcopy(net), level="parameter", normalize=False, gates=False, leak=0.0)
    found = worn(full, 0)
    net.zero_grad()
    F.cross_entropy(net(x), batch()[1]).backward()
    squares = (net[0].weight.grad * net[0].weight).detach().square()
    torch.testing.assert_close(found, (squares / squares.mean()).clamp_max(100), rtol=1e-3, atol=1e-4)


def test_relevance_of_a_channel_sums_over_its_positions_before_it_is_squared() -> None:
    a, g = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    wanted = (a * g).sum(2).square().mean(0)
    torch.testing.assert_close(unit_relevance(a, g, 1), wanted)


def test_local_relevance_is_wired_to_the_next_layer() -> None:
    x, _ = batch()
    net = mlp()
    first = net[:2](x).detach()
    second = net[2:4](first).detach()
    for layer, wanted in (
        (0, inner_relevance(first, net[2].weight.detach(), (net[2](first) > 0).float())),
        (1, output_relevance(second, net[4].weight.detach(), net[4](second).detach())),
    ):
        found = worn(GateON(copy.deepcopy(net), relevance="local", normalize=False, gates=False, leak=0.0), layer)
        torch.testing.assert_close(found, wanted / wanted.mean(), rtol=1e-3, atol=1e-4)


def test_without_a_context_each_example_gets_the_surest() -> None:
    strategy = GateON(mlp(), max_contexts=4)
    for task in range(2):
        strategy.begin_task(task)
        optimizer = torch.optim.Adam(strategy.model.parameters(), 0.05)
        strategy.attach(optimizer)
        for seed in range(3):
            step(strategy, optimizer, seed + 10 * task)
    x, _ = batch(3)
    each = torch.stack([strategy.predict(x, c) for c in range(2)])
    doubt = torch.distributions.Categorical(logits=each).entropy()
    assert torch.equal(strategy.predict(x), each[doubt.argmin(0), torch.arange(20)])
    assert strategy.infer_context(x) == int(doubt.mean(1).argmin())


def test_a_context_is_trusted_after_460_batches() -> None:
    detector = ContextDetector()
    context = detector.open()
    for _ in range(459):
        detector.note(context, 1.0)
    assert not detector.trusted(context)
    detector.note(context, 1.0)
    assert detector.trusted(context)


def test_convolutions_transformer_layers_and_every_rule_run() -> None:
    net = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(),
        nn.Linear(8, 3),
    )  # fmt: skip
    split = [(batch(), batch(1))]
    for options in ({}, {"level": "parameter"}, {"relevance": "activity"}):
        strategy = GateON(copy.deepcopy(net), **options)
        optimizer = torch.optim.Adam(strategy.model.parameters(), 0.01)
        strategy.attach(optimizer)
        for task, _ in enumerate(split * 2):
            strategy.begin_task(task)
            step(strategy, optimizer)
        assert all((s.working <= 1).all() for layer in strategy.gated for s in layer.states().values())
        assert any((s.working < 1).any() for s in strategy.gated[0].states().values())
    block = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
    model = nn.Sequential(nn.Unflatten(1, (1, 6)), block, nn.Flatten(), nn.Linear(6, 3))
    strategy = GateON(model, layers=["1.linear1"], normalize=False)
    assert strategy.predict(batch()[0]).shape == (20, 3)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"level": "layer"}, "level must be one of neuron, parameter"), ({"rate": -1.0}, "must not be negative"),
    ({"layers": ["9"]}, "layers must name"), ({"layers": ["4"]}, "leave out the output layer"),
    ({"level": "parameter", "relevance": "local"}, 'for level "neuron" only'),
])  # fmt: skip
def test_misuse_is_explained(options, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        GateON(mlp(), **options)


def test_a_model_with_one_layer_and_a_batch_of_one_are_refused() -> None:
    with pytest.raises(ValueError, match="gating needs one before the output"):
        GateON(nn.Linear(6, 3))
    with pytest.raises(ValueError, match="too noisy"):
        GateON(mlp(), detect=True).observe(*batch(count=1))


def test_it_learns_a_stream_through_the_shared_loop() -> None:
    split = load("mnist-small").flat().scaled()
    tasks = permuted_stream(split, 2, seed=0)
    model = nn.Sequential(nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10))
    matrix = learn_stream(GateON(model, max_contexts=4), tasks, optimizer=lambda p: torch.optim.Adam(p, 5e-3))
    assert matrix.average_accuracy > 0.65
    assert matrix.forgetting < 0.1


def test_a_task_is_switched_to_by_its_name_and_back() -> None:
    strategy = GateON(mlp())
    for name in ("walk", 7, "run"):
        strategy.begin_task(name)
    x, _ = batch()
    strategy.eval()
    with strategy.as_task(7):
        inside = strategy(x)
    assert torch.equal(inside, strategy.predict(x, 1))
    assert torch.equal(strategy(x), strategy.predict(x, 2))
    with (
        pytest.raises(ValueError, match="task 'swim' is not known; there are: 'walk', 7, 'run'"),
        strategy.as_task("swim"),
    ):
        pass
    assert torch.equal(strategy(x), strategy.predict(x, 2))


@pytest.mark.parametrize("tail", ["rare", "heavy", "common"])
def test_a_stationary_stream_with_heavy_tails_stays_one_context(tail: str) -> None:
    draws = torch.Generator().manual_seed(0)
    strategy = GateON(mlp(), detect=True, detector=ContextDetector(growth=0.05), loss=lambda output, y: y.mean())
    x, _ = batch(count=16)
    for _ in range(1500):
        noise = torch.randn(16, generator=draws)
        y = {"rare": 0.05 + 5.0 * (noise > 2.3), "heavy": (1.5 * noise).exp(), "common": noise[:1].exp().expand(16)}[
            tail
        ]
        strategy.observe(x, y)
    assert strategy.num_contexts == 1
    for _ in range(3):
        strategy.observe(x, 1e4 + torch.rand(16))
    assert strategy.num_contexts == 2
