"""Highway backpropagation against path enumeration, closed forms, autograd and its limiting cases."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurarium.layers import (
    PostNormResidual,
    Residual,
    ResidualBlock,
    ReZero,
    SpaceToDepthStage,
    cumulative_sum_product,
)
from neurarium.learning import Backprop, HighwayBackprop
from neurarium.learning.highway._highway_recurrent import recur
from neurarium.models import CausalTransformer
from neurarium.probes import path_spectrum
from neurarium.training import all_reduce_gradients, saved_bytes


def branch(width=6):
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


BLOCKS = {
    "identity": lambda: Residual(branch()),
    "relu": lambda: Residual(branch(), relu=True),
    "post-norm": lambda: PostNormResidual(branch(), 6),
    "rezero": lambda: ReZero(branch(), nn.Parameter(torch.tensor([0.7]))),
    "plain": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()),
}


def chain(kind, depth=5, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), *(BLOCKS[kind]() for _ in range(depth)), nn.Linear(6, 3)).double()


def batch(n=12):
    torch.manual_seed(1)
    return torch.randn(n, 4, dtype=torch.float64), torch.randint(3, (n,))


def gradients(rule, x, y):
    rule.zero_grad()
    loss = rule.assign_credit(x, y)
    return loss, {name: p.grad.clone() for name, p in rule.model.named_parameters()}


def distance(rule, x, y):
    """Of all parameters' gradients from the exact ones, relative."""
    found = gradients(rule, x, y)[1]
    exact = gradients(Backprop(rule.model, rule.loss), x, y)[1]
    error = torch.cat([(found[name] - exact[name]).flatten() for name in exact]).norm()
    return float(error / torch.cat([g.flatten() for g in exact.values()]).norm())


# Exactness


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", BLOCKS)
def test_as_many_rounds_as_blocks_give_the_exact_gradient_and_no_fewer(kind, gamma):
    x, y = batch()
    model = chain(kind)
    blocks = 6 if kind == "plain" else 5  # a plain stack's readout is a block like the others
    errors = [distance(HighwayBackprop(model, F.cross_entropy, iterations=k, gamma=gamma), x, y) for k in range(7)]
    assert errors[blocks] < 1e-12
    assert all(error > 1e-6 for error in errors[: blocks - 1])


def test_error_falls_with_every_round_on_a_deep_network():
    x, y = batch()
    torch.manual_seed(0)
    stack = [Residual(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.Tanh())) for _ in range(12)]
    model = nn.Sequential(nn.Linear(4, 6), *stack, nn.Linear(6, 3)).double()
    errors = [distance(HighwayBackprop(model, F.cross_entropy, iterations=k), x, y) for k in range(13)]
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[12] < 1e-12


def test_gamma_tames_post_norm_blocks():
    """Their highway alone grows from block to block; few rounds are worse than none until gamma damps it."""
    x, y = batch()
    torch.manual_seed(0)
    stack = [PostNormResidual(nn.Sequential(nn.LayerNorm(6), branch()), 6) for _ in range(16)]
    model = nn.Sequential(nn.Linear(4, 6), *stack, nn.Linear(6, 3)).double()
    exact = HighwayBackprop(model, F.cross_entropy, gamma=1.0).gradients_by_order(x, y)[-1]
    errors = {}
    for gamma in (0.0, 0.8):
        orders = HighwayBackprop(model, F.cross_entropy, gamma=gamma).gradients_by_order(x, y)
        errors[gamma] = [float((found[0] - exact[0]).norm() / exact[0].norm()) for found in orders]
    assert max(errors[0.0]) > 10
    assert all(after < before for before, after in itertools.pairwise(errors[0.8]))
    assert max(errors[0.0][-1], errors[0.8][-1]) < 1e-12


