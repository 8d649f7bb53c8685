"""NoProp against closed forms, brute force and its own limiting cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from neurarium.layers import CosineSchedule, DiffusionSchedule, LearnedSchedule
from neurarium.layers.denoising._diffusion_schedule import flow_slope, prior_gap
from neurarium.learning import Backprop, NoProp, class_prototypes
from neurarium.models import DenoisingBlock
from neurarium.training import graph_parameters


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def batch(n=32, seed=0):
    torch.manual_seed(seed)
    return torch.randn(n, 8), torch.randint(3, (n,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Given(nn.Module):
    """A block without a body: any function of (z, x[, t])."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, z, x, *t):
        return self.function(z, x, *t)


# The schedule


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-7, 7), min_size=2, max_size=12, unique=True))
def test_coefficients_keep_the_marginals(logits):
    alpha_bar = torch.tensor(sorted(logits), dtype=torch.float64).sigmoid()
    if bool((alpha_bar.diff() < 1e-6).any()):
        return
    s = DiffusionSchedule(alpha_bar)
    before, after = alpha_bar[:-1], alpha_bar[1:]
    torch.testing.assert_close(s.a + s.b * before.sqrt(), after.sqrt(), rtol=0, atol=1e-10)
    torch.testing.assert_close(s.c + s.b**2 * (1 - before), 1 - after, rtol=0, atol=1e-10)
    torch.testing.assert_close(s.a**2 / s.c, s.delta_snr, rtol=1e-8, atol=1e-8)


def test_cosine_schedule_rises_and_is_clipped():
    s = CosineSchedule(10, clip=1e-3)
    assert s.alpha_bar[0] == 1e-3
    assert s.alpha_bar[-1] == 1 - 1e-3
    assert bool((s.alpha_bar.diff() > 0).all())
    assert s.delta_snr.sum() == pytest.approx(float(s.snr[-1] - s.snr[0]))


