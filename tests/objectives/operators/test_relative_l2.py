"""The share of the truth, by hand."""

import pytest
import torch

from neurarium.objectives import relative_l2


def test_it_is_a_share_of_each_functions_size() -> None:
    target = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    output = torch.tensor([[3.0, 3.0], [2.0, 2.0]])
    torch.testing.assert_close(relative_l2(output, target, reduction="none"), torch.tensor([0.2, 1.0]))
    torch.testing.assert_close(relative_l2(output, target), torch.tensor(0.6))
    torch.testing.assert_close(relative_l2(1000 * output, 1000 * target, reduction="sum"), torch.tensor(1.2))
    mask = torch.tensor([[True, False], [False, True]])
    output[0, 1] = float("nan")
    assert float(relative_l2(output, target, mask)) == 0


def test_what_has_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="target 1 is 0 everywhere"):
        relative_l2(torch.ones(2, 3), torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match=r"target's shape \[2, 3, 1\]"):
        relative_l2(torch.ones(2, 3), torch.ones(2, 3, 1))
    with pytest.raises(ValueError, match="reduction must be"):
        relative_l2(torch.ones(2, 3), torch.ones(2, 3), reduction="median")