@pytest.mark.parametrize("gamma", [0.0, 0.2])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False}], ids=["one", "four"]
)
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_layers_are_exact_after_as_many_rounds_as_steps(kind, options, gamma):
    """Losses at every step, gradients also into the inputs' layer and the initial state."""
    steps, units = 7, 5

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Linear(4, 3)
            self.rnn = kind(3, units, **options)
            self.first = nn.Parameter(torch.randn(self.rnn.num_layers * (2 if options else 1), 1, units))
            self.head = nn.Linear(units * (2 if options else 1), 3)

        def forward(self, x):
            first = torch.tanh(self.first).expand(-1, 12, -1).contiguous()
            lstm = isinstance(self.rnn, nn.LSTM)
            output, last = self.rnn(self.entry(x), (first, 0.5 * first) if lstm else first)
            ends = sum((i + 1) * end.square().mean() for i, end in enumerate(last if lstm else [last]))
            return self.head(output).mean(1 if self.rnn.batch_first else 0) + ends * torch.tensor([1.0, 0.0, -1.0])

    torch.manual_seed(0)
    model = Net().double()
    x = torch.randn((12, steps, 4) if options else (steps, 12, 4), dtype=torch.float64)
    y = torch.randint(3, (12,))
    errors = [distance(HighwayBackprop(model, F.cross_entropy, iterations=k, gamma=gamma), x, y) for k in range(steps)]
    assert errors[-1] < 1e-12
    assert all(after < before / 1.5 for before, after in itertools.pairwise(errors))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_forward_pass_is_torchs(kind):
    torch.manual_seed(0)
    layer = kind(3, 5, num_layers=2, bidirectional=True).double()
    for x in (torch.randn(7, 4, 3).double(), torch.randn(7, 3).double()):
        for ours, theirs in zip(recur(layer, 1, 0.0, x), layer(x), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_transformer_layers_of_torch_are_found():
    torch.manual_seed(0)
    model = CausalTransformer(11, d_model=8, nhead=2, num_layers=3, dim_feedforward=16, context=5).double()
    x, y = torch.randint(11, (4, 5)), torch.randint(11, (4, 5))
    rule = HighwayBackprop(model, lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten()), iterations=3)
    assert len(rule.gradients_by_order(x, y)) == 4
    assert distance(rule, x, y) < 1e-12
    post = CausalTransformer(11, d_model=8, nhead=2, num_layers=3, dim_feedforward=16, context=5, block="post-norm")
    assert HighwayBackprop(post, F.cross_entropy)._blocks == []


# Paths


def linear_chain(depth=4, width=3):
    torch.manual_seed(0)
    blocks = [Residual(nn.Linear(width, width, bias=False)) for _ in range(depth)]
    return nn.Sequential(*blocks).double(), torch.randn(1, width, dtype=torch.float64)


def test_order_k_is_the_sum_over_all_paths_that_cross_at_most_k_branches():
    """h <- h + A h, loss <g, h_4>: 2^4 ordered products enumerated."""
    model, x = linear_chain()
    g = torch.randn(1, 3, dtype=torch.float64)
    rule = HighwayBackprop(model, lambda h, y: (h * y).sum())
    found = rule.gradients_by_order(x, g)
    matrices = [block.branch.weight.detach() for block in model]
    for k, start in itertools.product(range(5), range(5)):
        above = range(start, 4)
        expected = torch.zeros_like(g)
        for crossed in itertools.chain.from_iterable(itertools.combinations(above, m) for m in range(k + 1)):
            w = g
            for block in reversed(crossed):
                w = w @ matrices[block]
            expected = expected + w
        torch.testing.assert_close(found[k][start], expected, rtol=0, atol=1e-12)


def test_scalar_branches_give_binomial_sums():
    """A_i = a I: Σ_m C(L, m) a^m; for L = 10, a = 0.1: 1, 2, 2.45, ..., 2.593742."""
    model = nn.Sequential(*(Residual(nn.Linear(1, 1, bias=False)) for _ in range(10))).double()
    with torch.no_grad():
        for block in model:
            block.branch.weight.fill_(0.1)
    rule = HighwayBackprop(model, lambda h, y: h.sum())
    found = [float(w[0]) for w in rule.gradients_by_order(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1))]
    sums = [sum(math.comb(10, m) * 0.1**m for m in range(k + 1)) for k in range(11)]
    assert found == pytest.approx(sums, abs=1e-12)
    assert found[:3] == pytest.approx([1, 2, 2.45])
    assert found[-1] == pytest.approx(2.593742, abs=1e-6)


def test_without_branches_the_highway_is_all():
    x, y = batch()
    model = chain("identity")
    with torch.no_grad():
        for block in model[1:-1]:
            block.branch[-1].weight.zero_()
    assert distance(HighwayBackprop(model, F.cross_entropy, iterations=0), x, y) < 1e-12


def test_without_a_highway_it_is_backpropagation_cut_off_after_k_blocks():
    x, y = batch()
    model = chain("identity")
    for k in range(5):
        found = HighwayBackprop(model, F.cross_entropy, gamma=1.0).gradients_by_order(x, y, k)[-1]
        exact = HighwayBackprop(model, F.cross_entropy).gradients_by_order(x, y)[-1]
        for position in range(6):
            reached = 5 - position <= k
            torch.testing.assert_close(
                found[position], exact[position] if reached else torch.zeros_like(x @ x.T[:, :6])
            )


