"""One answer from many heads: by hand and by brute force."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from neurarium.objectives import best_head, combine, head_accuracies, heads_loss


def test_ties_of_votes_go_to_the_smaller_class():
    outputs = one_hot(torch.tensor([2, 1, 1, 2]), 4).float()[:, None]
    assert combine(outputs).argmax(-1).item() == 1
    assert combine(outputs)[0].tolist() == [0, 2, 2, 0]


def test_rules_by_brute_force():
    outputs = torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(0))
    rank = torch.zeros(40, 5)
    for h in range(3):
        for b in range(40):
            order = sorted(range(5), key=lambda c: -float(outputs[h, b, c]))
            for place, c in enumerate(order, start=1):
                rank[b, c] += 1 / place
    torch.testing.assert_close(combine(outputs, "rank"), rank)
    logs = sum(head.log_softmax(-1) for head in outputs)
    assert torch.equal(combine(outputs, "product").argmax(-1), logs.argmax(-1))
    torch.testing.assert_close(combine(outputs, "probability").sum(-1), torch.ones(40))
    alone = combine(outputs, "weighted", [0.0, 1.0, 0.0])
    assert torch.equal(alone.argmax(-1), outputs[1].argmax(-1))
    torch.testing.assert_close(combine(outputs, "weighted", torch.ones(3)), combine(outputs))


def test_the_joint_loss_is_the_mean_of_the_heads():
    outputs, y = torch.randn(3, 7, 4), torch.randint(4, (7,))
    alone = torch.stack([cross_entropy(head, y) for head in outputs])
    torch.testing.assert_close(heads_loss(outputs, y), alone.mean())
    torch.testing.assert_close(heads_loss(outputs, y.int(), "sum"), alone.sum())


class Heads(nn.Module):
    def forward(self, x):
        return torch.stack([x, -x, x.roll(1, -1)])


def test_the_best_head_is_the_one_that_is_right_most_often():
    x = torch.randn(50, 3)
    y = (-x).argmax(-1)
    loader = [(x[:20], y[:20]), (x[20:], y[20:])]
    found = head_accuracies(Heads(), loader)
    assert found[1] == 1
    torch.testing.assert_close(found[0], (x.argmax(-1) == y).float().mean())
    assert best_head(Heads(), loader) == 1


@pytest.mark.untyped
def test_refusals():
    outputs = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="how must be"):
        combine(outputs, "median")
    with pytest.raises(ValueError, match="weights must be given"):
        combine(outputs, "weighted")
    with pytest.raises(ValueError, match="weights must be given"):
        combine(outputs, "vote", [1, 1])
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        combine(outputs, "weighted", [1, 1, 1])
    with pytest.raises(ValueError, match=r"outputs must be \[heads, 5, classes\]"):
        heads_loss(outputs, torch.zeros(5))
    with pytest.raises(ValueError, match="reduction"):
        heads_loss(outputs, torch.zeros(3), "none")
    with pytest.raises(ValueError, match="no batches"):
        best_head(Heads(), [])
