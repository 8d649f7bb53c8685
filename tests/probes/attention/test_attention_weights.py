"""Watched attention weights against torch's own, where it gives them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurarium.models import RotaryDecoder
from neurarium.probes import attention_weights


@pytest.mark.parametrize("causal", [False, True])
def test_weights_are_those_that_torch_gives_when_asked(causal: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(3, 5, 8)
    mask = torch.full((5, 5), -torch.inf).triu(1) if causal else None
    _, expected = attention(x, x, x, attn_mask=mask, average_attn_weights=False)
    found = attention_weights(lambda: attention(x, x, x, attn_mask=mask, need_weights=False, is_causal=causal))
    assert torch.allclose(found.maps[0], expected.mean(0), atol=1e-6)
    entropy = -(expected * expected.clamp_min(1e-30).log()).sum(-1).mean()
    assert found.entropies[0] == pytest.approx(entropy.item(), abs=1e-5)


def test_every_layer_is_seen_and_nothing_is_changed() -> None:
    torch.manual_seed(0)
    model, tokens = RotaryDecoder(11, 8, 2, 3), torch.randint(11, (2, 6))
    before = model(tokens)
    found = attention_weights(lambda: model(tokens))
    assert [m.shape for m in found.maps] == [(2, 6, 6)] * 3
    assert all(torch.allclose(m.sum(-1), torch.ones(2, 6)) and not m.triu(1).any() for m in found.maps)
    assert torch.equal(model(tokens), before)
    assert "2 heads, 6 queries on 6 keys" in found.summary()
    with pytest.raises(ValueError, match="did not call"):
        attention_weights(lambda: nn.Linear(2, 2)(torch.ones(2)))
