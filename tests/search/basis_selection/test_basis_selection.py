"""Selectable bases: limiting cases, what selection and pruning keep, a constructed case whose answer is known."""

import pytest
import torch
from torch import nn

from neurarium.layers import FourierBasis, KANLinear, RadialBasis, SelectableKANConv2d, SelectableKANLinear
from neurarium.layers.kan._kan_conv import KANConv2d
from neurarium.learning import Backprop
from neurarium.search import BasisSelection
from neurarium.training import fit


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def x_of(rows: int = 200, inputs: int = 4) -> torch.Tensor:
    return torch.randn(rows, inputs, dtype=torch.float64)


@pytest.mark.parametrize("gate", ["softmax", "gumbel"])
def test_a_pool_of_one_is_the_plain_layer(gate: str) -> None:
    pool = SelectableKANLinear(4, 3, ["radial"], gate=gate, dtype=torch.float64)
    plain = KANLinear(4, 3, basis="radial", scale=False, dtype=torch.float64)
    with torch.no_grad():
        plain.coefficients.copy_(pool.coefficients[0])
        plain.base_weight.copy_(pool.base_weight)
    x = x_of()
    torch.testing.assert_close(pool(x), plain(x), rtol=0, atol=1e-12)


def test_two_copies_of_a_basis_are_one_with_summed_gates() -> None:
    class Other(RadialBasis):
        pass

    layer = SelectableKANLinear(4, 3, [RadialBasis(6), Other(6)], gate="sigmoid", dtype=torch.float64)
    with torch.no_grad():
        layer.coefficients[1].copy_(layer.coefficients[0])
        layer.gate_logits.normal_()
        layer.gate_logits[:, 1] = layer.gate_logits[:, 0]
    x = x_of()
    output = layer(x)
    output.square().sum().backward()
    torch.testing.assert_close(layer.gate_logits.grad[:, 0], layer.gate_logits.grad[:, 1])
    one = layer._base(x) + layer.shares(x)[0] * layer.gates().sum(1)
    torch.testing.assert_close(output, one)


def test_all_bases_have_an_equal_spread_at_first() -> None:
    layer = SelectableKANLinear(64, 400, generator=torch.Generator().manual_seed(0))
    spreads = [float(share.detach().std()) for share in layer.shares(torch.randn(500, 64))]
    assert max(spreads) / min(spreads) < 1.25