def test_path_spectrum_sorts_the_gradient():
    x, y = batch()
    rule = HighwayBackprop(chain("identity"), F.cross_entropy)
    spectrum = path_spectrum(rule, x, y)
    orders = rule.gradients_by_order(x, y)
    norm = torch.cat([g.flatten() for g in orders[5][:-1]]).norm()
    added = torch.cat([(a - b).flatten() for a, b in zip(orders[2][:-1], orders[1][:-1])]).norm()
    assert spectrum.share[2] == pytest.approx(float(added / norm))
    assert spectrum.cosine[-1] == pytest.approx(1.0)
    assert spectrum.block_cosine[1][-1] == pytest.approx(1.0)  # one block below the loss: exact after one round
    assert len(spectrum.share) == len(spectrum.cosine) == 6
    assert "cosine" in spectrum.summary()
    assert all(p.grad is None for p in rule.parameters())


# The scan


@pytest.mark.parametrize("steps", [*range(1, 12), 16, 17, 33])
def test_both_scans_are_the_recursion(steps):
    torch.manual_seed(0)
    values, diagonals = torch.randn(steps, 3, 2).double(), torch.randn(steps - 1, 3, 2).double()
    expected = [values[-1]]
    for i in range(steps - 2, -1, -1):
        expected.append(values[i] + expected[-1] * diagonals[i])
    expected = torch.stack(expected[::-1])
    for parallel in (False, True):
        torch.testing.assert_close(cumulative_sum_product(values, diagonals, parallel=parallel), expected)
    ones = torch.ones_like(diagonals)
    torch.testing.assert_close(cumulative_sum_product(values), cumulative_sum_product(values, ones))


@pytest.mark.parametrize("parallel", [False, True])
def test_scan_is_differentiable(parallel):
    torch.manual_seed(0)
    values = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    diagonals = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, k: cumulative_sum_product(a, k, parallel=parallel), (values, diagonals))
    with pytest.raises(ValueError, match="4 rows"):
        cumulative_sum_product(values, values)


# Blocks


def test_post_norm_block_is_layer_norm_of_the_sum():
    torch.manual_seed(0)
    block = PostNormResidual(branch(), 6)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    x = torch.randn(5, 6)
    torch.testing.assert_close(block(x), block.norm(x + block.module(x)))


@pytest.mark.parametrize("kind", ["identity", "relu", "post-norm"])
def test_carry_is_the_jacobian_of_the_merge(kind):
    torch.manual_seed(0)
    block, x = BLOCKS[kind](), torch.randn(20, 6, requires_grad=True)
    z = block.branch(x.detach())
    expected = torch.autograd.grad(block.merge(x, z).sum(), x)[0]
    torch.testing.assert_close(block.carry(x.detach(), z) * torch.ones(20, 6), expected)
    assert isinstance(block, ResidualBlock)
    assert not isinstance(nn.Linear(2, 2), ResidualBlock)


def test_space_to_depth_keeps_a_permutation_and_is_exact():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), SpaceToDepthStage(2), Residual(nn.Conv2d(8, 8, 3, padding=1)), SpaceToDepthStage(8),
        nn.Flatten(), nn.Linear(128, 3),
    ).double()  # fmt: skip
    x, y = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.randint(3, (4,))
    errors = [distance(HighwayBackprop(copy.deepcopy(model), F.cross_entropy, iterations=k), x, y) for k in range(4)]
    assert errors[3] < 1e-12
    assert errors[0] > errors[1] > errors[2] > 1e-4
    stage, image = model[1], torch.randn(4, 2, 8, 8, dtype=torch.float64)
    w = torch.randn(4, 8, 4, 4, dtype=torch.float64)
    back = torch.func.vjp(lambda x: stage.merge(x, torch.zeros_like(w)), image)[1](w)[0]
    torch.testing.assert_close(stage.carry(image, w)(w), back)


def test_layers_between_blocks_and_weight_sharing_are_exact():
    torch.manual_seed(0)
    shared = Residual(branch())
    model = nn.Sequential(shared, nn.LayerNorm(6), shared, nn.Linear(6, 4), nn.Tanh(), Residual(branch(4))).double()
    x, y = torch.randn(12, 6, dtype=torch.float64), torch.randint(4, (12,))
    assert distance(HighwayBackprop(model, F.cross_entropy, iterations=5), x, y) < 1e-12


