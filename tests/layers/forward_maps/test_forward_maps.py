"""Forward maps: linear, at their limits what geometry says, and a projection as SciPy turns images."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import rotate
from torch.func import vmap

from neurarium.data import random_phantoms, shepp_logan
from neurarium.layers import (
    ParallelBeam,
    PixelMask,
    PointSamples,
    VolumeRendering,
    camera_rays,
    filtered_back_projection,
    pixel_grid,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(image: torch.Tensor) -> torch.Tensor:
    """An image as values of one channel at its pixels."""
    return image.flatten(-2)[..., None]


def test_projections_are_linear_in_the_image() -> None:
    beam, angles = ParallelBeam(9).double(), drawn(2, 4) * math.pi
    one, other = drawn(2, 81, 3), drawn(2, 81, 3, seed=1)
    torch.testing.assert_close(beam(2 * one - other, angles), 2 * beam(one, angles) - beam(other, angles))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [8, 9])
def test_no_turn_gives_the_columns_means_and_half_a_turn_mirrors_them(size: int, mode: str) -> None:
    image, beam = drawn(size, size), ParallelBeam(size, mode=mode).double()
    views = beam(column(image), torch.tensor([0.0, math.pi, math.pi / 2], dtype=torch.float64))[..., 0]
    torch.testing.assert_close(views[0], image.mean(0))
    torch.testing.assert_close(views[1], image.mean(0).flip(0))
    torch.testing.assert_close(views[2], image.mean(1).flip(0).flip(0))


def test_a_disc_gives_the_lengths_of_its_chords() -> None:
    size, radius = 101, 0.8
    grid = pixel_grid(size, size).double()
    disc = (grid.norm(dim=1) < radius).double()[:, None]
    views = ParallelBeam(size).double()(disc, drawn(6) * math.pi)[..., 0]
    at = grid[:size, 0]
    chord = (radius**2 - at.square()).clamp_min(0).sqrt()  # of 2, the side
    assert float((views - chord).abs().max()) < 0.04
    assert float((views - chord).abs().mean()) < 0.005


@pytest.mark.parametrize("degrees", [17.0, 90.0, 143.0])
def test_projections_are_those_of_scipy_turned_images(degrees: float) -> None:
    image = torch.from_numpy(shepp_logan(33).numpy().astype(np.float64))
    turned = rotate(image.numpy(), degrees, reshape=False, order=1)
    found = ParallelBeam(33).double()(column(image), torch.deg2rad(torch.tensor([degrees], dtype=torch.float64)))
    expected = turned.mean(0)
    assert np.abs(found[0, :, 0].numpy() - expected).max() < 2e-3


def test_many_views_give_the_image_back() -> None:
    images = random_phantoms(2, 48, oversampling=3, generator=torch.Generator().manual_seed(0))
    errors = []
    for views in (4, 16, 96):
        angles = (torch.arange(views) * math.pi / views).expand(2, -1)
        seen = ParallelBeam(48)(column(images), angles)[..., 0]
        errors.append(float((filtered_back_projection(seen, angles, 48) - images).square().mean().sqrt()))
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]
    back = filtered_back_projection(seen, angles, 48)
    assert float((back.mean((1, 2)) - images.mean((1, 2))).abs().max()) < 0.01
    assert errors[2] < 0.09


def test_maps_agree_with_themselves_under_vmap_and_are_differentiable_twice() -> None:
    beam, angles = ParallelBeam(6, 5).double(), drawn(3, 2)
    values = drawn(3, 36, 1).requires_grad_()
    torch.testing.assert_close(vmap(beam)(values, angles), beam(values, angles))
    assert torch.autograd.gradgradcheck(lambda v: beam(v, angles[0]).square(), values[0].detach().requires_grad_())
    rendering, rays = VolumeRendering(0, 1, 4), drawn(3, 2, 6)
    inside = drawn(3, 8, 4)
    torch.testing.assert_close(vmap(rendering)(inside, rays), rendering(inside, rays))


def test_a_mask_and_points_read_the_field_itself() -> None:
    grid = pixel_grid(3, 4).double()
    assert torch.equal(grid[5], torch.tensor([-0.25, 0.0]).double())  # second column of four, middle row of three
    mask, chosen = PixelMask(3, 4).double(), torch.tensor([[0, 5], [11, 2]])
    torch.testing.assert_close(mask.observe(lambda x: x.square(), chosen), grid[chosen].square())
    torch.testing.assert_close(PointSamples().observe(lambda x: 2 * x, grid), 2 * grid)


def test_a_ray_through_fog_sees_what_the_exponential_law_says() -> None:
    fog = torch.tensor([0.2, 0.4, 0.6, 0.9]).double()
    rays = torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2]]).double()
    for samples in (1, 7, 64):
        seen = VolumeRendering(1, 3, samples, background=1.0).observe(lambda x: fog.expand(*x.shape[:-1], 4), rays)
        left = torch.exp(-0.9 * 2 * rays[:, 5:])
        torch.testing.assert_close(seen, (1 - left) * fog[:3] + left)


def test_what_is_in_front_hides_what_is_behind() -> None:
    def field(x: torch.Tensor) -> torch.Tensor:
        near = (x[..., 2] < 2).to(x)
        return torch.stack((near, 1 - near, 0 * near, 0 * near + 1e4), -1)  # red, then green, opaque

    seen = VolumeRendering(1, 3, 8).observe(field, torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 4, 0, 0, -1.0]]))
    torch.testing.assert_close(seen, torch.tensor([[1.0, 0, 0], [0, 1, 0]]))


def test_each_ray_reads_its_own_place_and_the_background_is_behind_it() -> None:
    def field(x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x, torch.where(x[..., :1] > 0, 1e4, 0.0)), -1)  # coloured by place, opaque on the right

    rays = torch.tensor([[1, 2, 0, 0, 0, 1], [-1, 2, 0, 0, 0, 1], [3, 4, 0, 0, 0, 1.0]])
    seen = VolumeRendering(0, 1, 4, background=0.25).observe(field, rays)
    torch.testing.assert_close(seen, torch.tensor([[1, 2, 0.125], [0.25, 0.25, 0.25], [3, 4, 0.125]]))


def test_rays_of_a_camera_look_along_its_axis() -> None:
    pose = torch.tensor([[[1.0, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]]])
    rays = camera_rays(pose, 2.0, 3, 3)
    assert rays.shape == (1, 9, 6)
    torch.testing.assert_close(rays[0, 4], torch.tensor([5.0, 6, 7, 0, 0, -1]))
    torch.testing.assert_close(rays[0, 2, 3:], torch.tensor([0.5, 0.5, -1]))  # right and up


def test_errors_say_what_is_wrong() -> None:
    beam = ParallelBeam(4)
    with pytest.raises(ValueError, match="16 pixels"):
        beam(torch.rand(15, 1), torch.rand(2))
    with pytest.warns(UserWarning, match="radians"):
        beam(torch.rand(16, 1), torch.tensor([0.0, 45.0, 90.0]))
    with pytest.raises(ValueError, match="3 views but 2"):
        filtered_back_projection(torch.rand(3, 8), torch.rand(2), 8)
    with pytest.raises(ValueError, match="near"):
        VolumeRendering(2, 1)
    with pytest.raises(ValueError, match="six numbers"):
        VolumeRendering().points(torch.rand(2, 5))
    with pytest.raises(ValueError, match="mode"):
        ParallelBeam(4, mode="cubic")
