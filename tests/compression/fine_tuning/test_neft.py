"""Neuron-level fine-tuning against full fine-tuning, its own reference, counting and planted changes."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import (
    LowRankFineTuning,
    NeuronFineTuning,
    NeuronSet,
    RowLinear,
    activation_neurons,
    gradient_neurons,
    neft,
    random_neurons,
    sensitive_neurons,
)
from neurarium.compression.fine_tuning._neft import covered
from neurarium.compression.fine_tuning._neurons import choose
from neurarium.layers import linear_maps
from neurarium.models import CausalTransformer
from neurarium.probes import neuron_similarity


def language_model(seed=0):
    torch.manual_seed(seed)
    return CausalTransformer(11, d_model=16, nhead=2, num_layers=2, dim_feedforward=32, context=12)


TOKENS = torch.randint(11, (6, 12), generator=torch.Generator().manual_seed(1))


def task_loss(model, tokens=TOKENS):
    return cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def train(model, parameters, steps=None, weight_decay=0.1):
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=weight_decay)
    for _ in range(steps or 20):
        optimizer.zero_grad()
        task_loss(model).backward()
        optimizer.step()
    return model


def some(model, fraction=0.2, axis="output"):
    return random_neurons(model, fraction=fraction, axis=axis, generator=torch.Generator().manual_seed(5))


def largest_difference(a, b):
    other = b.state_dict()
    return max(float((p - other[name]).abs().max()) for name, p in a.state_dict().items())


@pytest.mark.parametrize("axis", ["output", "input"])
def test_rows_and_mask_follow_the_same_trajectory(axis):
    results = []
    for impl in ("rows", "mask"):
        model = language_model().double()  # Adam would blow up the rounding of gradients that are really 0 (key biases)
        tuned = NeuronFineTuning(model, some(model, axis=axis), impl)
        train(model, tuned.parameters())
        output = model(TOKENS)
        merged = tuned.merge()
        torch.testing.assert_close(merged(TOKENS), output, atol=1e-6, rtol=0)
        results.append(merged)
    assert largest_difference(*results) < 1e-6
    assert largest_difference(results[0], language_model().double()) > 1e-3
    assert set(results[0].state_dict()) == set(language_model().state_dict())


def test_all_neurons_are_full_fine_tuning_of_the_covered_layers():
    whole = language_model()
    whole.requires_grad_(False)
    parameters = [p.requires_grad_() for p in covered(whole)]
    train(whole, parameters)
    masked = language_model()
    tuned = NeuronFineTuning(masked, some(masked, fraction=1.0), "mask")
    train(masked, tuned.parameters())
    assert largest_difference(whole, tuned.merge()) == 0.0


@pytest.mark.parametrize("impl", ["rows", "mask"])
def test_what_is_not_chosen_stays_bit_identical_under_weight_decay(impl):
    base, model = language_model(), language_model()
    neurons = some(model)
    tuned = NeuronFineTuning(model, neurons, impl)
    train(model, tuned.parameters(), weight_decay=0.5)
    tuned.merge()
    for name, before in base.state_dict().items():
        after = model.state_dict()[name].clone()
        weight = name.replace("bias", "weight")
        moved = neurons.get(weight, torch.zeros(0, dtype=torch.long))
        kept = torch.ones(len(before), dtype=torch.bool)
        if weight in neurons.sizes:
            kept[moved] = False
        assert torch.equal(after[kept], before[kept]), name
        if len(moved) and weight in neurons.sizes:
            assert bool((after[moved] != before[moved]).any()), name


def test_gradients_are_the_rows_of_the_full_gradient():
    torch.manual_seed(2)
    layer = nn.Linear(5, 7).double()
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 4, 7, dtype=torch.float64)
    full = torch.autograd.grad((layer(x) * weights).sum(), [x, layer.weight, layer.bias])
    index = torch.tensor([6, 1])
    rows = RowLinear(copy.deepcopy(layer), index)
    part = torch.autograd.grad((rows(x) * weights).sum(), [x, rows.rows, rows.row_bias])
    for found, expected in zip(part, (full[0], full[1][index], full[2][index]), strict=True):
        torch.testing.assert_close(found, expected)


def test_it_works_under_autocast_and_checkpointing():
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))
    plain = copy.deepcopy(model)
    neurons = some(model, 0.5)
    tuned = NeuronFineTuning(model, neurons)
    x = torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
        expected = plain(x)
    assert torch.equal(mixed, expected)
    assert mixed.dtype == torch.bfloat16
    mixed.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in tuned.parameters())


class EightBit(nn.Module):
    """A quantised base: integers and a scale per row, no floating-point weight to show."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.integers = (linear.weight.detach() / self.scale).round().to(torch.int8)
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x):
        return x @ (self.integers * self.scale).T + self.bias


