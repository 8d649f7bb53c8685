"""The loss of supervised fine-tuning against a loop over the tokens that count."""

import pytest
import torch

from neurarium.objectives import response_labels, response_loss


def test_only_the_response_counts():
    tokens = torch.randint(7, (3, 6))
    logits = torch.randn(3, 6, 7)
    starts, ends = torch.tensor([2, 3, 1]), torch.tensor([5, 6, 2])
    scores = logits.log_softmax(-1)
    counted = [-scores[b, t - 1, tokens[b, t]] for b in range(3) for t in range(int(starts[b]), int(ends[b]))]
    found = response_loss(logits, response_labels(tokens, starts, ends))
    torch.testing.assert_close(found, torch.stack(counted).mean())
    assert len(counted) == 7


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        response_labels(torch.zeros(1, 3, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="no token that counts"):
        response_loss(torch.zeros(1, 3, 2), torch.full((1, 3), -100))
