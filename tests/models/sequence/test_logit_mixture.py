"""Mixtures of language models against arithmetic in NumPy and limiting cases."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.models import LogitMixture, RotaryDecoder

TOKENS = torch.randint(7, (2, 5), generator=torch.Generator().manual_seed(0))


def model(seed: int, num_tokens: int = 7) -> nn.Module:
    torch.manual_seed(seed)
    made = RotaryDecoder(num_tokens, 8, 2, 1)
    made.head.weight.data.normal_()
    return made


@pytest.mark.parametrize("average", ["logits", "probabilities", "confidence"])
def test_a_mixture_of_equal_models_is_the_model(average: str) -> None:
    one = model(0)
    mixture = LogitMixture([one, copy.deepcopy(one)], [3, 1], average)  # type: ignore[arg-type]
    assert torch.allclose(mixture(TOKENS).log_softmax(-1), one(TOKENS).log_softmax(-1), atol=1e-5)
    alone = LogitMixture([one, model(1)], [1, 0], average)  # type: ignore[arg-type]
    assert torch.allclose(alone(TOKENS).log_softmax(-1), one(TOKENS).log_softmax(-1), atol=1e-5)


@torch.no_grad()
def test_each_average_is_what_numpy_says() -> None:
    parts, weights = [model(0), model(1)], (0.25, 0.75)
    logits = [part(TOKENS).double().numpy() for part in parts]
    p = [np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in logits]
    geometric = p[0] ** 0.25 * p[1] ** 0.75
    confidence = [w * np.exp((q * np.log(q)).sum(-1, keepdims=True)) for w, q in zip(weights, p, strict=True)]
    expected = {
        "logits": geometric / geometric.sum(-1, keepdims=True),
        "probabilities": 0.25 * p[0] + 0.75 * p[1],
        "confidence": (confidence[0] * p[0] + confidence[1] * p[1]) / (confidence[0] + confidence[1]),
    }
    for average, probabilities in expected.items():
        found = LogitMixture(parts, weights, average)(TOKENS).softmax(-1)  # type: ignore[arg-type]
        assert np.allclose(found.numpy(), probabilities, atol=1e-6)


def test_models_generate_together() -> None:
    mixture = LogitMixture([model(0), model(1)])
    assert mixture.generate(TOKENS, 4, generator=torch.Generator().manual_seed(0)).shape == (2, 9)


def test_requests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        LogitMixture([])
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        LogitMixture([model(0), model(1)], [1])
    with pytest.raises(ValueError, match=r"one vocabulary, but theirs have sizes \[7, 9\]"):
        LogitMixture([model(0), model(0, 9)])(TOKENS)
