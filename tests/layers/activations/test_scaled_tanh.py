"""The hyperbolic tangent that is one at one."""

import torch

from neurarium.layers import ScaledTanh


def test_one_at_one_odd_and_its_slope():
    x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    y = ScaledTanh()(x)
    torch.testing.assert_close(y, torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=3e-4)
    (slope,) = torch.autograd.grad(y[1], x)
    assert abs(float(slope[1]) - 1.1438) < 1e-4
