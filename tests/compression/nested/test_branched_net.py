"""Members of a SortedNet with heads of their own, and each with a part of the batch."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import BranchedNet, SortedNet, account
from neurarium.training import fit

X, Y = torch.randn(20, 8), torch.randint(0, 3, (20,))


class Deep(nn.Module):
    def __init__(self, blocks=3):
        super().__init__()
        self.entry = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(blocks))
        self.top = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3))

    def forward(self, x):
        x = self.entry(x)
        for block in self.blocks:
            x = x + block(x)
        return self.top(x)


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def gradients(module):
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def test_with_neither_option_it_is_a_sorted_net_bit_for_bit():
    torch.manual_seed(0)
    models = [mlp()]
    models.append(copy.deepcopy(models[0]))
    nets = [
        kind(m, X[:1], generator=torch.Generator().manual_seed(1)) for kind, m in zip((SortedNet, BranchedNet), models)
    ]
    for net in nets:
        fit(net, [(X, Y)], torch.optim.Adam(net.parameters(), 1e-2), epochs=5)
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models)))
    with pytest.raises(ValueError, match="share one output layer"):
        nets[1].head(0.5)


def test_heads_start_as_the_truncated_one_and_part_as_they_learn():
    torch.manual_seed(0)
    model = mlp()
    shared = SortedNet(copy.deepcopy(model), X[:1], widths=(0.25, 0.5, 1))
    net = BranchedNet(model, X[:1], widths=(0.25, 0.5, 1), heads="4", per_step=0)
    for sub in net.family:
        with net.at(sub), shared.at(sub):
            assert torch.equal(net(X), shared(X))
    assert torch.equal(net.head(0.25).weight, model[4].weight[:, :4])
    assert net.head(1.0) is model[4]
    before = [copy.deepcopy(head) for head in (net.head(0.25), net.head(0.5), model[4])]
    fit(net, [(X, Y)], torch.optim.Adam(net.parameters(), 1e-2), epochs=3)
    assert all(not torch.equal(a.weight, b.weight) for a, b in zip(before, (net.head(0.25), net.head(0.5), model[4])))
    assert not torch.equal(net.head(0.25).weight, model[4].weight[:, :4])
    assert type(model[4]) is nn.Linear
    assert model[4].weight.shape == (3, 16)


def test_the_gradient_of_a_member_reaches_its_own_head_and_the_shared_rest_only():
    model = mlp().double()
    net = BranchedNet(model, X[:1].double(), widths=(0.25, 0.5, 1), heads="4", per_step=1, probabilities=(0, 1, 0))
    net.assign_credit(X.double(), Y)
    found = gradients(net)
    assert found["model.4.weight"] is None
    assert found["own.0.weight"] is None
    small = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    small.load_state_dict(net.extract(0.5).state_dict())
    cross_entropy(small(X.double()), Y).backward()
    torch.testing.assert_close(found["own.1.weight"], small[4].weight.grad)
    torch.testing.assert_close(found["own.1.bias"], small[4].bias.grad)
    torch.testing.assert_close(found["model.2.weight"][:8, :8], small[2].weight.grad)
    assert not bool(found["model.2.weight"][8:].any())


def test_extracted_members_keep_their_heads_and_the_state_is_complete():
    torch.manual_seed(0)
    net = BranchedNet(Deep(), X[:1], widths=(0.5, 1), depths=(1, 2, 3), blocks="blocks", heads="top.1", per_step=0)
    fit(net, [(X, Y)], torch.optim.Adam(net.parameters(), 1e-2), epochs=3)
    assert len(net.own) == 5
    other = BranchedNet(Deep(), X[:1], widths=(0.5, 1), depths=(1, 2, 3), blocks="blocks", heads="top.1")
    other.load_state_dict(net.state_dict())
    outputs = []
    for sub in net.family:
        small = net.extract(sub)
        assert len(small.blocks) == sub.depth
        with net.at(sub), other.at(sub):
            torch.testing.assert_close(small(X), net(X))
            assert torch.equal(net(X), other(X))
        outputs.append(small(X))
        assert small.top[1] is not net.head(sub)
    assert not torch.allclose(outputs[3], SortedNet(
        net.model, X[:1], widths=(0.5, 1), depths=(1, 2, 3), blocks="blocks").extract(net.family[3])(X))  # fmt: skip
    sizes = [row.parameters for row in net.table([(X, Y)])]
    assert sizes[0] == account(net.extract(0.5, 1), X[:1]).parameters == 36 + 20 + 8 + 15


def test_each_member_gets_a_part_of_the_batch_of_its_own():
    model = mlp().double()
    x = X[:11].double()
    net = BranchedNet(model, x[:1], per_step=0, same_batch=False)
    rows = [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 11)]
    losses, separate = [], []
    for sub, part in zip(net.family, rows):
        net.zero_grad()
        with net.at(sub):
            loss = cross_entropy(net(x[part]), Y[:11][part])
            loss.backward()
        losses.append(float(loss.detach()))
        separate.append(gradients(model))
    net.zero_grad()
    found = net.assign_credit(x, Y[:11])
    assert float(found) == pytest.approx(sum(losses) / 4)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, torch.stack([g[name] for g in separate]).mean(0))


def test_one_member_per_step_makes_no_difference_and_few_examples_train_few_members():
    torch.manual_seed(0)
    models = [mlp()]
    models += [copy.deepcopy(models[0])]
    for model, same in zip(models, (True, False)):
        net = BranchedNet(model, X[:1], per_step=1, same_batch=same, generator=torch.Generator().manual_seed(0))
        fit(net, [(X, Y)], torch.optim.Adam(net.parameters(), 1e-2), epochs=4)
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models)))
    net = BranchedNet(mlp(), X[:1], per_step=0, same_batch=False)
    found = net.assign_credit(X[:2], Y[:2])  # the two narrowest
    losses = []
    for k, sub in enumerate(net.family[:2]):
        with net.at(sub):
            losses.append(cross_entropy(net(X[k : k + 1]), Y[k : k + 1]).detach())
    torch.testing.assert_close(found, sum(losses) / 2)
    assert bool(net.model[2].bias.grad[:8].any())
    assert not bool(net.model[2].bias.grad[8:].any())


def test_the_mean_over_deals_is_the_gradient_on_the_whole_batch():
    """What a member learns is the same in expectation: over all deals of a batch its gradient is that of the batch."""
    torch.manual_seed(0)
    x, y = X[:4].double(), Y[:4]
    model = mlp().double()
    whole, dealt = (BranchedNet(model, x[:1], widths=(0.5, 1), per_step=0, same_batch=same) for same in (True, False))
    whole.assign_credit(x, y)
    wanted = gradients(model)
    model.zero_grad()
    deals = [[a, b, *(k for k in range(4) if k not in (a, b))] for a in range(4) for b in range(a)]
    for deal in deals:
        dealt.assign_credit(x[deal], y[deal])
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient / len(deals), wanted[name])


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(8, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x, z):
        return self.out((self.a(x) + self.b(z)).tanh())


def test_several_inputs_are_dealt_out_together():
    z = torch.randn(20, 4)
    net = BranchedNet(TwoInputs(), (X[:1], z[:1]), widths=(0.5, 1), per_step=0, same_batch=False, heads="out")
    loss = net.assign_credit((X, z), Y)
    with net.at(0.5):
        narrow = cross_entropy(net((X[:10], z[:10])), Y[:10])
    torch.testing.assert_close(loss, (narrow + cross_entropy(net((X[10:], z[10:])), Y[10:])).detach() / 2)


def test_an_error_within_a_member_leaves_the_shared_head_in_place():
    net = BranchedNet(mlp(), X[:1], heads="4")
    shared = net.model[4]
    with pytest.raises(RuntimeError), net.at(0.25):
        net(torch.randn(2, 9))
    assert net.model[4] is shared
    assert net.model[0].weight.shape == (16, 8)


def test_requests_that_cannot_be_met():
    with pytest.raises(ValueError, match="has no 'head'"):
        BranchedNet(mlp(), X[:1], heads="head")
    with pytest.raises(ValueError, match="one of the blocks"):
        BranchedNet(Deep(), X[:1], depths=(1, 3), blocks="blocks", heads="blocks.0")
    with pytest.raises(ValueError, match="random sets"):
        BranchedNet(mlp(), X[:1], heads="4", ordered=False)
