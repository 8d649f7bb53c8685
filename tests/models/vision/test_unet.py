"""U-Net: what is bent and what is not, and the overlap of regions."""

import pytest
import torch
from torch import nn

from neurarium.layers import DenseTransformer
from neurarium.models import UNet
from neurarium.probes import segmentation_scores


def test_any_depth_and_size():
    for channels in ((4, 6), (4, 6, 8)):
        assert UNet(2, 3, channels)(torch.randn(2, 2, 16, 12)).shape == (2, 3, 16, 12)
    with pytest.raises(ValueError, match="multiples of 4"):
        UNet(2, 3, (4, 6, 8))(torch.randn(1, 2, 16, 14))
    with pytest.raises(ValueError, match="two levels"):
        UNet(2, 3, (4,))


@pytest.mark.parametrize("level", [0, 1])
def test_a_warp_of_nothing_changes_nothing_and_one_of_something_does(level):
    torch.manual_seed(0)
    side = 16 // 2**level
    bent = UNet(1, 3, (4, 6, 8), DenseTransformer((4, 6)[level], (side, side)), level).eval()
    plain = UNet(1, 3, (4, 6, 8)).eval()
    plain.load_state_dict({k: v for k, v in bent.state_dict().items() if not k.startswith("transformer")})
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(bent(x), plain(x), rtol=1e-3, atol=1e-4)
    nn.init.normal_(bent.transformer.localisation[3].bias)
    assert not torch.allclose(bent(x), plain(x), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="level from 0 to 1"):
        UNet(1, 3, (4, 6, 8), DenseTransformer(8, (4, 4)), 2)


def test_overlaps_by_hand():
    labels = torch.tensor([[[0, 1], [1, 2]]])
    logits = nn.functional.one_hot(torch.tensor([[[0, 1], [2, 2]]]), 4).permute(0, 3, 1, 2).float()
    found = segmentation_scores(logits, labels)
    assert found.iou.tolist()[:3] == [1.0, 0.5, 0.5]
    assert bool(found.iou[3].isnan())
    assert found.mean_iou == pytest.approx(2 / 3)
    assert (found.accuracy, found.foreground_accuracy) == (0.75, pytest.approx(2 / 3))
    assert segmentation_scores(logits, labels, ignore=1).mean_iou == 1.0
    with pytest.raises(ValueError, match="no pixel counts"):
        segmentation_scores(logits, torch.ones_like(labels), ignore=1)
    with pytest.raises(ValueError, match="labels for"):
        segmentation_scores(logits, labels[:, :1])
