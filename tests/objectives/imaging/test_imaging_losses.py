"""Losses on images: overlap in closed form, correlation blind to contrast, members of several tasks."""

import pytest
import torch

from neurarium.objectives import imaging_loss, local_ncc_loss, soft_dice_loss


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_dice_of_equal_and_disjoint_masks() -> None:
    mask = torch.zeros(1, 1, 4, 6)
    mask[..., :3] = 1
    assert float(soft_dice_loss(mask, mask)) == 0
    assert float(soft_dice_loss(mask, 1 - mask)) == pytest.approx(1 - 1 / (2 * 12 + 1))
    half = soft_dice_loss(torch.cat((mask, mask)), torch.cat((mask, 1 - mask)), "none")
    torch.testing.assert_close(half, torch.tensor([0, 1 - 1 / 25]))


@pytest.mark.parametrize("window", [3, 5])
def test_local_correlation_is_that_of_every_window(window: int) -> None:
    p, q = drawn(2, 1, 7, 6), drawn(2, 1, 7, 6, seed=1)
    half, scores = window // 2, torch.zeros(2, dtype=torch.float64)
    for y in range(7):
        for x in range(6):
            rows = slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1)
            a, b = (t[:, 0][:, rows[0], rows[1]].flatten(1) for t in (p, q))
            a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
            scores += (a * b).mean(1).square() / (a.square().mean(1) * b.square().mean(1) + 1e-5) / 42
    torch.testing.assert_close(local_ncc_loss(p, q, window, "none"), 1 - scores)
    assert float(local_ncc_loss(p, 3 - 2 * p, window)) == pytest.approx(0, abs=5e-3)
    assert local_ncc_loss(drawn(1, 1, 4, 4, 4), drawn(1, 1, 4, 4, 4, seed=1), 3).dim() == 0


def test_each_member_has_its_own_loss() -> None:
    output, target = drawn(3, 1, 4, 4) - 0.5, drawn(3, 1, 4, 4, seed=1)
    found = imaging_loss(output, target, [True, False, False])
    dice = soft_dice_loss(output[:1].sigmoid(), target[:1])
    error = (output[1:] - target[1:]).square().mean() / 0.1
    torch.testing.assert_close(found, (dice + 2 * error) / 3)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="odd"):
        local_ncc_loss(drawn(1, 1, 4, 4), drawn(1, 1, 4, 4), 4)
    with pytest.raises(ValueError, match="reduction"):
        soft_dice_loss(drawn(1, 4), drawn(1, 4), "sum")
