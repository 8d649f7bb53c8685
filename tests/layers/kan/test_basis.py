"""Bases against scipy, closed forms and numerical derivatives."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from neurarium.layers import (
    Basis,
    BSplineBasis,
    ChebyshevBasis,
    FourierBasis,
    RadialBasis,
    ReLUPairBasis,
    SwitchBasis,
    WaveletBasis,
)

SMOOTH = [
    FourierBasis(6),
    ChebyshevBasis(5),
    RadialBasis(7),
    SwitchBasis(8, (-2.0, 2.0), 0.33),
    WaveletBasis(6),
    ReLUPairBasis(),
]


def spline(degree: int = 3, grid_size: int = 5, equal: bool = True) -> BSplineBasis:
    basis = BSplineBasis(3, grid_size, degree, dtype=torch.float64)
    if not equal:
        steps = torch.rand(3, basis.knots.shape[1], dtype=torch.float64) + 0.1
        basis.set_knots(steps.cumsum(1) / steps.sum(1, keepdim=True) * 6 - 3)
    return basis


def scipys(basis: BSplineBasis, x: torch.Tensor, derivative: bool = False) -> torch.Tensor:
    """All B-splines of each input by scipy, 0 outside their own knots."""
    k = basis.degree
    columns = np.zeros((*x.shape, basis.size))
    for i, knots in enumerate(basis.knots.numpy()):
        for m in range(basis.size):
            one = BSpline.basis_element(knots[m : m + k + 2], extrapolate=False)
            one = one.derivative() if derivative else one
            columns[:, i, m] = np.nan_to_num(one(x[:, i].numpy()))
    return torch.from_numpy(columns)


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5, 6])
def test_splines_are_scipys(degree: int, equal: bool) -> None:
    basis = spline(degree, 7, equal)
    assert basis.equal_intervals == equal
    x = torch.rand(200, 3, dtype=torch.float64) * 8 - 4
    torch.testing.assert_close(basis(x), scipys(basis, x), rtol=0, atol=1e-12)
    if degree >= 2:
        torch.testing.assert_close(basis.derivative(x), scipys(basis, x, derivative=True), rtol=0, atol=1e-10)


@pytest.mark.parametrize("degree", [1, 3, 6])
def test_splines_sum_to_one_inside_and_vanish_outside(degree: int) -> None:
    basis = spline(degree)
    x = torch.rand(100, 3, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(basis(x).sum(-1), torch.ones(100, 3, dtype=torch.float64))
    assert not basis(torch.full((1, 3), 1 + 0.4 * degree + 0.01, dtype=torch.float64)).any()


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_local_functions_are_those_that_differ_from_zero(degree: int, equal: bool) -> None:
    basis = spline(degree, 9, equal)
    x = torch.rand(3, 150, dtype=torch.float64) * 8 - 4
    first, values, slopes = basis.local(x)
    index = first[:, None] + torch.arange(degree + 1)[:, None]
    dense, dense_slopes = basis.columns_and_slopes(x)
    torch.testing.assert_close(torch.zeros_like(dense).scatter(1, index, values), dense, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.zeros_like(dense).scatter(1, index, slopes), dense_slopes, rtol=0, atol=1e-11)


@pytest.mark.parametrize("basis", [spline(), spline(equal=False), *SMOOTH], ids=lambda b: type(b).__name__)
def test_slopes_are_the_derivatives(basis: Basis) -> None:
    x = (torch.rand(4, 3, dtype=torch.float64) * 3 - 1.5).requires_grad_()
    assert torch.autograd.gradcheck(basis, (x,))
    values, slopes = basis.columns_and_slopes(x.t())
    torch.testing.assert_close(values, basis.columns(x.t()))
    torch.testing.assert_close(slopes, torch.func.jvp(basis.columns, (x.t(),), (torch.ones(3, 4).double(),))[1])


def test_closed_forms() -> None:
    x = torch.tensor([[0.3]], dtype=torch.float64)
    z = np.tanh(0.3)
    chebyshev = [np.cos(m * np.arccos(z)) for m in range(5)]
    assert ChebyshevBasis(5)(x).flatten().tolist() == pytest.approx(chebyshev, abs=1e-12)
    assert FourierBasis(4)(x).flatten().tolist() == pytest.approx([*np.cos([0.3, 0.6]), *np.sin([0.3, 0.6])])
    assert SwitchBasis(2, (0.0, 1.0), 0.5)(x).flatten().tolist() == pytest.approx(
        [1 - np.tanh(0.6) ** 2, 1 - np.tanh(1.4) ** 2]
    )
    assert RadialBasis(3)(x)[0, 0, 1] == pytest.approx(np.exp(-0.09))


def test_a_pair_of_relus_is_the_published_bump() -> None:
    """1 in the middle, 0 outside, ``(1 - ((x - c) / w)²)²`` between, w half the bump's width."""
    basis = ReLUPairBasis(grid_size=5, degree=3)
    lows = torch.arange(-3, 5, dtype=torch.float64) / 5
    centres, half = lows + 0.4, 0.4
    torch.testing.assert_close(
        basis(centres[:, None]).squeeze(1).diagonal(), torch.ones(8, dtype=torch.float64), rtol=1e-12, atol=0
    )
    x = torch.linspace(-1, 2, 301, dtype=torch.float64)
    offset = (x[:, None] - centres) / half
    bump = torch.where(offset.abs() < 1, (1 - offset**2) ** 2, 0.0)
    torch.testing.assert_close(basis(x[:, None]).squeeze(1), bump, rtol=0, atol=1e-12)


def test_what_cannot_be_is_refused() -> None:
    for arguments, name in [((2, 0), "grid_size"), ((2, 5, -1), "degree"), ((2, 5, 3, (1.0, -1.0)), "grid_range")]:
        with pytest.raises(ValueError, match=name):
            BSplineBasis(*arguments)
    with pytest.raises(ValueError, match="even"):
        FourierBasis(5)
    with pytest.raises(ValueError, match="width"):
        RadialBasis(4, width=-1.0)