def test_rows_train_beside_a_quantised_base():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    neurons = sensitive_neurons(model, nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), fraction=0.5)
    quantised = nn.Sequential(EightBit(model[0]), nn.Tanh(), EightBit(model[2]))
    before = quantised(torch.ones(2, 6))
    integers = quantised[0].integers.clone()
    tuned = NeuronFineTuning(quantised, neurons)
    torch.testing.assert_close(quantised(torch.ones(2, 6)), before)
    optimizer = torch.optim.SGD(tuned.parameters(), 0.1)
    quantised(torch.ones(2, 6)).square().sum().backward()
    optimizer.step()
    assert (quantised(torch.ones(2, 6)) - before).abs().max().item() > 1e-3
    assert torch.equal(quantised[0].base.integers, integers)
    with pytest.raises(TypeError, match="quantised"):
        tuned.merge()


def test_count_is_that_of_rows_with_their_bias():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 30, bias=False))
    neurons = random_neurons(model, fraction=0.1)
    expected = len(neurons.get("0.weight", ())) * 11 + len(neurons.get("2.weight", ())) * 20
    assert neurons.count() == 5
    for impl in ("rows", "mask"):
        tuned = NeuronFineTuning(copy.deepcopy(model), neurons, impl)
        assert tuned.trainable_count() == expected
    rows = NeuronFineTuning(copy.deepcopy(model), neurons)
    assert sum(p.numel() for p in rows.parameters()) == expected


def rotated(rows, degrees, generator):
    side = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
    side -= (side * rows).sum(1, keepdim=True) / rows.square().sum(1, keepdim=True) * rows
    side *= rows.norm(dim=1, keepdim=True) / side.norm(dim=1, keepdim=True)
    angle = math.radians(degrees)
    return math.cos(angle) * rows + math.sin(angle) * side


def test_planted_rows_are_found():
    generator = torch.Generator().manual_seed(0)
    base = language_model()
    tuned = copy.deepcopy(base)
    planted = some(base, fraction=10 / sum(some(base).sizes.values()))
    assert planted.count() == 10
    with torch.no_grad():
        for name, linear in linear_maps(tuned).items():
            before = linear.weight.double()
            after = rotated(before, 0.1, generator) * 3  # longer all over: length does not count
            if name in planted:
                after[planted[name]] = rotated(before[planted[name]], 5, generator)
            linear.weight.copy_(after.float())
    found = sensitive_neurons(base, tuned, fraction=planted.fraction)
    assert {n: i.tolist() for n, i in found.items()} == {n: i.tolist() for n, i in planted.items()}
    by_change = sensitive_neurons(base, tuned, fraction=planted.fraction, criterion="change")
    assert {n: i.tolist() for n, i in by_change.items()} != {n: i.tolist() for n, i in planted.items()}


def test_scopes_and_budgets():
    base, tuned = language_model(), language_model(1)
    each = sensitive_neurons(base, tuned, fraction=0.25, scope="layer")
    assert all(share == 0.25 for share in each.table().values())
    for name, distance in neuron_similarity(base, tuned).distances.items():  # the most turned of each weight
        left = torch.ones(len(distance), dtype=torch.bool)
        left[each[name]] = False
        assert float(distance[each[name]].min()) >= float(distance[left].max())
    numbers = sensitive_neurons(base, tuned, fraction=0.1, budget="parameters")
    total = sum(p.numel() for p in covered(base))
    trained = NeuronFineTuning(copy.deepcopy(base), numbers).trainable_count()
    assert 0.1 * total - 33 <= trained <= 0.1 * total
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        sensitive_neurons(base, tuned, fraction=0.0)


