"""SortedNet: truncations as views, averaged gradients, statistics per member, and decoding by its first blocks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import (
    Budget,
    SlimmableNet,
    SortedCompression,
    SortedNet,
    SubNetwork,
    account,
    greedy_generate,
    select,
    self_speculative_generate,
)  # fmt: skip
from neurarium.data import Arrays, Batches
from neurarium.learning import Backprop
from neurarium.models import CausalTransformer
from neurarium.training import fit

X, Y = torch.randn(20, 8), torch.randint(0, 3, (20,))


def mlp(hidden=16):
    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3))


class Deep(nn.Module):
    def __init__(self, widths=(8, 8, 8, 8)):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in zip((8, *widths), widths))
        self.head = nn.Linear(widths[-1], 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def normed():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_the_whole_member_is_ordinary_training_bit_for_bit():
    plain, ours = mlp(), mlp()
    ours.load_state_dict(plain.state_dict())
    net = SortedNet(ours, X[:1], per_step=1, probabilities=[0, 0, 0, 1])
    with net.at(net.full):
        assert torch.equal(net(X), plain(X))
    for rule, model in ((Backprop(plain, cross_entropy), plain), (net, ours)):
        fit(rule, [(X, Y)], torch.optim.Adam(model.parameters(), 1e-2), epochs=5)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), ours.parameters()))


def test_truncation_is_masking_the_tail_without_norms_and_not_with_layer_norm():
    model = mlp().double()
    net = SortedNet(model, X[:1].double(), widths=(0.25, 1))
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for layer in (masked[0], masked[2]):
            layer.weight[4:], layer.bias[4:] = 0, 0
    with net.at(0.25):
        torch.testing.assert_close(net(X.double()), masked(X.double()), rtol=0, atol=1e-12)
    tall = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))
    net = SortedNet(tall, X[:1], widths=(0.25, 1))
    masked = copy.deepcopy(tall)
    with torch.no_grad():
        masked[0].weight[4:], masked[0].bias[4:] = 0, 0
    with net.at(0.25):
        assert not torch.allclose(net(X), masked(X), atol=1e-3)
        torch.testing.assert_close(net(X), net.extract(0.25)(X))


def test_gradients_vanish_outside_the_slice_and_accumulate_to_the_mean():
    model = mlp().double()
    x = X.double()
    net = SortedNet(model, x[:1], per_step=0)
    separate, losses = [], []
    for sub in net.family:
        net.zero_grad()
        with net.at(sub):
            loss = cross_entropy(net(x), Y)
            loss.backward()
        losses.append(loss.detach())
        separate.append(gradients(model))
    kept = 4
    assert bool(separate[0]["2.weight"][:kept, :kept].any())
    outside = separate[0]["2.weight"].clone()
    outside[:kept, :kept] = 0
    assert not bool(outside.any())
    assert not bool(separate[0]["0.weight"][kept:].any())
    assert not bool(separate[0]["4.weight"][:, kept:].any())
    assert not bool(separate[0]["2.bias"][kept:].any())
    net.zero_grad()
    mean = net.assign_credit(x, Y)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, torch.stack([g[name] for g in separate]).mean(0))
    torch.testing.assert_close(mean.double(), torch.stack(losses).mean(), rtol=1e-6, atol=0)


def test_smaller_members_are_nested_in_larger_ones():
    net = SortedNet(Deep(), X[:1], widths=(0.25, 0.5, 1), depths=(2, 3, 4), blocks="blocks", per_step=1)
    touched = {}
    for sub in net.family:
        net.zero_grad()
        with net.at(sub):
            net(X.abs() + 0.1).square().sum().backward()
        touched[sub] = {n: p.grad != 0 if p.grad is not None else torch.zeros_like(p, dtype=torch.bool)
                        for n, p in net.model.named_parameters()}  # fmt: skip
        for p in net.parameters():
            p.grad = None
    for small, large in ((a, b) for a in net.family for b in net.family if a.width <= b.width and a.depth <= b.depth):
        assert all(bool((touched[large][n] | ~touched[small][n]).all()) for n in touched[small])
    assert not touched[net.member(0.25, 2)]["blocks.2.0.weight"].any()


@pytest.mark.parametrize("hidden", [64, 128])
def test_extracted_members_have_the_analytic_count(hidden):
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    x = torch.randn(3, 784)
    net = SortedNet(model, x[:1])
    small = net.extract(hidden / 256)
    cost = account(small, x[:1])
    assert cost.parameters == 784 * hidden + hidden + hidden**2 + hidden + 10 * hidden + 10
    assert cost.flops == 2 * (784 * hidden + hidden**2 + 10 * hidden)
    with net.at(hidden / 256):
        torch.testing.assert_close(small(x), net(x))
    twin = copy.deepcopy(small)
    twin.load_state_dict(small.state_dict())


def test_each_width_has_running_statistics_of_its_own():
    net = SortedNet(normed(), X[:1], widths=(0.5, 1), per_step=0)
    for _ in range(50):
        net.assign_credit(X, Y)
    norm = net.model[1]
    hidden = net.model[0](X)
    torch.testing.assert_close(norm.running_mean, hidden.mean(0), rtol=0.02, atol=0.02)
    own = net.statistics[SubNetwork(0.5)]["1.running_mean"]
    torch.testing.assert_close(own, hidden.mean(0)[:8], rtol=0.02, atol=0.02)
    assert own.data_ptr() != norm.running_mean.data_ptr()
    other = SortedNet(normed(), X[:1], widths=(0.5, 1))
    other.load_state_dict(net.state_dict())
    net.eval(), other.eval()
    with net.at(0.5), other.at(0.5):
        assert torch.equal(net(X), other(X))
    assert torch.equal(net.extract(0.5)[1].running_mean, own)


def test_recalibration_measures_the_statistics_of_a_member_and_leaves_the_whole_ones_alone():
    net = SortedNet(normed(), X[:1], widths=(0.5, 1), norm="recalibrate", per_step=0)
    net.assign_credit(X, Y)
    whole = net.model[1].running_mean.clone()
    torch.testing.assert_close(whole, 0.1 * net.model[0](X).mean(0))  # once, by the whole model only
    net.recalibrate([(X[:10], Y[:10]), (X[10:], Y[10:])])
    assert torch.equal(net.model[1].running_mean, whole)
    assert net.model[1].momentum == 0.1
    assert net.training
    hidden = net.model[0](X)[:, :8]
    torch.testing.assert_close(net.statistics[SubNetwork(0.5)]["1.running_mean"], hidden.mean(0))


def test_recalibration_starts_anew_with_all_else_in_evaluation_mode():
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    net = SortedNet(model, X[:1], widths=(0.5, 1), norm="recalibrate")
    for batch in (5 * X, X):  # the second time nothing is left of the first
        net.recalibrate([(batch, Y)])
        hidden = model[0](batch)[:, :8].detach()
        own = net.statistics[SubNetwork(0.5)]
        torch.testing.assert_close(own["2.running_mean"], hidden.mean(0))
        torch.testing.assert_close(own["2.running_var"], hidden.var(0))
    assert model[1].training


def test_a_member_starts_with_the_statistics_of_a_new_layer():
    net = SortedNet(normed(), X[:1], widths=(0.5, 1)).eval()
    own, fresh = net.statistics[SubNetwork(0.5)], nn.BatchNorm1d(8)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(own[f"1.{name}"], fresh.get_buffer(name))


def test_members_are_drawn_with_their_probabilities():
    generator = torch.Generator().manual_seed(0)
    net = SortedNet(mlp(), X[:1], widths=(0.5, 1), probabilities=(1, 3), per_step=4000, generator=generator)
    assert abs(net.sample().count(net.full) / 4000 - 0.75) < 0.03


def test_random_units_train_units_that_truncations_leave_alone():
    net = SortedNet(mlp(), X[:1], widths=(0.25, 1), per_step=8, probabilities=(1, 0), ordered=False)
    net.assign_credit(X, Y)
    assert bool(net.model[2].bias.grad[4:].any())
    with net.at(0.25):
        assert net.model[2].weight.shape == (4, 4)


def test_random_units_of_attention_are_whole_heads():
    torch.manual_seed(0)
    model = CausalTransformer(12, d_model=16, nhead=4, num_layers=1, dim_feedforward=8, context=8)
    tokens = torch.randint(0, 12, (4, 8))
    net = SortedNet(model, tokens[:1], widths=(0.5, 1), per_step=1, probabilities=(1, 0), ordered=False)
    net.loss(tokens, tokens, lambda out, y: cross_entropy(out.flatten(0, 1), y.flatten()))
    for part in model.layers[0].self_attn.in_proj_weight.grad.chunk(3):  # queries, keys, values
        heads = part.abs().sum(1).view(4, 4) > 0
        assert torch.equal(heads.all(1), heads.any(1))
        assert int(heads.all(1).sum()) == 2


def test_sandwich_trains_the_whole_on_labels_and_the_rest_on_its_probabilities():
    model = mlp().double()
    x = X.double()
    net = SlimmableNet(model, x[:1], widths=(0.25, 1), per_step=2)
    assert net.sample() == [net.full, SubNetwork(0.25)]
    net.assign_credit(x, Y)
    found = gradients(model)
    net.zero_grad()
    output = model(x)
    target = output.detach().softmax(-1)
    with net.at(0.25):
        narrow = -(target * net(x).log_softmax(-1)).sum(-1).mean()
    ((cross_entropy(output, Y) + narrow) / 2).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient)


def test_the_sandwich_has_random_members_between():
    net = SlimmableNet(mlp(), X[:1], per_step=4, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        drawn = net.sample()
        assert len(drawn) == 4
        assert drawn[:2] == [net.full, net.family[0]]
    taken = []
    trained = net._trained

    def watched(sub):
        taken.append(sub)
        return trained(sub)

    net._trained, net.sample = watched, lambda: [net.full, net.family[0], net.family[2], net.family[1]]
    net.assign_credit(X, Y)
    assert taken == [net.family[0], net.family[2], net.family[1]]


def test_rows_of_the_table_are_those_of_the_extracted_members():
    net = SortedNet(mlp(), X[:1])
    for row in net.table([(X, Y)]):
        alone = net.extract(row.sub)
        assert (row.parameters, row.flops) == (account(alone, X[:1]).parameters, account(alone, X[:1]).flops)
        assert row.accuracy == pytest.approx(float((alone(X).argmax(1) == Y).float().mean()))


def test_the_most_accurate_within_a_budget_is_chosen():
    table = [Budget(SubNetwork(w / 4), 10 * w, 100 * w, a) for w, a in ((1, 0.5), (2, 0.9), (3, 0.8), (4, 0.95))]
    assert select(table).sub.width == 1
    assert select(table, max_flops=399).sub.width == 0.5  # more is not better
    assert select(table, max_flops=200).sub.width == 0.5  # met exactly
    assert select(table, max_flops=199).sub.width == 0.25
    assert select(table, max_parameters=20, max_flops=400).sub.width == 0.5
    assert select(table, max_parameters=40, max_flops=100).sub.width == 0.25


def test_a_sorted_compression_trains_a_copy_and_hands_out_what_fits():
    torch.manual_seed(0)
    model, x = mlp(), torch.randn(400, 8)
    before = copy.deepcopy(model.state_dict())
    loader = Batches(Arrays(x, x[:, :3].argmax(1)), 50, shuffle=True, seed=0)
    count = sum(p.numel() for p in model.parameters())
    for fraction, least in ((0.4, 0.0), (0.99, 0.4)):
        small = SortedCompression(fraction, epochs=10, per_step=0).compress(model, loader)
        assert least < sum(p.numel() for p in small.parameters()) / count <= fraction
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_sorted_compression_takes_the_steps_of_a_sorted_network():
    model = mlp()
    loader = [(X[:10], Y[:10]), (X[10:], Y[10:])]
    small = SortedCompression(0.9, widths=(0.5, 1), epochs=2, per_step=0).compress(model, loader)
    net = SortedNet(copy.deepcopy(model), X[:2], (0.5, 1), per_step=0)
    fit(net, loader, torch.optim.Adam(net.parameters(), 2e-3), epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), net.extract(0.5).parameters(), strict=True))


def test_a_sorted_network_beats_a_truncated_one_and_is_chosen_by_budget():
    torch.manual_seed(0)
    x = torch.randn(400, 8)
    loader = Batches(Arrays(x, x[:, :3].argmax(1)), 50, shuffle=True, seed=0)
    nets = [SortedNet(mlp(32), X[:1], per_step=0), SortedNet(mlp(32), X[:1], per_step=1, probabilities=[0, 0, 0, 1])]
    for net in nets:
        fit(net, loader, torch.optim.Adam(net.parameters(), 1e-2), epochs=5)
    tables = [net.table(loader) for net in nets]
    assert tables[0][0].accuracy > tables[1][0].accuracy + 0.1
    assert [row.parameters for row in tables[0]] == sorted(row.parameters for row in tables[0])
    chosen = select(tables[0], max_parameters=tables[0][1].parameters, max_flops=1e9)
    assert chosen.sub.width <= 0.5
    with pytest.raises(ValueError, match="smallest member has"):
        select(tables[0], max_flops=1)


def test_requests_that_cannot_be_met():
    with pytest.raises(ValueError, match="contain 1"):
        SortedNet(mlp(), X[:1], widths=(0.5,))
    with pytest.raises(ValueError, match="leaves nothing"):
        SortedNet(mlp(), X[:1], widths=(0.001, 1))
    with pytest.raises(ValueError, match="no member"):
        SortedNet(mlp(), X[:1]).extract(0.3)
    with pytest.raises(ValueError, match=r"blocks.1 changes the shape"):
        SortedNet(Deep((4, 8, 8, 8)), X[:1], widths=(1,), depths=(1, 4), blocks="blocks")
    with pytest.raises(ValueError, match=r"blocks must name .*\(blocks"):
        SortedNet(Deep(), X[:1], depths=(1, 4), blocks="layers")
    with pytest.raises(ValueError, match="one per member"):
        SortedNet(mlp(), X[:1], probabilities=(1, 1))
    with pytest.raises(ValueError, match="fraction"):
        SortedCompression(1.5)


def language_model():
    """Three blocks that have learnt to count in steps, well at full depth, less by the first block alone."""
    torch.manual_seed(0)
    model = CausalTransformer(12, d_model=24, nhead=2, num_layers=3, dim_feedforward=48, context=32)
    tokens = sequences(32)
    net = SortedNet(model, tokens[:1], widths=(1,), depths=(1, 2, 3), blocks="layers", per_step=2)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        net.loss(tokens[:, :-1], tokens[:, 1:], lambda out, y: cross_entropy(out.flatten(0, 1), y.flatten()))
        optimizer.step()
    return net.eval()


def sequences(count):
    start, step = torch.randint(0, 12, (count, 1)), torch.randint(1, 4, (count, 1))
    return (start + step * torch.arange(24)) % 12


@pytest.mark.untyped
def test_self_speculative_decoding_is_greedy_decoding_token_for_token():
    net = language_model()
    drafted = accepted = passes = 0
    for k in range(50):
        prompt = sequences(1)[:, : 2 + k % 5]
        if k % 2:
            prompt = torch.randint(0, 12, prompt.shape)  # nonsense, on which draft and whole disagree
        found = self_speculative_generate(net, prompt, 10, draft_depth=1, draft_tokens=1 + k % 4)
        assert torch.equal(found.tokens, greedy_generate(net, prompt, 10))
        drafted, accepted, passes = drafted + found.drafted, accepted + found.accepted, passes + found.passes
    assert 0.3 < accepted / drafted < 1
    assert passes < 0.7 * 50 * 10
    with pytest.raises(ValueError, match="no member"):
        self_speculative_generate(net, prompt, 4, draft_depth=4)
    with pytest.raises(ValueError, match="one sequence"):
        self_speculative_generate(net, torch.zeros(2, 3, dtype=torch.long), 4, draft_depth=2)


@pytest.mark.parametrize(("count", "passes"), [(10, 2), (11, 3), (4, 1), (1, 1)])
def test_a_draft_by_the_whole_model_is_accepted_whole(count, passes):
    net = language_model()
    prompt = sequences(1)[:, :4]
    found = self_speculative_generate(net, prompt, count, draft_depth=3, draft_tokens=4)
    assert found.passes == passes  # each writes the four of the draft and one more
    assert found.accepted == found.drafted == count - passes
    assert found.acceptance == (count > 1)
    assert found.tokens.shape == (1, 4 + count)


def test_a_shallow_member_runs_its_blocks_and_the_shared_head():
    model = CausalTransformer(12, d_model=24, nhead=2, num_layers=3, context=32)
    tokens = sequences(2)
    net = SortedNet(model, tokens, widths=(1,), depths=(1, 2, 3), blocks="layers")
    shallow = net.extract(depth=2)
    assert len(shallow.layers) == 2
    assert len(model.layers) == 3
    mask = model.mask[:24, :24]
    hidden = model.embed(tokens)
    for layer in model.layers[:2]:
        hidden = layer(hidden, src_mask=mask, is_causal=True)
    torch.testing.assert_close(shallow(tokens), model.head(model.norm(hidden)))


def test_statistics_of_members_go_where_the_network_goes():
    net = SortedNet(normed(), X[:1], widths=(0.5, 1), per_step=0)
    net.assign_credit(X, Y)
    before = net.statistics[SubNetwork(0.5)]["1.running_mean"].clone()
    net.double()
    own = net.statistics[SubNetwork(0.5)]["1.running_mean"]
    assert own.dtype == torch.float64
    assert torch.equal(own, before.double())
    net.assign_credit(X.double(), Y)
    own = net.statistics[SubNetwork(0.5)]["1.running_mean"]
    assert not torch.equal(own, before.double())
    assert any(value is own for value in net.buffers())
    copied = copy.deepcopy(net)
    copied.assign_credit(X.double() + 1, Y)
    assert torch.equal(net.statistics[SubNetwork(0.5)]["1.running_mean"], own)


def test_compression_leaves_frozen_what_the_user_froze():
    model = normed()
    model[1].eval()
    model[1].weight.requires_grad_(False)
    small = SortedCompression(0.9, widths=(0.5, 1), epochs=1).compress(model, [(X, Y)])
    assert not small[1].training
    assert small[0].training
    assert not small[1].weight.requires_grad
