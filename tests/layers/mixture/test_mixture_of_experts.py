"""Mixtures against a loop over tokens, by symmetry, by hand; padding and empty experts; sizes as released."""

import pytest
import torch
from torch import nn

from neurarium.layers import MLPKAN, MixtureOfExperts, kan_expert, mlp_expert
from neurarium.layers.mixture._routing import Routing, route_top_k
from neurarium.objectives import load_balance
from neurarium.training import saved_bytes

DOUBLE = {"dtype": torch.float64}


def experts(count: int = 4, width: int = 6) -> list[nn.Module]:
    torch.manual_seed(0)
    return [mlp_expert(width, 5, **DOUBLE) for _ in range(count)]


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), **DOUBLE)


def test_one_expert_is_that_expert_and_equal_experts_are_one() -> None:
    one, x = experts(1)[0], tokens(2, 7, 6)
    torch.testing.assert_close(MixtureOfExperts([one], 6, top_k=1)(x), one(x))
    torch.testing.assert_close(MixtureOfExperts([one, one, one], 6, top_k=3)(x), one(x))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_is_the_loop_over_tokens(k: int) -> None:
    layer, x = MixtureOfExperts(experts(), 6, top_k=k), tokens(3, 5, 6)
    expected = torch.zeros_like(x)
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(5)):
        token = x[tuple(place)]
        p = layer.gate(token).softmax(0)
        best = p.argsort(descending=True)[:k]
        for e in best:
            expected[tuple(place)] += p[e] / p[best].sum() * layer.experts[e](token)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x[0, 0]), expected[0, 0], rtol=0, atol=1e-12)


def test_gradients_reach_tokens_router_and_experts() -> None:
    layer, x = MixtureOfExperts(experts(3), 6), tokens(4, 6).requires_grad_()
    weight = layer.gate.weight

    def output(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"gate.weight": w}, (x,))

    assert torch.autograd.gradcheck(output, (x, weight.detach().clone().requires_grad_()))


@pytest.mark.parametrize("router", ["top_k", "soft"])
def test_order_of_tokens_and_of_experts_does_not_matter(router: str) -> None:
    parts = experts()
    layer, x = MixtureOfExperts(parts, 6, router, slots=2), tokens(3, 5, 6)
    moved = torch.randperm(5)
    torch.testing.assert_close(layer(x[:, moved]), layer(x)[:, moved])
    order = [2, 0, 3, 1]
    other = MixtureOfExperts([parts[i] for i in order], 6, router, slots=2)
    with torch.no_grad():
        rows = layer.gate.weight.unflatten(0, (4, -1))[order].flatten(0, 1)
        other.gate.weight.copy_(rows)
    torch.testing.assert_close(other(x), layer(x))


def test_soft_routing_by_hand() -> None:
    layer, x = MixtureOfExperts([nn.Identity()], 6, "soft", slots=3).double(), tokens(2, 5, 6)
    logits = x @ layer.gate.weight.t()
    expected = logits.softmax(2) @ (logits.softmax(1).mT @ x)
    torch.testing.assert_close(layer(x), expected)
    ones = MixtureOfExperts([nn.Identity(), nn.Identity()], 6, "soft").double()
    constant = torch.ones(2, 5, 6, **DOUBLE)
    torch.testing.assert_close(ones(constant), constant)  # both mixtures sum to 1


@pytest.mark.parametrize("router", ["top_k", "soft"])
def test_padding_changes_nothing_and_gets_nothing(router: str) -> None:
    layer, x = MixtureOfExperts(experts(), 6, router), tokens(3, 5, 6)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True], [True] * 5])
    output = layer(x, padding)
    assert (output[padding] == 0).all()
    torch.testing.assert_close(output[0], layer(x[:1])[0])
    torch.testing.assert_close(output[1, :2], layer(x[1:2, :2])[0])
    torch.testing.assert_close(layer(x.masked_fill(padding[..., None], torch.nan), padding), output)
    x.requires_grad_()
    layer(x, padding).square().sum().backward()
    assert (x.grad[padding] == 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_starved_experts_and_empty_batches_are_served() -> None:
    layer = MixtureOfExperts(experts(), 6, top_k=1)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.weight[2] = 1.0
    x = tokens(8, 6).abs()
    assert layer.route(x).shares().tolist() == [0, 0, 1, 0]
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())  # as data-parallel training wants it
    assert (layer.experts[0][0].weight.grad == 0).all()
    assert layer(x[:0]).shape == (0, 6)
    mixed = MLPKAN(6, 1, 1, top_k=1)
    with torch.no_grad():
        mixed.gate.weight.copy_(torch.stack([torch.ones(6), -torch.ones(6)]))
    mixed(x.float()).sum().backward()
    assert all(p.grad is not None for p in mixed.parameters())


