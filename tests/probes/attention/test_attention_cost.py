"""Counted costs against the paper's formulas and the parameters of a plain transformer."""

from __future__ import annotations

import pytest
import torch

from neurarium.models import RotaryDecoder, TLinFormer
from neurarium.probes import attention_cost
from neurarium.probes.attention._attention_cost import _count

WIDTH, LAYERS, HIDDEN = 16, 8, 48  # 8/3 of the width, rounded up to a multiple of 8


def decoder() -> RotaryDecoder:
    return RotaryDecoder(10, WIDTH, 2, LAYERS)


@pytest.mark.parametrize(("history_window", "window"), [(16, 16), (8, 32), (32, 8)])
def test_scores_are_those_of_the_papers_formulas(history_window: int, window: int) -> None:
    found = attention_cost(TLinFormer(decoder(), 4, history_window, window), (64, 128))
    for n, miss, hit in zip(found.lengths, found.miss_attention, found.hit_attention, strict=True):
        h, w, s = 2, window, history_window
        pairs = n * (2 * s + w) + h * (s * s + w * w + s * w) + w * w - s * w
        unneeded = (n - w) * s  # of the last block's history, which nothing reads
        assert miss == 4 * WIDTH * (2 * pairs - unneeded)
        # the paper's window attends anew in all its rows; with the window's keys kept, one row is left
        assert hit == 4 * WIDTH * 2 * (n - w + (h + 1) * s + (h + 2) * w)


def test_a_plain_decoder_costs_its_weights_and_all_pairs() -> None:
    found = attention_cost(decoder(), (32, 64), (32,))
    weights = LAYERS * (4 * WIDTH**2 + 3 * WIDTH * HIDDEN)
    for n, hit, attention, kept in zip(found.lengths, found.hit, found.hit_attention, found.cache_bytes, strict=True):
        assert attention == 4 * LAYERS * WIDTH * n
        assert hit == attention + 2 * weights + 2 * WIDTH * 10
        assert kept == 2 * LAYERS * n * WIDTH * 4
    assert found.amortised == found.hit
    assert found.training_attention == (4 * LAYERS * WIDTH * 32**2,)
    assert found.training[0] == found.training_attention[0] + 32 * (2 * weights + 2 * WIDTH * 10)
    assert found.exponents["hit_attention"] == pytest.approx(1)
    assert found.exponents["miss_attention"] == pytest.approx(2)


def test_the_average_is_that_of_every_token_of_a_window() -> None:
    model = TLinFormer(decoder(), 4, 4, 8)
    found = attention_cost(model, (32,))
    ghost, total = TLinFormer(decoder(), 4, 4, 8).to("meta"), 0
    cache = ghost.empty_cache()
    for n in range(25, 33):
        text = torch.zeros(1, n, dtype=torch.long, device="meta")
        total += _count(lambda text=text: ghost.next_logits(text, cache))[0]  # type: ignore[misc]
    assert found.amortised == (total / 8,)
    assert (cache.misses, cache.hits) == (1, 7)
    assert "cached" in found.summary()


def test_the_model_is_left_alone_and_bad_requests_are_refused() -> None:
    model = TLinFormer(decoder(), 4, 4, 8)
    with pytest.raises(ValueError, match="multiples of the generation window 8"):
        attention_cost(model, (12,))
    with pytest.raises(TypeError, match="Linear needs next_logits"):
        attention_cost(torch.nn.Linear(2, 2), (12,))
    attention_cost(model, (16,))
    assert next(model.parameters()).device.type == "cpu"
    assert model.training
