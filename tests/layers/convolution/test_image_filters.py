"""Fixed filters on images of which their answer is known."""

import pytest
import torch

from neurarium.layers import ImageFilters


def test_hats_and_edges_are_silent_on_a_flat_image():
    filters = ImageFilters(sizes=(5, 9))
    made = filters(torch.full((1, 2, 12, 12), 0.7))
    assert filters.maps == 7
    assert made.shape == (1, 14, 12, 12)
    torch.testing.assert_close(made[0, 0], torch.full((12, 12), 0.7))
    assert made[0, 1:7].abs().max() < 1e-6


def test_a_light_disc_excites_the_on_centre_hat_and_the_off_centre_is_its_negative():
    x, y = torch.arange(21) - 10, (torch.arange(21) - 10)[:, None]
    disc = (x**2 + y**2 <= 4).float()[None, None]
    on, off = ImageFilters(("hat",), (9,))(disc)[0]
    assert on[10, 10] > 0.5
    assert torch.equal(off, -on)


def test_edges_have_a_direction_and_the_slope_of_a_ramp():
    ramp = torch.arange(9.0).expand(9, 9)[None, None]
    across, down = ImageFilters(("edge",))(ramp)[0]
    torch.testing.assert_close(across[:, 1:-1], torch.ones(9, 7))
    assert down.abs().max() < 1e-6


def test_channels_and_images_without_a_channel_dimension():
    filters, x = ImageFilters(), torch.rand(3, 2, 10, 10)
    assert torch.equal(filters(x)[:, filters.maps :], filters(x[:, 1:]))
    assert torch.equal(filters(x[:, 0]), filters(x[:, :1]))
    assert not list(filters.parameters())


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="kinds must be some of raw"):
        ImageFilters(("colour",))
    with pytest.raises(ValueError, match="sizes must be odd"):
        ImageFilters(sizes=(4,))
    with pytest.raises(ValueError, match="images must be"):
        ImageFilters()(torch.zeros(3))
