"""DeepONet against operators that it holds exactly, its parts by hand, a loop of networks, and finite differences."""

import pytest
import torch
from torch import nn

from neurarium.data import antiderivative, gaussian_field
from neurarium.models import KAN, DeepONet, PODTrunk, StackedBranch, place_gradient

DOUBLE = {"dtype": torch.float64}


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def net(**options) -> DeepONet:
    torch.manual_seed(0)
    return DeepONet.mlp(7, 2, 5, activation="tanh", **options, **DOUBLE)


class TrapezoidWeights(nn.Module):
    """What each of ``m`` even sensors counts in the integral up to a place, for functions straight between them."""

    def __init__(self, sensors: int) -> None:
        super().__init__()
        fine, nodes = torch.linspace(0, 1, (sensors - 1) * 8 + 1, **DOUBLE), torch.linspace(0, 1, sensors, **DOUBLE)
        self.hats = (1 - (fine - nodes[:, None]).abs() * (sensors - 1)).clamp_min(0)  # a hat on every sensor

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        up_to = antiderivative(self.hats)
        return up_to[:, (y[..., 0] * (up_to.shape[1] - 1)).round().long()].movedim(0, -1)


def test_the_antiderivative_of_straight_pieces_is_exact() -> None:
    m = 11
    u = gaussian_field(6, points=m, generator=torch.Generator().manual_seed(0), **DOUBLE)
    model = DeepONet(nn.Identity(), TrapezoidWeights(m), bias=False)
    y = torch.linspace(0, 1, m, **DOUBLE)[:, None]
    torch.testing.assert_close(model(u, y, aligned=True)[..., 0], antiderivative(u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", [None, "both", "branch", "trunk", "independent"])
def test_shared_places_own_places_and_one_place_agree(split) -> None:
    model = net(outputs=3 if split else 1, split=split)
    u, y = draws(4, 7), draws(6, 2, seed=1)
    shared = model(u, y)
    assert shared.shape == (4, 6, 3 if split else 1)
    torch.testing.assert_close(model(u, y.expand(4, -1, -1)), shared)
    for place in range(6):
        one = model(u, y[place].expand(4, -1), aligned=False)
        torch.testing.assert_close(one, shared[:, place])


def test_it_is_the_sum_over_products() -> None:
    model = net()
    with torch.no_grad():
        model.bias.fill_(0.7)
    u, y = 9 * draws(3, 7), 9 * draws(5, 2, seed=1)
    b, t = model.branches[0](u), model.trunks[0](y)
    by_hand = [[sum((b[i, k] * t[j, k]).item() for k in range(5)) + 0.7 for j in range(5)] for i in range(3)]
    torch.testing.assert_close(model(u, y)[..., 0], torch.tensor(by_hand, **DOUBLE))
    assert float(t.detach().abs().max()) <= 1, "the trunk's last layer is activated"
    assert float(b.detach().abs().max()) > 1, "the branch's last layer is not"


def test_splits_share_what_they_say() -> None:
    u, y = draws(3, 7), draws(4, 2, seed=1)
    both, branch, trunk = (net(outputs=2, split=split) for split in ("both", "branch", "trunk"))
    b, t = both.branches[0](u), both.trunks[0](y)
    assert b.shape[1] == t.shape[1] == 10
    torch.testing.assert_close(both(u, y)[..., 1], b[:, 5:] @ t[:, 5:].mT)
    torch.testing.assert_close(branch(u, y)[..., 1], branch.branches[0](u)[:, 5:] @ branch.trunks[0](y).mT)
    torch.testing.assert_close(trunk(u, y)[..., 1], trunk.branches[0](u) @ trunk.trunks[0](y)[:, 5:].mT)
    splits = ("both", "branch", "trunk", "independent")
    count = {split: sum(p.numel() for p in net(outputs=2, split=split).parameters()) for split in splits}
    hidden_b, hidden_t, last = 7 * 5 + 5, 2 * 5 + 5, 5 * 5 + 5
    assert count["both"] == hidden_b + hidden_t + 4 * last + 2
    assert count["branch"] == count["trunk"] == hidden_b + hidden_t + 3 * last + 2
    assert count["independent"] == 2 * (hidden_b + hidden_t + 2 * last) + 2


def test_the_papers_size_and_its_stacked_form() -> None:
    assert sum(p.numel() for p in DeepONet.mlp(100).parameters()) == 7401
    branch = DeepONet.mlp(7, 2, 5, stacked=True, activation="tanh", **DOUBLE).branches[0]
    with torch.no_grad():
        branch.bias.normal_()
        branch.out_bias.normal_()
    u, loop = draws(4, 7), []
    for k in range(5):
        one = nn.Sequential(nn.Linear(7, 5, **DOUBLE), nn.Tanh(), nn.Linear(5, 1, **DOUBLE))
        with torch.no_grad():
            one[0].weight.copy_(branch.weight[5 * k : 5 * k + 5])
            one[0].bias.copy_(branch.bias[5 * k : 5 * k + 5])
            one[2].weight.copy_(branch.out_weight[k][None])
            one[2].bias.copy_(branch.out_bias[k : k + 1])
        loop.append(one(u))
    torch.testing.assert_close(branch(u), torch.cat(loop, 1))


def test_glorots_weights_have_the_right_size() -> None:
    torch.manual_seed(0)
    branch = StackedBranch(400, 300, 20)
    assert float(branch.weight.std()) == pytest.approx((2 / 700) ** 0.5, rel=0.02)
    assert float(branch.out_weight.std()) == pytest.approx((2 / 301) ** 0.5, rel=0.05)


@pytest.mark.parametrize("aligned", [True, False])
def test_derivatives_at_places_are_finite_differences(aligned: bool) -> None:
    model, u = net(outputs=2, split="both"), draws(3, 7)
    y = (draws(4, 2, seed=1) if aligned else draws(3, 4, 2, seed=1)).requires_grad_()
    s = model(u, y)
    first = place_gradient(s, y)
    assert first.shape == (3, 4, 2, 2)
    second = place_gradient(first[..., 1], y)[..., 1]
    step = torch.tensor([0.0, 1e-4], **DOUBLE)
    with torch.no_grad():
        up, down = model(u, y + step), model(u, y - step)
    torch.testing.assert_close(first[..., 1], (up - down) / 2e-4, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(second, (up + down - 2 * s) / 1e-8, rtol=1e-4, atol=1e-6)
    first.square().sum().backward()  # a loss that holds an equation trains the network
    assert all(p.grad is not None for p in model.branches.parameters())


def test_sensors_may_be_permuted_with_the_first_weights() -> None:
    model, u, y = net(), draws(3, 7), draws(4, 2, seed=1)
    before, order = model(u, y), torch.randperm(7)
    with torch.no_grad():
        model.branches[0][0].weight.copy_(model.branches[0][0].weight[:, order])
    torch.testing.assert_close(model(u[:, order], y), before)


def test_a_transform_has_the_last_word() -> None:
    torch.manual_seed(0)
    zero_at_start = DeepONet(nn.Linear(7, 5), nn.Linear(1, 5), transform=lambda u, y, s: y * s)
    s = zero_at_start(torch.randn(3, 7), torch.tensor([[0.0], [1.0]]))
    assert not s[:, 0].any()
    assert s[:, 1].all()


def test_components_hold_answers_of_low_rank() -> None:
    y, shapes = torch.linspace(0, 1, 9, **DOUBLE)[:, None], draws(3, 9)
    answers = draws(20, 3, seed=1) @ shapes + 2
    trunk = PODTrunk(answers, y, 3)
    torch.testing.assert_close(trunk(y).mT @ trunk(y), 9 * torch.eye(3, **DOUBLE))

    class Project(nn.Module):
        def forward(self, u):
            return (u - trunk.mean) @ trunk.components / 9

    model = DeepONet(Project(), trunk, bias=False, transform=trunk.add_mean)
    torch.testing.assert_close(model(answers, y)[..., 0], answers)
    torch.testing.assert_close(model(answers[:6], y[3:8].flip(0))[..., 0], answers[:6, 3:8].flip(1))
    torch.testing.assert_close(model(answers[:5], y.expand(5, -1, -1))[..., 0], answers[:5])
    with pytest.raises(ValueError, match="training's places alone"):
        trunk(y + 0.03)
    with pytest.raises(ValueError, match="width must be between 1 and 9, not 10"):
        PODTrunk(answers, y, 10)


def test_any_modules_will_do() -> None:
    torch.manual_seed(0)
    images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 6))
    model = DeepONet(images, KAN([2, 3, 6]))
    model(torch.randn(5, 1, 6, 6), torch.rand(4, 2)).sum().backward()
    assert all(p.grad is not None for p in images.parameters())


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    model = net()
    with pytest.raises(ValueError, match="u must have 7 sensors, not 6"):
        model(draws(3, 6), draws(4, 2))
    with pytest.raises(ValueError, match="y must have 2 coordinates, not 1"):
        model(draws(3, 7), draws(4, 1))
    with pytest.raises(ValueError, match="branch gives 4 numbers and trunk 5"):
        DeepONet(nn.Linear(7, 4), nn.Linear(1, 5))(torch.randn(3, 7), torch.randn(2, 1))
    with pytest.raises(ValueError, match="u has 4 functions and y 4 places: say aligned=True"):
        model(draws(4, 7), draws(4, 2))
    with pytest.raises(ValueError, match="does not hold places for 3 functions with aligned=False"):
        model(draws(3, 7), draws(4, 2), False)
    with pytest.raises(ValueError, match="split must say how 2 outputs"):
        DeepONet.mlp(7, outputs=2)
    with pytest.raises(ValueError, match="split is for several"):
        DeepONet.mlp(7, split="both")
    with pytest.raises(ValueError, match="branch must be 2 modules, not 1"):
        DeepONet(nn.Linear(7, 4), nn.Linear(1, 4), outputs=2, split="independent")
    with pytest.raises(ValueError, match="branch gives 5 numbers, which 2 outputs cannot share"):
        DeepONet(nn.Linear(7, 5), nn.Linear(1, 5), outputs=2, split="branch")(torch.randn(3, 7), torch.randn(2, 1))
    with pytest.raises(ValueError, match="activation must be one of"):
        DeepONet.mlp(7, activation="reul")
    with pytest.raises(ValueError, match="y must require gradients"):
        place_gradient(model(draws(3, 7), draws(4, 2)), draws(4, 2))


def test_it_is_deepxdes_with_the_same_weights(monkeypatch) -> None:
    monkeypatch.setenv("DDE_BACKEND", "pytorch")
    deepxde = pytest.importorskip("deepxde")
    peer = deepxde.nn.DeepONetCartesianProd([7, 5, 5], [2, 5, 5], "tanh", "Glorot normal")
    model = DeepONet.mlp(7, 2, 5, activation="tanh")
    with torch.no_grad():
        for ours, theirs in ((model.branches[0], peer.branch), (model.trunks[0], peer.trunk)):
            for mine, other in zip([m for m in ours if isinstance(m, nn.Linear)], theirs.linears, strict=True):
                mine.weight.copy_(other.weight)
                mine.bias.copy_(other.bias)
        model.bias.fill_(0.3)
        for bias in peer.b.parameters():  # a list in newer versions
            bias.fill_(0.3)
    u, y = draws(4, 7).float(), draws(6, 2, seed=1).float()
    torch.testing.assert_close(model(u, y)[..., 0], peer((u, y)).squeeze(-1), rtol=0, atol=1e-6)
