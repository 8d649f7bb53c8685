"""Complexity of functions against waves, polynomials and parities that are known, and of random networks."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.layers import GaussianBump, Sine
from neurarium.models import VariantMlp
from neurarium.probes import (
    boolean_complexity,
    function_complexity,
    generated_complexity,
    grid_complexity,
    random_weight_complexity,
)
from neurarium.probes.complexity._measures import chebyshev_coefficients, mean_degree, mean_frequency, walsh_degree

SIZE = 64
TURN = 2 * math.pi * torch.arange(SIZE, dtype=torch.float64) / SIZE
A, B = torch.meshgrid(TURN, TURN, indexing="ij")
LINE = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
X, Y = torch.meshgrid(LINE, LINE, indexing="ij")


@pytest.mark.parametrize("wave", [torch.cos(5 * A), torch.cos(3 * A + 4 * B), torch.cos(3 * A - 4 * B) + 7])
def test_one_wave_has_its_own_frequency(wave):
    assert mean_frequency(wave) == pytest.approx(5 / 45)


def test_two_waves_have_the_mean_of_theirs():
    assert mean_frequency(torch.cos(5 * A) + torch.sin(15 * B)) == pytest.approx(10 / 45)


def test_noise_constants_and_edges():
    noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    assert mean_frequency(noise) == pytest.approx(0.55, abs=0.02)
    assert math.isnan(mean_frequency(torch.full((SIZE, SIZE), 3.7).double()))
    found = grid_complexity(torch.stack([torch.cos(5 * A), torch.ones(SIZE, SIZE).double()]))
    assert (found.constant, found.frequency) == (1, pytest.approx(5 / 45))
    ramp = X + 0.3 * Y
    assert mean_frequency(ramp) > 0.14
    assert mean_frequency(ramp, "mirror") < mean_frequency(ramp, "hann") < 0.05
    assert grid_complexity(noise[None]).lempel_ziv == pytest.approx(1, abs=0.03)
    assert grid_complexity(ramp[None]).lempel_ziv < 0.4


def test_degree_of_a_product_of_chebyshev_polynomials():
    assert mean_degree((4 * X**3 - 3 * X) * (2 * Y**2 - 1) + 5) == pytest.approx(5 / 24)
    assert math.isnan(mean_degree(torch.ones(SIZE, SIZE).double()))


def test_coefficients_of_any_polynomial_come_back():
    wanted = np.random.default_rng(0).normal(size=(13, 13))
    values = np.polynomial.chebyshev.chebgrid2d(LINE.numpy(), LINE.numpy(), wanted)
    found = chebyshev_coefficients(torch.from_numpy(values))
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-8)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_parity_of_k_bits_has_degree_k(k):
    bits = (torch.arange(32)[:, None] >> torch.arange(5)) & 1
    assert walsh_degree(1 - 2 * (bits[:, :k].sum(1) % 2).double()) == pytest.approx(k / 5)


def test_and_of_two_bits_by_hand():
    # x y = (1 - s - t + s t) / 4 with s, t = 1 - 2 bit: two coefficients of degree 1 and one of degree 2, all alike
    assert walsh_degree(torch.tensor([0.0, 0, 0, 1])) == pytest.approx((1 + 1 + 2) / 3 / 2)

    class And(nn.Module):
        def forward(self, x):
            return (x.prod(1, keepdim=True)).double()

    assert boolean_complexity(And(), 2).degree == pytest.approx(2 / 3)


def test_a_homogeneous_network_is_as_complex_at_every_scale():
    model = nn.Sequential(
        *[m for a, b in ((2, 16), (16, 16), (16, 1)) for m in (nn.Linear(a, b, bias=False), nn.ReLU())]
    )
    model = model[:-1].double()
    sweeps = [
        random_weight_complexity(
            model, (-1, 1), [scale], samples=3, resolution=16, generator=torch.Generator().manual_seed(0)
        )
        for scale in (0.25, 1.0, 64.0)
    ]  # fmt: skip
    for sweep in sweeps[1:]:
        torch.testing.assert_close(sweep.frequency, sweeps[0].frequency, rtol=1e-9, atol=0)
        torch.testing.assert_close(sweep.lempel_ziv, sweeps[0].lempel_ziv, rtol=0, atol=0)


def test_samples_together_are_samples_alone_and_the_model_stays():
    model = VariantMlp(2, 1, 2, 8, Sine, norm=True)
    before = copy.deepcopy(model.state_dict())
    sweep = random_weight_complexity(
        {"a": model}, [(-1, 1), (0, 2)], [1.0, 8.0], samples=2, resolution=16, norm_scale=3.0,
        generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    draw = torch.Generator().manual_seed(5)
    state = {
        name: torch.full((2, *p.shape), 3.0) if "norms" in name and "weight" in name else p.detach().expand(2, *p.shape)
        if "norms" in name else (2 * torch.rand(2, *p.shape, generator=draw, dtype=torch.float64) - 1).float()
        for name, p in model.named_parameters()
    }  # fmt: skip
    other = copy.deepcopy(model)
    other.load_state_dict({name: tensor[1] for name, tensor in state.items()})
    alone = function_complexity(other, [(-1, 1), (0, 2)], resolution=16)
    assert float(sweep.frequency[0, 0, 1]) == pytest.approx(alone.frequency, rel=1e-4)
    assert float(sweep.degree[0, 0, 1]) == pytest.approx(alone.degree, rel=1e-4)


def test_rectifiers_stay_simple_and_others_do_not():
    models = {"relu": VariantMlp(depth=4, width=32), "tanh": VariantMlp(depth=4, width=32, activation=nn.Tanh),
              "gaussian": VariantMlp(depth=4, width=32, activation=GaussianBump)}  # fmt: skip
    sweep = random_weight_complexity(
        models, (-1, 1), [0.3, 10.0], samples=4, resolution=32, generator=torch.Generator().manual_seed(0)
    )
    small, large = sweep.frequency.nanmean(2).T
    assert abs(float(large[0] - small[0])) < 0.05
    assert float(large[1] - small[1]) > 0.1
    assert float(large[2]) > 0.45
    assert "relu" in sweep.summary()


def test_overflow_is_counted():
    model = VariantMlp(depth=6, width=32, gate=True)
    sweep = random_weight_complexity(
        model, (-1, 1), [1e9], samples=2, resolution=8, generator=torch.Generator().manual_seed(0)
    )
    assert float(sweep.overflowed.sum()) == 2
    assert bool(sweep.frequency.isnan().all())
    assert "overflowed" in sweep.summary()


def test_planes_of_many_inputs_stay_in_the_box():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x[:, :1] * 3 + x[:, 3:4]

    box = [(-1, 1), (0, 5), (2, 3), (-4, -1), (0, 1)]
    found = function_complexity(Watching(), box, resolution=8, planes=5, generator=torch.Generator().manual_seed(0))
    assert found.values.shape == (5, 8, 8)
    points = torch.cat(seen)
    low, high = torch.tensor(box).double().T
    assert bool((points >= low - 1e-9).all())
    assert bool((points <= high + 1e-9).all())


def test_texts_that_repeat_are_simple():
    class Says(nn.Module):
        def __init__(self, step):
            super().__init__()
            self.step = step

        def forward(self, tokens):
            return torch.nn.functional.one_hot((tokens * 5 + self.step) % 16, 16).double() * 50

    prompts = torch.arange(4)[:, None]
    constant = generated_complexity(Says(0), torch.zeros(2, 1, dtype=torch.long), 20)
    assert constant.tokens.unique().tolist() == [0]
    assert constant.mean == 5 / 20
    assert generated_complexity(Says(3), prompts, 20).mean > constant.mean
    drawn = [generated_complexity(Says(3), prompts, 9, top=4, generator=torch.Generator().manual_seed(1)) for _ in "12"]
    assert torch.equal(drawn[0].tokens, drawn[1].tokens)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: function_complexity(nn.Linear(2, 1), (-1, 1), resolution=4), "at least 8"),
        (lambda: function_complexity(nn.Linear(2, 3), (-1, 1)), "3 outputs"),
        (lambda: function_complexity(nn.Linear(2, 1), (1, -1)), "each low below"),
        (lambda: random_weight_complexity(nn.ReLU(), (-1, 1)), "no weight"),
        (lambda: boolean_complexity(nn.Linear(2, 1), 20), "between 1 and 16"),
        (lambda: generated_complexity(nn.Identity(), torch.zeros(0, 1, dtype=torch.long)), "must hold tokens"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_results_can_be_drawn():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    model = VariantMlp(width=8)
    sweep = {"scales": [0.5, 2.0], "samples": 2, "resolution": 8}
    for result in (
        function_complexity(model, (-1, 1), resolution=8), random_weight_complexity(model, (-1, 1), **sweep),
        random_weight_complexity({"a": model, "b": model}, (-1, 1), **sweep),
        generated_complexity(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5)), torch.ones(2, 1).long(), 9),
    ):  # fmt: skip
        figure, ax = pyplot.subplots()
        assert result.plot(ax) is ax
        figure.canvas.draw()
        pyplot.close(figure)
        assert len(result.summary()) > 20