def test_gates() -> None:
    layer = SelectableKANLinear(3, 5, gate="gumbel").train()
    assert torch.equal(layer.gates().sort(1).values, torch.tensor([0.0, 0, 0, 0, 1]).expand(5, 5))
    layer.eval()
    torch.testing.assert_close(layer.gates(), torch.full((5, 5), 0.2))
    assert SelectableKANLinear(3, 5, granularity="layer").gate_logits.shape == (1, 5)


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("granularity", ["node", "layer"])
def test_selection_and_pruning_keep_what_is_chosen(convolutional: bool, granularity: str) -> None:
    layer: nn.Module
    if convolutional:
        layer = SelectableKANConv2d(3, 7, 3, 2, 1, granularity=granularity, dtype=torch.float64)
        x = torch.randn(5, 3, 8, 8, dtype=torch.float64)
        one = 3 * 7 * 9
    else:
        layer = SelectableKANLinear(3, 7, granularity=granularity, dtype=torch.float64)
        x = torch.randn(50, 3, dtype=torch.float64)
        one = 3 * 7
    with torch.no_grad():
        layer.gate_logits.normal_()
    model = nn.Sequential(layer)
    selection = BasisSelection(model)
    expected = layer.gates() * torch.stack([s.transpose(0, 1).flatten(1).std(1) for s in layer.shares(x)], 1)
    if granularity == "layer":
        expected = expected.mean(0, keepdim=True).expand(7, -1)
    chosen = expected.argmax(1)
    with torch.no_grad():
        for a, coefficients in enumerate(layer.coefficients):
            coefficients[chosen != a] = 0
    before = model(x)
    selection.select(x)
    assert torch.equal(layer.choice, chosen)
    assert selection.change["0"] < 1e-10
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-10)
    full = count(model)
    selection.prune()
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-12)
    assert count(model) == one * (8 + 1) < full  # what a layer of one basis has
    with pytest.raises(ValueError, match="cannot come back"):
        selection.prune()


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD, torch.optim.LBFGS])
def test_the_optimizer_goes_on_with_the_kept_rows(make) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(SelectableKANLinear(2, 6), nn.Linear(6, 1))
    options = {"lr": 0.01} | ({"momentum": 0.9} if make is torch.optim.SGD else {})
    optimizer = make(model.parameters(), **options)
    x = torch.rand(60, 2) * 2 - 1
    y = torch.sin(3 * x[:, :1])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    selection = BasisSelection(model, optimizer=optimizer)
    selection.select(x)
    old = model[0]
    momenta = {p: dict(optimizer.state[p]) for p in old.coefficients} if make is torch.optim.Adam else {}
    rows = {name: (old.choice == a).nonzero().flatten() for a, name in enumerate(old.names)}
    by_name = dict(zip(old.names, old.coefficients, strict=True))
    selection.prune()
    own = {id(p) for p in model.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == own
    if momenta:
        for name, parameter in zip(model[0].names, model[0].coefficients, strict=True):
            kept = momenta[by_name[name]]["exp_avg"][rows[name]]
            assert torch.equal(optimizer.state[parameter]["exp_avg"], kept)
    first = float(closure().detach())
    for _ in range(5):
        optimizer.step(closure)
    assert float(closure().detach()) < first


def test_the_right_basis_is_found_where_it_is_known() -> None:
    """The target is a layer whose nodes use known bases; everything else is fixed at the truth."""
    torch.manual_seed(0)
    layer = SelectableKANLinear(3, 6, ["fourier", "chebyshev", "wavelet"], dtype=torch.float64)
    truth = torch.tensor([0, 1, 2, 2, 1, 0])
    with torch.no_grad():
        for coefficients in layer.coefficients:
            coefficients.normal_()
        layer.choice.copy_(truth)
        x = x_of(400, 3)
        y = layer(x)
        layer.choice.fill_(-1)
    optimizer = torch.optim.Adam([layer.gate_logits], 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(x), y).backward()
        optimizer.step()
    BasisSelection(layer).select(x)
    assert torch.equal(layer.choice, truth)


def test_as_a_callback_and_in_rounds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(SelectableKANLinear(2, 8), SelectableKANLinear(8, 1))
    x = torch.rand(64, 2)
    y = x.sum(1, keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    selection = BasisSelection(model, rounds=2, optimizer=optimizer, x=x, select_at=2, prune_at=8)
    settled = []
    fit(
        Backprop(model, nn.functional.mse_loss), [(x, y)], optimizer, epochs=10,
        callbacks=[selection, lambda step, loss: settled.append(len(selection.choices))],
    )  # fmt: skip
    assert settled[1] == 5
    assert settled[-1] == 9
    assert not any(isinstance(m, SelectableKANLinear) for m in model.modules())
    assert {c.layer for c in selection.choices} == {"0", "1"}
    assert all(0 <= c.margin <= 1 for c in selection.choices)


def test_a_kernel_of_one_place_is_the_linear_layer() -> None:
    conv, flat = SelectableKANConv2d(3, 4, 1), SelectableKANLinear(3, 4)
    with torch.no_grad():
        for a, b in zip(conv.coefficients, flat.coefficients, strict=True):
            a.copy_(b[..., None, None])
        conv.base_weight.copy_(flat.base_weight[..., None, None])
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(conv(x), flat(x.movedim(1, -1)).movedim(-1, 1))
    assert isinstance(KANConv2d(3, 4, 1)(x), torch.Tensor)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="different"):
        SelectableKANLinear(2, 2, ["fourier", FourierBasis(4), FourierBasis(6)])
    with pytest.raises(ValueError, match="gate"):
        SelectableKANLinear(2, 2, gate="hard")
    with pytest.raises(ValueError, match="nothing to act on"):
        BasisSelection(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="pool of one"):
        BasisSelection(SelectableKANLinear(2, 2, ["fourier"]))
    with pytest.raises(ValueError, match="call select first"):
        BasisSelection(nn.Sequential(SelectableKANLinear(2, 2))).prune()