def test_imbalance_is_1_for_equal_use_and_n_for_collapse() -> None:
    p = torch.full((8, 4), 0.25)
    even = Routing(p, torch.arange(8)[:, None] % 4, torch.ones(8, 1))
    assert float(even.imbalance()) == pytest.approx(1)
    alone = torch.zeros(8, 4)
    alone[:, 3] = 1
    assert float(Routing(alone, torch.full((8, 1), 3), torch.ones(8, 1)).imbalance()) == pytest.approx(4)


def test_the_penalty_evens_the_router_and_reaches_nothing_else() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), MixtureOfExperts(experts(), 6, balance=0.5)).double()
    layer, x = model[1], tokens(200, 6) + 1
    with torch.no_grad():
        layer.gate.weight[0] += 1.0
    model(x)
    before = load_balance(model)
    assert float(before.detach()) == pytest.approx(0.5 * float(layer.route(model[0](x)).imbalance().detach()))
    before.backward()
    assert model[0].weight.grad is None
    optimizer = torch.optim.SGD([layer.gate.weight], 1.0)
    for _ in range(50):
        optimizer.step()
        optimizer.zero_grad()
        model(x)
        load_balance(model).backward()
    assert float(before.detach()) > 0.6
    assert float(load_balance(model).detach()) < 0.52  # 0.5 is all alike
    with pytest.raises(ValueError, match="no mixture of experts with a balance"):
        load_balance(nn.Linear(2, 2))


def test_the_kan_expert_is_the_formula_written_out() -> None:
    expert, x = kan_expert(6, 3), tokens(4, 6).float()
    centres = torch.linspace(-2, 2, 8)
    value = x
    for norm, layer in ((expert[0], expert[1]), (expert[2], expert[3])):
        bumps = 1 - ((norm(value)[..., None] - centres) / 0.33).tanh().square()
        value = bumps.flatten(1) @ layer.coefficients.flatten(1).t()
    torch.testing.assert_close(expert(x), value)


def test_sizes_are_those_of_the_released_block() -> None:
    layer = MLPKAN(192)
    count = [sum(p.numel() for p in part.parameters()) for part in (*layer.experts, layer.gate)]
    assert count == [74_112] * 4 + [295_488] * 4 + [1_536]
    bounds = [float(e[1].coefficients.detach().abs().max()) for e in layer.experts[4:]]
    assert max(bounds) <= (6 / (192 * 8 + 96)) ** 0.5


def test_kan_experts_keep_no_functions_of_all_tokens() -> None:
    expert, x = kan_expert(32, 16), torch.randn(512, 32, requires_grad=True)
    values = 512 * (32 + 16) * 8 * 4
    assert saved_bytes(lambda: expert(x)) < values / 2


def test_ties_and_ranks_come_from_torch() -> None:
    found = route_top_k(torch.tensor([[0.0, 1.0, 1.0, -1.0]]), 2)
    assert sorted(found.chosen[0].tolist()) == [1, 2]
    torch.testing.assert_close(found.gates, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(1))


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="between 1 and the number of experts, 4, not 5"):
        MixtureOfExperts(experts(), 6, top_k=5)
    with pytest.raises(ValueError, match="expert 1 gives 5 numbers for a token of 6"):
        MixtureOfExperts([nn.Linear(6, 6), nn.Linear(6, 5)], 6)
    with pytest.raises(ValueError, match=r"expert 0 refuses a token \[1, 7\]"):
        MixtureOfExperts(experts(), 7)
    with pytest.raises(ValueError, match="router must be one of"):
        MixtureOfExperts(experts(), 6, "topk")
    with pytest.raises(ValueError, match="causal place"):
        MLPKAN(6, router="soft", causal=True)
    with pytest.raises(ValueError, match="balance is for top_k"):
        MLPKAN(6, router="soft", balance=0.1)
    with pytest.raises(ValueError, match="at least one module"):
        MLPKAN(6, 0, 0)
    with pytest.raises(ValueError, match="mixes sequences"):
        MixtureOfExperts(experts(), 6, "soft")(tokens(3, 6))
    with pytest.raises(ValueError, match="tokens must be 6 wide, not 5"):
        MixtureOfExperts(experts(), 6)(tokens(3, 5))
    with pytest.raises(ValueError, match="padding_mask must be"):
        MixtureOfExperts(experts(), 6)(tokens(3, 6), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="pass in training mode"):
        MixtureOfExperts(experts(), 6).penalty()