def test_learned_schedule_is_monotone_with_the_ends_fixed_and_true_slopes():
    torch.manual_seed(0)
    s = LearnedSchedule((-5.0, 6.0)).double()
    with torch.no_grad():
        for p in s.parameters():
            p += torch.randn_like(p)
    t = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    for level, slope in (s.alpha_bar(t), s.snr(t), s.gamma_bar(t)):
        torch.testing.assert_close(torch.autograd.grad(level.sum(), t, retain_graph=True)[0], slope)
        assert bool((slope > 0).all())
    assert s.snr(t)[0][0].log().item() == pytest.approx(-5.0)
    assert s.snr(t)[0][-1].log().item() == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [([0.5, 0.4], "increase"), ([0.0, 0.5], "strictly"), ([0.5], "at least two"), ([0.5, 1.0], "strictly")],
)
def test_schedules_refuse(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        DiffusionSchedule(values)


def test_prior_gap_is_the_kl_divergence():
    u, alpha_bar = torch.randn(5, 7, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    normal = torch.distributions.Normal
    q = normal(alpha_bar.sqrt() * u, (1 - alpha_bar).sqrt().expand_as(u))
    expected = torch.distributions.kl_divergence(q, normal(torch.zeros_like(u), torch.ones_like(u))).sum(1)
    torch.testing.assert_close(prior_gap(u, alpha_bar), expected)


# The objective


def exact_chain(alpha_bar):
    """d = 1, u = ±1, and for blocks the exact posterior means."""
    schedule = DiffusionSchedule(alpha_bar)

    def make(step, d):
        ab = float(schedule.alpha_bar[step - 1])
        return Given(lambda z, x: torch.tanh(math.sqrt(ab) * z / (1 - ab)))

    table, steps = torch.tensor([[-1.0], [1.0]]), schedule.steps
    return NoProp(
        make, num_classes=2, steps=steps, embedding=table, readout="radial", eta=1.0, schedule=schedule, direct=True
    )


@torch.no_grad()
def objective(rule, n):
    x, y = torch.zeros(n, 1), torch.ones(n, dtype=torch.long)
    steps = range(1, rule.steps + 1)
    return sum(rule.block_loss(t, x, y) for t in steps) / rule.steps + rule.readout_loss(y)


def test_objective_bounds_the_negative_log_likelihood_from_above():
    torch.manual_seed(0)
    rule = exact_chain([0.05, 0.5, 0.95])
    with torch.no_grad():
        likelihood = -rule.log_probs(torch.zeros(100_000, 1), 1)[:, 1].exp().mean().log()
    assert likelihood.item() == pytest.approx(math.log(2), abs=0.01)  # half the chains end at each class
    assert objective(rule, 100_000) > likelihood


def test_the_bound_is_tight_in_the_limit_of_many_steps():
    """½ ∫ mmse dSNR is the mutual information of u and z (Guo, Shamai and Verdú, 2005), here the entropy of y."""
    torch.manual_seed(0)
    rule = exact_chain(torch.linspace(-7, 5, 301, dtype=torch.float64).sigmoid())
    assert objective(rule, 10_000).item() == pytest.approx(math.log(2), abs=0.03)


def test_one_step_is_a_classifier_with_soft_targets():
    """T = 1: the loss is ΔSNR_1 η / 2 times the squared error of softmax(scores) on (z_0, x)."""
    x, y = batch()
    rule = NoProp(network(), steps=1, eta=3.0, schedule=DiffusionSchedule([0.2, 0.9]))
    z = math.sqrt(0.2) * F.one_hot(y, 3) + math.sqrt(0.8) * torch.randn(32, 3, generator=seeded(4))
    brier = (rule.model[0](z, x).softmax(-1) - F.one_hot(y, 3)).square().sum(1).mean()
    expected = 0.5 * 3.0 * (0.9 / 0.1 - 0.2 / 0.8) * brier
    torch.testing.assert_close(rule.block_loss(1, x, y, seeded(4)), expected)


@pytest.mark.parametrize("order", ["sampled", "sequential"])
def test_blocks_trained_one_at_a_time_add_up_to_all(order):
    """Over all T blocks, the mean gradient of order "sampled" or "sequential" is that of "all"."""
    x, y = batch()
    rule = NoProp(network(), steps=4, embedding=5, order=order)
    every = [sum(rule.block_loss(t, x, y, seeded(t)) for t in range(1, 5)) / 4]
    expected = torch.autograd.grad(every[0], rule.embedding)[0]
    each = [torch.autograd.grad(rule.block_loss(t, x, y, seeded(t)), rule.embedding)[0] for t in range(1, 5)]
    torch.testing.assert_close(torch.stack(each).mean(0), expected)
    trained = []
    for _ in range(40):
        rule.zero_grad(set_to_none=True)
        rule.assign_credit(x, y)
        trained.append([i for i, block in enumerate(rule.model) if any(p.grad is not None for p in block.parameters())])
    assert all(len(blocks) == 1 for blocks in trained)
    assert {blocks[0] for blocks in trained} == {0, 1, 2, 3}
    if order == "sequential":
        assert [blocks[0] for blocks in trained[:5]] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("variant", ["discrete", "continuous", "flow"])
def test_credit_is_the_gradient_of_the_mean_over_blocks_and_the_readouts_loss(variant):
    x, y = batch()
    rule = NoProp(network(), steps=4, embedding=5, variant=variant, generator=seeded(3))
    found = rule.assign_credit(x, y)
    mine = {name: p.grad for name, p in rule.named_parameters() if p.grad is not None}
    again = seeded(3)
    steps = range(1, 5) if variant == "discrete" else [None]
    loss = sum(rule.block_loss(t, x, y, again) for t in steps) / len(steps) + rule.readout_loss(y, again)
    torch.testing.assert_close(found, loss.detach())
    named = [(name, p) for name, p in rule.named_parameters() if name in mine]
    for (name, _), expected in zip(named, torch.autograd.grad(loss, [p for _, p in named]), strict=True):
        torch.testing.assert_close(mine[name], expected, msg=name)


def test_flow_matching_needs_no_anchor_where_the_embedding_is_fixed():
    """The readout learns from the ends; the block's gradient is that of the velocity alone. A learned embedding has
    the anchor's gradient in the block too."""
    x, y = batch()
    for embedding in ("one-hot", 5):
        rule = NoProp(network(), variant="flow", embedding=embedding)
        weights = rule.block_parameters(1)
        times = torch.full((32,), 0.3)
        whole = torch.autograd.grad(rule.block_loss(times, x, y, seeded(1)), weights)
        u = rule.embedding[y]
        start = torch.randn(u.shape, generator=seeded(1))
        velocity = rule.model[0](torch.lerp(start, u, times[:, None]), x, times)
        alone = torch.autograd.grad((velocity - (u - start)).square().sum(1).mean(), weights)
        close = [torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(whole, alone, strict=True)]
        assert all(close) is (embedding == "one-hot")
        assert torch.autograd.grad(rule.block_loss(times, x, y), rule.readout.weight)[0].any()


def test_continuous_time_weighs_the_error_by_half_the_slope_of_the_signal_to_noise_ratio():
    x, y = batch()
    rule = NoProp(network(), variant="continuous", eta=2.0)
    times, u = torch.linspace(0, 1, 32), F.one_hot(y, 3).float()
    level = rule.noise.alpha_bar(times)[0][:, None]
    z = level.sqrt() * u + (1 - level).sqrt() * torch.randn(32, 3, generator=seeded(4))
    error = (rule.model[0](z, x, times).softmax(-1) - u).square().sum(1)
    expected = (0.5 * 2.0 * rule.noise.snr(times)[1] * error).mean()
    torch.testing.assert_close(rule.block_loss(times, x, y, seeded(4)), expected)


def test_the_radial_readout_is_the_posterior_of_gaussians_around_the_embeddings():
    rule = NoProp(network(), embedding=5, readout="radial")
    z = torch.randn(7, 5)
    normal = torch.distributions.Normal(rule.embedding, math.sqrt(0.1))
    expected = normal.log_prob(z[:, None]).sum(-1).log_softmax(-1)
    torch.testing.assert_close(rule.read_out(z), expected, rtol=1e-4, atol=1e-4)


# Locality


def test_no_autograd_edge_joins_two_blocks():
    x, y = batch()
    rule = NoProp(network(), steps=4, embedding=5)
    shared = set(rule.shared_parameters())
    for t in range(1, 5):
        assert graph_parameters(rule.block_loss(t, x, y)) <= set(rule.block_parameters(t)) | shared
    assert graph_parameters(rule.readout_loss(y)) <= shared


def test_a_blocks_gradient_does_not_depend_on_the_other_blocks():
    x, y = batch()
    rule = NoProp(network(), steps=3, embedding=5)

    def gradients():
        rule.zero_grad()
        torch.manual_seed(5)
        rule.assign_credit(x, y)
        return [p.grad.clone() for p in rule.block_parameters(2)]

    before = gradients()
    with torch.no_grad():
        for t in (1, 3):
            for p in rule.block_parameters(t):
                p.copy_(torch.randn_like(p))
    assert all(torch.equal(a, b) for a, b in zip(before, gradients()))


def test_backprop_through_the_chain_does_join_them():
    x, y = batch()
    chain = NoProp(network(), steps=3)
    Backprop(chain, F.cross_entropy).assign_credit(x, y)
    assert all(p.grad.abs().sum() > 0 for t in (1, 2, 3) for p in chain.model[t - 1].body.parameters())


# Prediction


def test_chain_with_the_true_embedding_ends_at_the_marginal():
    """û = u_y: z_T ~ N(√ᾱ_T u_y, 1 − ᾱ_T), from any z_0 ~ q(z_0|y)."""
    torch.manual_seed(0)
    rule = NoProp(lambda t, d: Given(lambda z, x: x), num_classes=3, steps=5, direct=True)
    u = torch.eye(3)[torch.randint(3, (20_000,))]
    z = rule.trajectory(u)[-1]
    rest = z - math.sqrt(float(rule.schedule.alpha_bar[-1])) * u
    assert rest.mean().abs() < 1e-3
    assert rest.std().item() == pytest.approx(math.sqrt(1 - float(rule.schedule.alpha_bar[-1])), rel=0.05)
    clean = rule.trajectory(u, noise=False)[-1]
    torch.testing.assert_close(clean, u, atol=0.02, rtol=0)


def test_probability_flow_with_the_exact_denoiser_ends_at_the_classes():
    z = torch.randn(2000, generator=seeded(), dtype=torch.float64)
    steps = 1000
    schedule = LearnedSchedule((math.log(1e-3 / 0.999), math.log(0.999 / 1e-3))).double()
    with torch.no_grad():
        for alpha_bar, slope in zip(*schedule.alpha_bar(torch.arange(steps, dtype=torch.float64) / steps)):
            z = z + flow_slope(torch.tanh(alpha_bar.sqrt() * z / (1 - alpha_bar)), z, alpha_bar, slope) / steps
    assert z.abs().mean().item() == pytest.approx(1.0, abs=0.005)
    assert (z.abs() - math.sqrt(0.999)).square().mean().sqrt().item() == pytest.approx(math.sqrt(0.001), rel=0.1)
    assert (z > 0).double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_flow_with_the_exact_velocity_arrives_in_one_step():
    u = torch.eye(3)[torch.tensor([2, 0, 1, 1])]
    rule = NoProp(lambda t, d: Given(lambda z, x, t: x - z), num_classes=3, steps=1, variant="flow")
    torch.testing.assert_close(rule.trajectory(u)[-1], u)
    loss = rule.block_loss(torch.zeros(4), u, u.argmax(1))
    torch.testing.assert_close(loss, F.cross_entropy(rule.readout(u), u.argmax(1)))


def test_log_probs_average_probabilities_and_the_quiet_chain_is_deterministic():
    x, _ = batch()
    rule = NoProp(network(), steps=3).eval()
    averaged = rule.log_probs(x, 4, seeded(2))
    generator = seeded(2)
    each = [rule.log_probs(x, 1, generator).exp() for _ in range(4)]
    torch.testing.assert_close(averaged.exp(), torch.stack(each).mean(0))
    torch.testing.assert_close(averaged.exp().sum(1), torch.ones(32))
    assert torch.equal(rule(x), rule(x))
    assert not torch.equal(rule.log_probs(x, 1), rule.log_probs(x, 1))


# Use


@pytest.mark.parametrize("variant", ["discrete", "continuous", "flow"])
@pytest.mark.parametrize(
    ("embedding", "readout"), [("one-hot", "linear"), (6, "linear"), (6, "radial"), ("prototypes", "radial")]
)
def test_every_combination_learns(variant, embedding, readout):
    torch.manual_seed(0)
    centres = 2 * torch.randn(3, 8)
    y = torch.arange(240) % 3
    x = centres[y] + 0.3 * torch.randn(240, 8)
    table = F.normalize(class_prototypes(x, y)) if embedding == "prototypes" else embedding
    steps = 2 if variant == "discrete" else 8
    rule = NoProp(network(), steps=steps, variant=variant, embedding=table, readout=readout)
    optimizer = torch.optim.Adam(rule.parameters(), lr=5e-3)
    for _ in range(70):
        optimizer.zero_grad()
        loss = rule.assign_credit(x, y)
        optimizer.step()
    assert math.isfinite(float(loss))
    rule.eval()
    with torch.no_grad():
        assert (rule(x).argmax(1) == y).double().mean() > 0.9
        assert (rule.log_probs(x, 3).argmax(1) == y).double().mean() > 0.85
    if embedding != "one-hot":  # the readout's loss keeps the classes apart
        assert torch.pdist(rule.embedding).min() > 0.1


def test_own_blocks_and_the_papers_convolutional_one():
    x, y = torch.randn(8, 1, 16, 16), torch.randint(4, (8,))
    for variant in ("discrete", "continuous"):
        rule = NoProp(
            lambda t, d, timed=variant != "discrete": DenoisingBlock((1, 16, 16), d, 4, channels=(4, 8), timed=timed),
            num_classes=4, steps=2, variant=variant,
        )  # fmt: skip
        rule.assign_credit(x, y)
        assert all(p.grad is not None for p in rule.model.parameters())
        assert rule.eval()(x).shape == (8, 4)


@pytest.mark.untyped
def test_class_prototypes_are_the_most_central_examples():
    torch.manual_seed(0)
    x, y = torch.randn(300, 2, 3), torch.randint(4, (300,))
    for label, prototype in enumerate(class_prototypes(x, y)):
        members = x[y == label].flatten(1)
        medians = [(members - m).norm(dim=1).median() for m in members]
        torch.testing.assert_close(prototype, members[int(torch.stack(medians).argmin())])
    with pytest.raises(ValueError, match="class 4"):
        class_prototypes(x, y, 5)
    with pytest.raises(TypeError, match="floating-point"):
        class_prototypes([[1.0]], y)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "dt"}, "variant"),
        ({"embedding": "prototype"}, "embedding"),
        ({"embedding": torch.zeros(2, 4)}, r"shape \[3, d\]"),
        ({"steps": 0}, "steps"),
        ({"eta": 0.0}, "eta"),
        ({"schedule": CosineSchedule(5)}, "steps=10"),
        ({"schedule": LearnedSchedule()}, "continuous"),
        ({"num_classes": 1}, "num_classes"),
    ],
)
def test_arguments_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        NoProp(network(), **options)


def test_targets_are_checked():
    rule = NoProp(network(), steps=2)
    x, _ = batch()
    with pytest.raises(ValueError, match="class indices"):
        rule.assign_credit(x, torch.rand(32))
    with pytest.raises(ValueError, match=r"0\.\.2"):
        rule.assign_credit(x, torch.full((32,), 3))
    with pytest.raises(ValueError, match="num_classes"):
        NoProp(lambda t, d: network())
    with pytest.raises(ValueError, match="step between 1 and 2"):
        rule.block_loss(3, x, torch.zeros(32, dtype=torch.long))
