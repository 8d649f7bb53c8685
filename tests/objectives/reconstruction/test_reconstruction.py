"""The reconstruction loss leaves missing entries out, wholly; its loader corrupts inputs and not targets."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, mse_loss

from neurarium.data import Arrays, Batches
from neurarium.objectives import ReconstructionBatches, reconstruction_loss


def test_without_gaps_it_is_the_mean_squared_error() -> None:
    output, target = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    torch.testing.assert_close(reconstruction_loss(output, target), mse_loss(output, target))
    p, t = output.sigmoid(), target.sigmoid()
    torch.testing.assert_close(reconstruction_loss(p, t, loss=binary_cross_entropy), binary_cross_entropy(p, t))


def test_missing_entries_have_no_share_and_no_gradient() -> None:
    target = torch.randn(4, 5)
    target[0, 1] = target[2, 3] = torch.nan
    output = torch.randn(4, 5)
    output[2, 3] = torch.nan  # whatever stands where nothing is known
    output.requires_grad_()
    loss = reconstruction_loss(output, target)
    known = ~target.isnan()
    torch.testing.assert_close(loss, (output[known] - target[known]).square().mean())
    loss.backward()
    assert output.grad is not None
    assert (output.grad[~known] == 0).all()
    assert (output.grad[known] != 0).all()


def test_a_mask_says_the_same_as_missing_entries() -> None:
    target, output = torch.randn(4, 5), torch.randn(4, 5)
    mask = torch.rand(4, 5) > 0.4
    gaps = target.masked_fill(~mask, torch.nan)
    torch.testing.assert_close(reconstruction_loss(output, target, mask), reconstruction_loss(output, gaps))
    assert reconstruction_loss(output, target, torch.zeros_like(mask)) == 0


def test_batches_corrupt_the_input_alone() -> None:
    x = torch.randn(600, 4)
    x[5, 2] = torch.nan
    arrays = Batches(Arrays(x, torch.zeros(600, dtype=torch.int64)), 200)
    generator = torch.Generator().manual_seed(0)
    for kind in ("gaussian", "masking", lambda x: x + 1):
        loader = ReconstructionBatches(arrays, kind, 0.3, generator)
        assert len(loader) == 3
        for _ in range(2):  # as often as it is passed over
            given, wanted = (torch.cat(parts) for parts in zip(*loader, strict=True))
            torch.testing.assert_close(wanted, x, equal_nan=True)
            change = (given - x.nan_to_num(nan=0.0)).abs()
            if kind == "gaussian":
                assert float((given - x.nan_to_num(nan=0.0)).std()) == pytest.approx(0.3, rel=0.1)
            elif kind == "masking":
                assert float((given == 0).float().mean()) == pytest.approx(0.3, abs=0.04)
                assert ((change == 0) | (given == 0)).all()
            else:
                torch.testing.assert_close(change, torch.ones_like(change))
    plain = next(iter(ReconstructionBatches([x[:7]])))[0]
    assert plain[5, 2] == 0


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="corrupt must be one of gaussian, masking"):
        ReconstructionBatches([], "gausian")
    with pytest.raises(ValueError, match="level must not be negative"):
        ReconstructionBatches([], "gaussian", -1)
    with pytest.raises(ValueError, match=r"reconstruction is \[2, 3\], but the input is \[3, 2\]"):
        reconstruction_loss(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="mask must have"):
        reconstruction_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, dtype=torch.bool))
