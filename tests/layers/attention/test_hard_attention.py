"""Hard attention: the values of the best keys, and the gradient of softmax attention for what chose them."""

import torch

from neurarium.layers import HardAttention


def test_the_gradient_of_the_scores_is_that_of_softmax_attention() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key, value, weight = (torch.randn(n, 3, generator=draw, dtype=torch.float64) for n in (2, 4, 4, 2))
    found = []
    for attend in (HardAttention(), lambda q, k, v: (q @ k.mT).softmax(-1) @ v):
        q = query.clone().requires_grad_()
        (attend(q, key, value) * weight).sum().backward()
        found.append(q.grad)
    torch.testing.assert_close(found[0], found[1])


def test_ties_share() -> None:
    key = torch.tensor([[1.0, 0.0], [1.0, 5.0], [0.0, 0.0]])
    value = torch.tensor([[2.0], [4.0], [100.0]])
    assert HardAttention()(torch.tensor([[1.0, 0.0]]), key, value).item() == 3.0