def test_set_survives_its_file(tmp_path):
    neurons = some(language_model())
    neurons.save(tmp_path / "neurons.pt")
    again = NeuronSet.load(tmp_path / "neurons.pt")
    assert {n: i.tolist() for n, i in again.items()} == {n: i.tolist() for n, i in neurons.items()}
    assert again.sizes == neurons.sizes


def test_gradient_neurons_have_the_longest_gradients():
    model = language_model()
    chosen = gradient_neurons(model, lambda: task_loss(model), fraction=0.05)
    assert all(p.grad is None for p in model.parameters())
    task_loss(model).backward()
    lengths = {name: m.weight.grad.norm(dim=1) for name, m in linear_maps(model).items()}
    shortest = min(float(lengths[name][index].min()) for name, index in chosen.items())
    for name, index in chosen.items():
        lengths[name][index] = 0.0
    left = torch.cat(list(lengths.values()))
    assert shortest >= float(left.max())


def test_activation_neurons_tell_inputs_apart():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[2, 0] = 1.0  # the only unit that sees the feature in which the two kinds differ
        model[0].weight[:2, 1] = 1.0
        model[2].weight[:, 2] = 0.0
    task = torch.randn(50, 4) + torch.tensor([5.0, 0, 0, 0])
    chosen = activation_neurons(model, [task], [torch.randn(50, 4)], fraction=1 / 11)
    assert {name: index.tolist() for name, index in chosen.items()} == {"0.weight": [2]}


def test_the_score_is_the_distance_of_means_over_the_standard_deviation():
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
    # means of the task and of the rest, and the deviation of all four numbers of each unit
    task = torch.tensor([[6.0, 10.0, 99.0], [8.0, -10.0, 99.0]])  # 7, 0, 99
    other = torch.tensor([[8.0, -6.0, 101.0], [6.0, -14.0, 101.0]])  # 7, -10, 101
    # 2 / 1 for unit 2; 10 / 9.2 for unit 1; 0 for unit 0, though its last batches differ
    order = [(1 / 3, [2]), (2 / 3, [1, 2])]
    for fraction, chosen in order:
        for batches in (([task], [other]), ([task[:1], task[1:]], [other[:1], other[1:]])):
            assert activation_neurons(model, *batches, fraction=fraction)["0.weight"].tolist() == chosen