def test_blocks_of_ones_own_by_name():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = branch()

        def forward(self, x):
            return x + self.inner(x)

    torch.manual_seed(0)
    x, y = batch()
    model = nn.Sequential(nn.Linear(4, 6), Mine(), Mine(), nn.Linear(6, 3)).double()
    for blocks in (["1", "2"], Mine):
        assert distance(HighwayBackprop(model, F.cross_entropy, iterations=2, blocks=blocks), x, y) < 1e-12


def test_inner_losses_count():
    """The loss sees a block's output as well as the last one's."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Residual(branch()) for _ in range(4))

        def forward(self, x):
            seen = []
            for block in self.blocks:
                x = block(x)
                seen.append(x)
            return seen[1] - 2 * seen[3]

    torch.manual_seed(0)
    x = torch.randn(5, 6, dtype=torch.float64)
    assert distance(HighwayBackprop(Deep().double(), F.mse_loss, iterations=4), x, torch.zeros_like(x)) < 1e-12


# Use


def test_the_network_runs_once():
    """Dropout masks are those of one forward pass, and batch statistics are updated once."""
    torch.manual_seed(0)
    stack = [Residual(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Dropout(0.5))) for _ in range(3)]
    model = nn.Sequential(nn.Linear(4, 6), *stack, nn.Linear(6, 3)).double()
    x, y = batch()
    results = []
    for rule in (
        Backprop(copy.deepcopy(model), F.cross_entropy),
        HighwayBackprop(model, F.cross_entropy, iterations=3),
    ):
        torch.manual_seed(3)
        loss, found = gradients(rule, x, y)
        results.append((loss, found, dict(rule.model.named_buffers())))
    for exact, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact)


def test_iterations_may_change_during_training_and_gradients_add_up():
    x, y = batch()
    rule = HighwayBackprop(chain("identity"), F.cross_entropy, iterations=0)
    once = gradients(rule, x, y)[1]
    rule.assign_credit(x, y)
    for name, p in rule.model.named_parameters():
        torch.testing.assert_close(p.grad, 2 * once[name])
    rule.iterations = 5
    assert distance(rule, x, y) < 1e-12
    all_reduce_gradients(rule.parameters())


def test_recurrent_layers_keep_states_and_not_gates():
    torch.manual_seed(0)
    rnn, x = nn.GRU(4, 16), torch.randn(50, 8, 4)
    with HighwayBackprop(nn.Sequential(rnn), lambda o, y: o[0].sum())._recording(2):
        kept = saved_bytes(lambda: rnn(x)[0].sum())
    assert kept < saved_bytes(lambda: rnn(x)[0].sum()) / 2


class Bypass(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Residual(branch()) for _ in range(3))

    def forward(self, x):
        first = self.blocks[0](x)
        return self.blocks[2](self.blocks[1](first) + first)


class Shrinks(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (Bypass, {}, "follow one another"),
        (lambda: nn.Sequential(Residual(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6)))), {}, "in place"),
        (lambda: nn.Sequential(nn.Linear(6, 6), Shrinks()), {"blocks": Shrinks}, "keeps the shape"),
        (lambda: nn.Sequential(Residual(nn.Linear(6, 3))), {}, "keep the shape"),
    ],
)
def test_networks_that_cannot_be_cut_are_refused(model, options, sentence):
    rule = HighwayBackprop(model(), F.cross_entropy, **options)
    with pytest.raises(ValueError, match=sentence):
        rule.assign_credit(torch.randn(4, 6), torch.randint(3, (4,)))
    assert all("forward" not in module.__dict__ for module in rule.modules())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"iterations": -1}, "iterations"), ({"gamma": 1.5}, "gamma"), ({"blocks": ["nowhere"]}, "no module named")],
)
def test_arguments_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        HighwayBackprop(chain("identity"), F.cross_entropy, **options)


@pytest.mark.untyped
def test_packed_sequences_and_projections_are_refused():
    x = nn.utils.rnn.pack_sequence([torch.randn(3, 4)])
    with pytest.raises(ValueError, match="padded"):
        recur(nn.GRU(4, 5), 1, 0.0, x)
    with pytest.raises(ValueError, match="proj_size"):
        recur(nn.LSTM(4, 5, proj_size=2), 1, 0.0, torch.randn(3, 2, 4))
    with pytest.raises(ValueError, match="no residual block"):
        HighwayBackprop(nn.Sequential(nn.GRU(2, 2)), lambda o, y: o[0].sum()).gradients_by_order(
            torch.randn(3, 1, 2), torch.zeros(1)
        )
