"""The product of bases and coefficients against the plain sum, along every path."""

import pytest
import torch
from torch import nn

from neurarium.layers import Basis, BSplineBasis, FourierBasis, KANConv2d, KANLinear, SwitchBasis, basis_linear
from neurarium.layers.kan import _basis_product


def plain(x: torch.Tensor, basis: Basis, weight: torch.Tensor) -> torch.Tensor:
    return torch.einsum("...im,oim->...o", basis(x), weight)


def unequal(grid_size: int) -> BSplineBasis:
    basis = BSplineBasis(5, grid_size, dtype=torch.float64)
    basis.set_knots((torch.rand(5, grid_size + 7, dtype=torch.float64) + 0.1).cumsum(1) / grid_size * 3 - 2)
    return basis


def given(basis: Basis, rows: tuple[int, ...] = (2, 30)) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(*rows, 5, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(4, 5, basis.size, dtype=torch.float64, requires_grad=True)


BASES = {
    "equal": lambda: BSplineBasis(5, dtype=torch.float64),
    "unequal": lambda: unequal(6),
    "fine": lambda: BSplineBasis(5, 60, dtype=torch.float64),
    "fine and unequal": lambda: unequal(60),
    "fourier": lambda: FourierBasis(6),
    "switch": lambda: SwitchBasis(8),
}


@pytest.mark.parametrize("block", [1, 7 * 40, 2**17])
@pytest.mark.parametrize("name", BASES)
def test_any_blocks_give_the_plain_sum_and_its_gradients(name: str, block: int, monkeypatch) -> None:
    monkeypatch.setattr(_basis_product, "BLOCK", block)
    basis = BASES[name]()
    x, weight = given(basis)
    assert _basis_product._use_local(x.flatten(0, 1), basis) == name.startswith("fine")
    target = torch.randn(2, 30, 4, dtype=torch.float64)
    ours, theirs = basis_linear(x, basis, weight), plain(x, basis, weight)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    for a, b in zip(
        torch.autograd.grad((ours * target).sum(), (x, weight)),
        torch.autograd.grad((theirs * target).sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_many_rows_are_cut_too(monkeypatch) -> None:
    monkeypatch.setattr(_basis_product, "BLOCK", 64)
    basis = BSplineBasis(5, dtype=torch.float64)
    x, weight = given(basis, (1300,))
    ours, theirs = basis_linear(x, basis, weight), plain(x, basis, weight)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    torch.testing.assert_close(
        torch.autograd.grad(ours.square().sum(), weight)[0], torch.autograd.grad(theirs.square().sum(), weight)[0]
    )


@pytest.mark.parametrize("name", ["equal", "unequal", "fine"])
def test_second_derivatives(name: str) -> None:
    """Physics-informed losses need them."""
    basis = BASES[name]()
    x, weight = given(basis, (3,))
    assert torch.autograd.gradcheck(lambda *a: basis_linear(a[0], basis, a[1]), (x, weight))
    assert torch.autograd.gradgradcheck(lambda *a: basis_linear(a[0], basis, a[1]), (x, weight))


def test_function_transforms() -> None:
    layer = KANLinear(5, 4, dtype=torch.float64)
    x = torch.randn(6, 5, dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (x,)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for i in range(6):
        one = torch.func.grad(loss)(parameters, x[i])
        torch.testing.assert_close(each["coefficients"][i], one["coefficients"])
    jacobian = torch.func.jacrev(layer)(x[0])
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(layer, x[0]))


class Powers(Basis):
    """A basis of somebody else's, with a trained parameter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.stretch = nn.Parameter(torch.tensor(0.7))

    def columns(self, x, inputs=slice(None)):
        return torch.stack([(self.stretch * x) ** m for m in range(self.size)], 1)


def test_a_basis_of_your_own_with_trained_parameters(monkeypatch) -> None:
    monkeypatch.setattr(_basis_product, "BLOCK", 100)
    basis = Powers(4).double()
    x, weight = given(basis)
    wanted = (x, weight, basis.stretch)
    ours = torch.autograd.grad(basis_linear(x, basis, weight).sin().sum(), wanted)
    theirs = torch.autograd.grad(plain(x, basis, weight).sin().sum(), wanted)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    basis.requires_grad_(False)
    torch.testing.assert_close(torch.autograd.grad(basis_linear(x, basis, weight).sin().sum(), x)[0], ours[0])


def test_half_precision_autocast_and_no_rows() -> None:
    layer = KANLinear(6, 3)
    x = torch.rand(50, 6) * 2 - 1
    exact = layer(x)
    for kind in (torch.bfloat16, torch.float16):
        half = layer.to(kind)
        assert half(x.to(kind)).dtype == kind
        torch.testing.assert_close(half(x.to(kind)).float(), exact, atol=0.05, rtol=0.05)
        layer.float()
    torch.testing.assert_close(layer(x), exact, atol=0.02, rtol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)
        assert output.dtype == torch.bfloat16
        output.float().sum().backward()
    assert layer.coefficients.grad.dtype == torch.float32
    assert layer(torch.empty(0, 6)).shape == (0, 3)


def test_only_input_and_weight_are_kept() -> None:
    layer = KANLinear(784, 64)
    own = {p.data_ptr() for p in layer.parameters()}
    kept = {}

    def pack(t):
        if t.data_ptr() not in own:
            kept[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = layer(torch.randn(256, 784, requires_grad=True))
    output.sum().backward()
    assert sum(kept.values()) < 5 * 2**20  # the values alone would be 6 MiB, their recursion 60


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2)])
def test_a_convolution_is_the_linear_layer_on_unfolded_maps(stride: int, padding: int, dilation: int) -> None:
    layer = KANConv2d(2, 3, 3, stride, padding, dilation, base_activation=None, dtype=torch.float64)
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64, requires_grad=True)
    maps = layer.basis(x.movedim(1, -1)).permute(0, 3, 4, 1, 2).flatten(1, 2)
    windows = nn.functional.unfold(maps, 3, dilation, padding, stride)
    theirs = (layer.coefficients.flatten(1) @ windows).view_as(layer(x))
    torch.testing.assert_close(layer(x), theirs)
    torch.testing.assert_close(
        torch.autograd.grad(layer(x).sin().sum(), (x, layer.coefficients)),
        torch.autograd.grad(theirs.sin().sum(), (x, layer.coefficients)),
    )


def test_a_kernel_of_one_place_is_the_linear_layer() -> None:
    conv, flat = KANConv2d(3, 4, 1, bias=True), KANLinear(3, 4, scale=False, bias=True)
    with torch.no_grad():
        flat.coefficients.copy_(conv.coefficients[..., 0, 0])
        flat.base_weight.copy_(conv.base_weight[..., 0, 0])
        conv.bias.copy_(flat.bias.normal_())
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(conv(x), flat(x.movedim(1, -1)).movedim(-1, 1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    basis = BSplineBasis(5)
    with pytest.raises(ValueError, match="5 inputs in its last dimension, not 4"):
        basis_linear(torch.zeros(2, 4), basis, torch.zeros(3, 5, 8))
    with pytest.raises(ValueError, match="8 coefficients an edge"):
        basis_linear(torch.zeros(2, 5), basis, torch.zeros(3, 5, 7))
