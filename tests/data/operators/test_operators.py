"""Fields against their kernels, solvers against closed forms and scipy, examples against what they were made of."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from neurarium.data import (
    OperatorBatches,
    OperatorData,
    antiderivative,
    diffusion_reaction,
    gaussian_field,
    nonlinear_ode,
    operator_data,
    pendulum,
    polynomial_field,
    resample,
)

DOUBLE = {"dtype": torch.float64}


def grid(points: int) -> torch.Tensor:
    return torch.linspace(0, 1, points, **DOUBLE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [0.1, 0.3])
def test_a_gaussian_field_has_its_kernel(length: float) -> None:
    count, points = 20_000, 9
    u = gaussian_field(count, length, points, seeded(), **DOUBLE)
    kernel = torch.exp(-((grid(points)[:, None] - grid(points)) ** 2) / (2 * length**2))
    deviation = ((1 + kernel**2) / count).sqrt()  # of a product of two unit normals with this correlation
    assert float(((u.mT @ u / count - kernel).abs() / deviation).max()) < 4
    assert float(u.mean(0).abs().max()) < 4 / count**0.5
    torch.testing.assert_close(gaussian_field(3, length, 1000, seeded()), gaussian_field(3, length, 1000, seeded()))


def test_polynomials_are_sums_of_their_terms() -> None:
    x = grid(50)
    u = polynomial_field(300, 3, 2.0, 50, generator=seeded(), **DOUBLE)
    basis = torch.stack([torch.ones_like(x), 2 * x - 1, 2 * (2 * x - 1) ** 2 - 1], 1)
    coefficients = torch.linalg.lstsq(basis, u.mT).solution
    torch.testing.assert_close(basis @ coefficients, u.mT)
    assert 1.9 < float(coefficients.abs().max()) <= 2
    powers = polynomial_field(300, 3, 2.0, 50, "power", seeded(), **DOUBLE)
    found = torch.linalg.lstsq(torch.stack([x**0, x, x**2], 1), powers.mT).solution
    torch.testing.assert_close(found, coefficients)


def test_resampling_is_numpys_interpolation() -> None:
    places = torch.rand(3, 8, generator=seeded(), **DOUBLE).sort(1).values
    values, at = torch.randn(3, 8, generator=seeded(1), **DOUBLE), grid(21)
    expected = np.stack([np.interp(at, p, v) for p, v in zip(places.numpy(), values.numpy(), strict=True)])
    torch.testing.assert_close(resample(values, places, at), torch.from_numpy(expected))
    with pytest.raises(ValueError, match="ascending"):
        resample(values, places.flip(1), at)


def test_solvers_meet_closed_forms() -> None:
    x = grid(401)
    sine = torch.sin(2 * math.pi * x)[None]
    expected = (1 - torch.cos(2 * math.pi * x)) / (2 * math.pi)
    torch.testing.assert_close(antiderivative(sine)[0], expected, rtol=0, atol=1e-5)
    root = 1.5
    found = nonlinear_ode(torch.full((1, 401), root**2, **DOUBLE))[0]
    torch.testing.assert_close(found, root * torch.tanh(root * x), rtol=0, atol=1e-9)
    double = x / (2 * math.pi) - torch.sin(2 * math.pi * x) / (2 * math.pi) ** 2
    torch.testing.assert_close(pendulum(sine, k=0.0)[0], double, rtol=0, atol=1e-8)
    omega = 2 * math.pi  # at small angles s'' = -s + u: the convolution of u with sin
    linear = (omega * torch.sin(x) - torch.sin(omega * x)) / (omega**2 - 1) * 1e-4
    torch.testing.assert_close(pendulum(1e-4 * sine)[0], linear, rtol=0, atol=1e-11)


def test_a_rough_pendulum_is_scipys() -> None:
    u = 3 * gaussian_field(2, 0.1, 201, seeded(), **DOUBLE)
    x = grid(201).numpy()
    for force, s in zip(u.numpy(), pendulum(u, k=2.0), strict=True):
        found = solve_ivp(
            lambda t, z, force=force: [z[1], -2 * math.sin(z[0]) + np.interp(t, x, force)], (0, 1), [0, 0], t_eval=x,
            rtol=1e-8, atol=1e-10, max_step=0.005,
        )  # fmt: skip
        np.testing.assert_allclose(s, found.y[0], atol=2e-4)


def test_diffusion_alone_is_a_sine_and_with_reaction_scipys() -> None:
    x = grid(101)
    u = torch.stack([torch.sin(math.pi * x), torch.sin(3 * math.pi * x)])
    found = diffusion_reaction(u, diffusion=0.1, reaction=0.0, times=101)
    for i, wave in enumerate((1, 3)):
        rate = 0.1 * (wave * math.pi) ** 2
        expected = (1 - torch.exp(-rate * grid(101)))[:, None] / rate * u[i]
        torch.testing.assert_close(found[i], expected, rtol=0, atol=2e-4)
    u, n = 5 * gaussian_field(1, 0.2, 41, seeded(), **DOUBLE), 41
    got = diffusion_reaction(u, 0.05, 0.8, times=201)[0, -1, 1:-1].numpy()

    def rate_of(_, s):
        wide = np.pad(s, 1)
        return 0.05 * (wide[2:] - 2 * s + wide[:-2]) * (n - 1) ** 2 + 0.8 * s**2 + u[0, 1:-1].numpy()

    exact = solve_ivp(rate_of, (0, 1), np.zeros(n - 2), method="LSODA", rtol=1e-8, atol=1e-10).y[:, -1]
    np.testing.assert_allclose(got, exact, atol=2e-4 * np.abs(exact).max())


def test_examples_are_what_they_were_made_of() -> None:
    u = gaussian_field(5, 0.3, 41, seeded(), **DOUBLE)
    s = antiderivative(u)
    whole = operator_data(u, s, sensors=11)
    assert whole.aligned
    torch.testing.assert_close(whole.u, u[:, ::4])
    torch.testing.assert_close(whole.s[..., 0], s)
    some = operator_data(u, s, sensors=11, places=6, generator=seeded())
    assert not some.aligned
    index = (some.y[..., 0] * 40).round().long()
    torch.testing.assert_close(some.s[..., 0], s.gather(1, index))
    assert all(len(set(row.tolist())) == 6 for row in index), "no place twice"
    field = diffusion_reaction(u, times=7)
    plane = operator_data(u, field)
    row = 3 * 41 + 10  # the fourth time, the eleventh place
    torch.testing.assert_close(plane.y[row], torch.tensor([10 / 40, 3 / 6], **DOUBLE))
    torch.testing.assert_close(plane.s[:, row, 0], field[:, 3, 10])


def test_missing_answers_are_never_drawn() -> None:
    u, s = torch.randn(4, 3), torch.randn(4, 10)
    mask = torch.rand(4, 10, generator=seeded()) > 0.5
    mask[:, 0] = True
    mask[2, 1:] = False
    s[~mask] = math.nan
    data = OperatorData(u, torch.linspace(0, 1, 10)[:, None], s, mask)
    drawn = data.draw(4, seeded())
    assert torch.isfinite(drawn.s).all()
    assert (drawn.s[2] == s[2, 0]).all(), "one known place is repeated"
    rows_u, rows_y, rows_s = data.triples()
    assert len(rows_u) == len(rows_y) == len(rows_s) == int(mask.sum())
    assert torch.isfinite(rows_s).all()
    for (_, y, aligned), answers in OperatorBatches(data, 3):
        assert not aligned
        assert y.shape[1] == 1, "as many as the function with the fewest has"
        assert torch.isfinite(answers).all()


def test_batches_go_through_all_functions_and_draw_places_anew() -> None:
    u, y, s = torch.arange(10.0)[:, None].expand(-1, 3), torch.linspace(0, 1, 20)[:, None], torch.randn(10, 20)
    data = OperatorData(u, y, s)
    loader = OperatorBatches(data, 4, 5, shuffle=True, seed=3)
    first, second = list(loader), list(loader)
    assert len(first) == len(loader) == 3
    for passed in (first, second):
        assert torch.cat([x[0][:, 0] for x, _ in passed]).sort().values.tolist() == list(range(10))
    assert not torch.equal(first[0][0][1], second[0][0][1])
    again = next(iter(OperatorBatches(data, 4, 5, shuffle=True, seed=3)))
    torch.testing.assert_close(again[1], first[0][1])
    (_, places, aligned), answers = next(iter(OperatorBatches(data, 4)))
    assert aligned
    assert places is y
    torch.testing.assert_close(answers, s[:4, :, None])


def test_bad_data_are_named() -> None:
    u, y, s = torch.randn(3, 5), torch.rand(4, 1), torch.randn(3, 4)
    s[1, 2] = math.nan
    with pytest.raises(ValueError, match="not finite for function 1 at place 2"):
        OperatorData(u, y, s)
    with pytest.raises(ValueError, match=r"s must be \[3 functions, 4 places"):
        OperatorData(u, y, torch.randn(3, 5))
    with pytest.raises(ValueError, match=r"u must be one tensor .* resample\(\)"):
        OperatorData(torch.randn(3), y, s)
    with pytest.raises(ValueError, match="function 0 has no known answer"):
        OperatorData(u, y, s, torch.tensor([[False] * 4, [True, True, False, True], [True] * 4]))
    with pytest.raises(ValueError, match="length must be above 0, not 0"):
        gaussian_field(3, 0.0)
    with pytest.raises(ValueError, match="basis must be"):
        polynomial_field(3, basis="legendre")
    with pytest.raises(ValueError, match="places must be at least 1"):
        OperatorData(u, y, torch.randn(3, 4)).draw(0)