def test_the_largest_are_taken_in_order_while_they_fit():
    scores = {"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([4.0, 3.0])}
    costs = {"a": 10, "b": 1}  # 22 numbers
    for fraction, chosen in ((0.5, {"a": [0], "b": [0]}), (1.0, {"a": [0, 1], "b": [0, 1]}), (0.46, {"a": [0]})):
        found = choose(scores, fraction, costs=costs)
        assert {name: index.tolist() for name, index in found.items()} == chosen
    assert {n: i.tolist() for n, i in choose(scores, 0.5).items()} == {"a": [0], "b": [0]}
    assert {n: i.tolist() for n, i in choose(scores, 0.5, scope="layer").items()} == {"a": [0], "b": [0]}


def test_long_gradients_count_whatever_their_signs():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    x = torch.tensor([[3.0, -3.0], [1.0, 1.0]])
    slope = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # rows' gradients: [3, -3] and [1, 1]
    assert gradient_neurons(model, lambda: (model(x) * slope).sum(), fraction=0.5)["0.weight"].tolist() == [0]


def test_the_trial_is_short_and_leaves_no_trace():
    base, lengths = language_model(), []
    base.head.requires_grad_(False)

    def trial_only(model, parameters, steps):
        lengths.append(steps)
        if steps is not None:
            train(model, [p for p in parameters if p.requires_grad], steps)

    for scope in ("global", "layer"):
        result, neurons = neft(base, trial_only, fraction=0.25, probe_steps=3, scope=scope)
        assert lengths == [3, None]
        lengths.clear()
        assert largest_difference(result, base) == 0
        assert (set(neurons.table().values()) == {0.25}) == (scope == "layer")
        assert neurons.fraction == 0.25
    assert [p.requires_grad for p in result.parameters()] == [p.requires_grad for p in base.parameters()]


def test_whole_procedure_lowers_the_loss_and_leaves_the_base():
    base = language_model()
    kept = copy.deepcopy(base.state_dict())
    result, neurons = neft(base, train, fraction=0.1, probe_steps=5)
    assert neurons.fraction == pytest.approx(0.1, abs=0.01)
    assert task_loss(result).item() < task_loss(base).item() - 0.1
    assert all(torch.equal(kept[name], tensor) for name, tensor in base.state_dict().items())
    assert all(p.requires_grad for p in result.parameters())


def test_wrong_requests_are_refused():
    model = language_model()
    other = CausalTransformer(11, d_model=16, nhead=2, num_layers=2, dim_feedforward=24, context=12)
    with pytest.raises(ValueError, match=r"differ in architecture: layers\.0\.linear1\.weight has shape"):
        sensitive_neurons(model, other)
    with pytest.raises(ValueError, match="no linear maps"):
        random_neurons(nn.LayerNorm(3))
    with pytest.raises(ValueError, match="matches no linear map"):
        random_neurons(model, modules=["decoder"])
    with pytest.raises(ValueError, match="impl must be"):
        NeuronFineTuning(model, some(model), "columns")
    model.head = nn.Linear(16, 11, bias=False)
    model.head.weight = model.tokens.weight
    with pytest.raises(ValueError, match=r"head\.weight is tied to tokens\.weight"):
        NeuronFineTuning(model, random_neurons(model, fraction=1.0, modules=["head"]))
    fresh = language_model()
    everything = torch.optim.SGD(fresh.parameters(), 0.1)
    tuned = NeuronFineTuning(fresh, some(fresh))
    with pytest.warns(UserWarning, match=r"\d+ frozen tensors"):
        assert tuned.check(everything) > 0
    assert tuned.check(torch.optim.SGD(tuned.parameters(), 0.1)) == 0


class Conv1D(nn.Module):
    """The layer of GPT-2 as transformers writes it: the weight is [in, out]."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


def test_transposed_layers_have_their_neurons_in_columns():
    model = nn.Sequential(Conv1D(6, 4))
    base = copy.deepcopy(model)
    neurons = random_neurons(model, fraction=0.5)
    tuned = NeuronFineTuning(model, neurons)
    assert tuned.trainable_count() == 3 * 5
    optimizer = torch.optim.SGD(tuned.parameters(), 0.1)
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    tuned.merge()
    changed = (model[0].weight != base[0].weight).any(0)
    assert changed.nonzero().squeeze(1).tolist() == neurons["0.weight"].tolist()


def test_the_low_rank_term_is_scaled_by_alpha_over_rank():
    for rank, alpha, scale in ((4, 2.0, 0.5), (4, None, 2.0)):
        model = nn.Sequential(nn.Linear(9, 3))
        before = model[0].weight.detach().clone()
        lora = LowRankFineTuning(model, rank, alpha)
        b, a = lora.parameters() if next(lora.parameters()).shape == (3, 4) else list(lora.parameters())[::-1]
        assert 0.2 < float(a.detach().abs().max()) <= 1 / 3  # as the weights of a layer of nine inputs
        assert not bool(b.any())
        with torch.no_grad():
            b.normal_()
        torch.testing.assert_close(model[0].weight, before + scale * b @ a)


def test_low_rank_is_a_low_rank_change_within_its_budget():
    base, model = language_model(), language_model()
    lora = LowRankFineTuning(model, budget=2000)
    per_rank = sum(sum(m.weight.shape) for m in linear_maps(base).values())
    assert lora.rank == 2000 // per_rank
    assert lora.trainable_count() == lora.rank * per_rank <= 2000
    assert torch.equal(model(TOKENS), base(TOKENS))
    train(model, lora.parameters())
    output = model(TOKENS)
    torch.testing.assert_close(lora.merge()(TOKENS), output, atol=1e-6, rtol=0)
    for name, linear in linear_maps(model).items():
        change = (linear.weight - linear_maps(base)[name].weight).detach()
        assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= lora.rank
        assert change.abs().max() > 1e-4
    with pytest.raises(ValueError, match="below 1"):
        LowRankFineTuning(base, budget=10)
    with pytest.raises(ValueError, match="either rank or budget"):
        LowRankFineTuning(base)
