"""Partially observed neural processes: invariances, the textbook's conditional process, losses, test-time fits."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from neurarium.layers import ForwardMap, ParallelBeam, PixelMask, PointSamples, VolumeRendering, pixel_grid
from neurarium.models import PartiallyObservedNeuralProcess
from neurarium.objectives import np_elbo_loss, np_likelihood_loss


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def process(size: int = 5, **options) -> PartiallyObservedNeuralProcess:
    torch.manual_seed(0)
    return PartiallyObservedNeuralProcess(ParallelBeam(size), 2, size, width=16, heads=2, **options).eval()


VARIANTS = [{"aggregator": a, "latent": z} for a in ("attention", "mean") for z in (True, False)]


@pytest.mark.parametrize("options", VARIANTS)
def test_the_order_of_the_context_does_not_matter(options: dict) -> None:
    model, angles, views, asked = process(**options), drawn(3, 4), drawn(3, 4, 5, seed=1), drawn(3, 6, seed=2)
    order = torch.tensor([2, 0, 3, 1])
    one, other = model(angles, views, asked), model(angles[:, order], views[:, order], asked)
    torch.testing.assert_close(one.loc, other.loc)
    torch.testing.assert_close(one.scale, other.scale)
    assert one.loc.shape == (1, 3, 6, 5, 1)
    assert (one.prior is None) is not options["latent"]


@pytest.mark.parametrize("options", VARIANTS)
def test_readings_are_the_forward_map_of_the_field(options: dict) -> None:
    model, angles, views, asked = process(**options), drawn(3, 4), drawn(3, 4, 5, seed=1), drawn(3, 6, seed=2)
    loc, scale = model.field(angles, views)(pixel_grid(5, 5))
    found = model(angles, views, asked)
    torch.testing.assert_close(found.loc[0], model.forward_map(loc, asked))
    softened = nn.functional.softplus(model.forward_map(scale, asked), beta=100)
    torch.testing.assert_close(found.scale[0], 0.01 + 0.99 * softened)
    assert model.field(angles, views)(pixel_grid(11, 7))[0].shape == (3, 77, 1)
    assert ((loc >= 0) & (loc <= 1)).all()


def test_without_latent_and_with_the_mean_it_is_the_textbook_process() -> None:
    torch.manual_seed(0)
    model = PartiallyObservedNeuralProcess(
        PointSamples(), 1, 1, 1, width=16, heads=2, aggregator="mean", latent=False, bounded=False, frequencies=2.0
    )
    x, y, asked, truth = drawn(4, 5, 1), drawn(4, 5, 1, seed=1), drawn(4, 7, 1, seed=2), drawn(4, 7, 1, seed=3)
    codes = []
    for n in range(5):
        told = model.encode_sensor(x[:, n])
        codes.append(model.encode_reading(model.resize(told) + y[:, n]))
    r = torch.stack(codes).mean(0)
    nll = torch.zeros(4)
    for n in range(7):
        hidden = model.encode_point(asked[:, n]) + model.decoder.resize(r)
        hidden = model.decoder.layers(hidden)
        deviation = 0.01 + 0.99 * nn.functional.softplus(model.decoder.scale(hidden).sigmoid(), beta=100)
        nll = nll - Normal(model.decoder.loc(hidden), deviation).log_prob(truth[:, n])[:, 0]
    found = model(x, y, asked)
    torch.testing.assert_close(np_likelihood_loss(found.loc, found.scale, truth), nll.mean())


def test_a_trained_process_nears_the_posterior_of_a_gaussian_process() -> None:
    generator = torch.Generator().manual_seed(0)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((a - b.mT) / 0.6).square())

    def batch(count: int) -> tuple[Tensor, Tensor]:
        x = 4 * torch.rand(count, 16, 1, generator=generator) - 2
        root = torch.linalg.cholesky(kernel(x, x) + 1e-4 * torch.eye(16))
        return x, root @ torch.randn(count, 16, 1, generator=generator)

    torch.manual_seed(0)
    model = PartiallyObservedNeuralProcess(
        PointSamples(), 1, 1, 1, width=16, heads=2, latent=False, bounded=False, frequencies=1.5
    )
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(200):
        x, y = batch(16)
        found = model(x[:, :8], y[:, :8], x)
        optimizer.zero_grad()
        np_likelihood_loss(found.loc, found.scale, y).backward()
        optimizer.step()
    x, y = batch(64)
    seen, asked = x[:, :8], x[:, 8:]
    posterior = kernel(asked, seen) @ torch.linalg.solve(kernel(seen, seen) + 1e-3 * torch.eye(8), y[:, :8])
    with torch.no_grad():
        error = (model(seen, y[:, :8], asked).loc[0] - posterior).square().mean().sqrt()
    assert float(error) < 0.7 * float(posterior.square().mean().sqrt())


def test_samples_of_the_likelihood_are_joined_by_the_mean() -> None:
    loc, scale, y = drawn(3, 2, 4), drawn(3, 2, 4, seed=1) + 0.1, drawn(2, 4, seed=2)
    by_hand = Normal(loc, scale).log_prob(y).sum(2).exp().mean(0).log().mean()
    torch.testing.assert_close(np_likelihood_loss(loc, scale, y), -by_hand)
    one = np_likelihood_loss(loc[:1], scale[:1], y)
    torch.testing.assert_close(np_likelihood_loss(loc[:1].expand(5, -1, -1), scale[:1].expand(5, -1, -1), y), one)


def test_the_bound_is_the_likelihood_where_targets_are_the_context_and_below_it_elsewhere() -> None:
    model, angles, views = process().train(), drawn(3, 4), drawn(3, 4, 5, seed=1)
    found = model(angles, views, angles, targets=(angles, views))
    assert found.posterior is not None
    assert found.prior is not None
    y = views[..., None]
    bound = np_elbo_loss(found.loc, found.scale, y, found.posterior, found.prior)
    torch.testing.assert_close(bound, np_likelihood_loss(found.loc, found.scale, y))
    other = np_elbo_loss(found.loc, found.scale, y, (found.prior[0] + 1, found.prior[1]), found.prior)
    expected = bound + 0.5 * found.prior[1].pow(-2).sum(1).mean()
    torch.testing.assert_close(other, expected)


def test_samples_differ_in_training_and_evaluation_is_their_centre() -> None:
    model, angles, views = process(), drawn(3, 4), drawn(3, 4, 5, seed=1)
    assert torch.equal(model(angles, views, angles).loc, model(angles, views, angles).loc)
    many = model.train()(angles, views, angles, samples=4)
    assert many.loc.shape == (4, 3, 4, 5, 1)
    assert many.loc.std(0).min() > 0


def drawn_latents(model: PartiallyObservedNeuralProcess, *data: Tensor, **options) -> Tensor:
    """z [samples, batch, width] as the decoder gets it; without attention it gets nothing else of the signal."""
    given: list[Tensor] = []
    hook = model.decoder.register_forward_pre_hook(lambda _, args: given.append(args[1]))
    with torch.no_grad():
        model(*data, **options)
    hook.remove()
    return given[0][:, :, 0]


def test_in_training_the_latent_variable_is_drawn_given_the_targets() -> None:
    model = process(aggregator="mean").train()
    context, targets = (drawn(2, 3), drawn(2, 3, 5, seed=1)), (drawn(2, 8, seed=2), 1 + drawn(2, 8, 5, seed=3))
    found = model(*context, targets[0], targets=targets)
    assert found.prior is not None
    assert found.posterior is not None
    alone = model(*targets, targets[0])
    torch.testing.assert_close(found.posterior, alone.prior)
    torch.testing.assert_close(found.prior, model(*context, targets[0]).prior)
    apart = (found.posterior[0] - found.prior[0]).detach().abs().mean()
    assert float(apart) > 0.5  # else the two could not be told apart
    for options, (loc, scale) in (({"targets": targets}, found.posterior), ({}, found.prior)):
        z = drawn_latents(model, *context, targets[0][:, :1], samples=4000, **options)
        assert float(((z.mean(0) - loc) / scale).detach().abs().max()) < 5 / math.sqrt(4000)
        torch.testing.assert_close(z.std(0), scale.detach(), atol=0, rtol=0.06)
    seen, asked = context[1].requires_grad_(), targets[1].requires_grad_()
    model(context[0], seen, targets[0], targets=(targets[0], asked)).loc.sum().backward()
    assert seen.grad is None or not seen.grad.any()
    assert asked.grad is not None
    assert bool(asked.grad.abs().sum((1, 2)).gt(0).all())


def test_the_latent_deviation_runs_from_a_tenth_to_one() -> None:
    model, context = process(aggregator="mean").train(), (drawn(2, 3), drawn(2, 3, 5, seed=1))
    assert model.encode_latent is not None
    last = model.encode_latent[-1]
    raw = torch.linspace(-6, 6, 16)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.cat((torch.arange(16.0), raw))
    expected = 0.1 + 0.9 / (1 + torch.exp(-raw))
    prior = model(*context, context[0]).prior
    assert prior is not None
    torch.testing.assert_close(prior, (torch.arange(16.0).expand(2, -1), expected.expand(2, -1)))
    z = drawn_latents(model, *context, context[0][:, :1], samples=4000)
    torch.testing.assert_close(z.std(0), expected.expand(2, -1), atol=0, rtol=0.06)


@pytest.mark.parametrize("options", VARIANTS)
def test_a_test_time_fit_moves_each_signals_own_decoder_alone(options: dict) -> None:
    model, angles, views, grid = process(**options), drawn(2, 3), drawn(2, 3, 5, seed=1), pixel_grid(5, 5)
    before = copy.deepcopy(model.state_dict())
    torch.testing.assert_close(model.adapt(angles, views, 0)(grid), model.field(angles, views)(grid))
    found = model.adapt(angles, views, 6, lr=1e-2)(grid)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for n in range(2):
        alone, a, v = copy.deepcopy(model), angles[n : n + 1], views[n : n + 1]
        optimizer = torch.optim.Adam(alone.decoder.parameters(), 1e-2)
        losses = []
        for _ in range(6):
            seen = alone(a, v, a)
            loss = np_likelihood_loss(seen.loc, seen.scale, v[..., None])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        expected = alone.field(a, v)(grid)
        torch.testing.assert_close(found[0][n], expected[0][0], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found[1][n], expected[1][0], atol=1e-4, rtol=1e-3)


def test_more_deviation_of_the_field_is_more_deviation_of_the_readings() -> None:
    model, angles, views = process(), drawn(2, 3), drawn(2, 3, 5, seed=1)
    model(angles, views, angles).scale.sum().backward()
    assert float(model.decoder.scale.bias.grad) > 0


def test_pixels_and_rays_are_sensors_too() -> None:
    pixels = PartiallyObservedNeuralProcess(PixelMask(4, 4), 2, 1, width=8, heads=2)
    found = pixels(torch.tensor([[0, 5, 7]]), drawn(1, 3, 1), torch.arange(16)[None])
    assert found.loc.shape == (1, 1, 16, 1)
    scene = PartiallyObservedNeuralProcess(VolumeRendering(1, 2, 4), 12, 6, 3, 4, width=8, heads=2)
    rays = drawn(2, 3, 2, 6)  # three cameras of two rays each
    assert scene(rays, drawn(2, 3, 2, 3), rays).loc.shape == (1, 2, 3, 2, 3)


def test_readings_far_from_zero_are_standardised_and_all_layers_carry_them() -> None:
    views = 5 + 0.01 * drawn(40, 3, 5, seed=1)
    model, angles = process(latent=False, typical=views), drawn(40, 3)
    torch.testing.assert_close(model.centre, views.mean((0, 1)))
    shifted = process(latent=False, typical=views * 2 - 3)
    found, expected = shifted(angles, views * 2 - 3, angles), model(angles, views, angles)
    torch.testing.assert_close(found.loc, expected.loc, atol=1e-3, rtol=1e-3)
    same = angles[:1].expand(40, -1)
    told = model.field(same, views)(pixel_grid(5, 5))[0]
    plain = process(latent=False).field(same, views)(pixel_grid(5, 5))[0]
    assert float(told.std(0).mean()) > 20 * float(plain.std(0).mean())


@pytest.mark.parametrize("options", VARIANTS)
def test_fields_begin_away_from_the_ends_of_their_range(options: dict) -> None:
    torch.manual_seed(0)
    model = PartiallyObservedNeuralProcess(ParallelBeam(8), 2, 8, width=64, heads=4, **options)
    for values in model.field(drawn(16, 4), 2 * drawn(16, 4, 8, seed=1) - 1)(pixel_grid(8, 8)):
        assert float(values.min()) > 0.1
        assert float(values.max()) < 0.9


class Rounded(ForwardMap):
    """Cuts the graph."""

    def points(self, parameters: Tensor) -> Tensor:
        return parameters

    def forward(self, values: Tensor, parameters: Tensor) -> Tensor:
        return values.detach().round()


def test_errors_say_what_is_wrong() -> None:
    model = process()
    with pytest.raises(ValueError, match="at least one reading"):
        model(drawn(2, 0), drawn(2, 0, 5), drawn(2, 3))
    with pytest.raises(ValueError, match="reads 5 numbers, not 4"):
        model(drawn(2, 3), drawn(2, 3, 4), drawn(2, 3))
    with pytest.raises(ValueError, match="no gradient"):
        PartiallyObservedNeuralProcess(Rounded(), 2, 1, width=8, heads=2)(
            drawn(1, 3, 2), drawn(1, 3, 1), drawn(1, 3, 2)
        )
    with pytest.raises(ValueError, match="aggregator"):
        process(aggregator="sum")
    with pytest.raises(ValueError, match="multiple of heads"):
        PartiallyObservedNeuralProcess(ParallelBeam(4), 2, 4, width=10, heads=4)
    with pytest.warns(UserWarning, match="degrees"):
        process()(180 * drawn(2, 3), drawn(2, 3, 5), drawn(2, 3) / math.pi)
