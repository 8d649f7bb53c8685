"""What language models expect: exact probabilities, of all strings together one, and a model that repeats."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.data import repeat_complexity
from neurarium.models import CausalTransformer
from neurarium.probes import sequence_preference

STRINGS = torch.tensor(list(itertools.product((3, 5), repeat=6)))
COMPLEXITY = [repeat_complexity(row) for row in STRINGS.tolist()]


class Copier(nn.Module):
    """Prefers the token that it sees, among 7."""

    def forward(self, tokens):
        return math.log(3) * nn.functional.one_hot(tokens, 7).float()


def test_a_copier_by_hand():
    found = sequence_preference(Copier(), STRINGS, COMPLEXITY, start=0, symbols=(3, 5))
    # after the start both are equally likely, then the same one again three times as likely as the other
    for row, bits in zip(STRINGS.tolist(), found.log2_probability.tolist(), strict=True):
        same = sum(a == b for a, b in itertools.pairwise(row))
        assert bits == pytest.approx(-1 + same * math.log2(3 / 4) + (5 - same) * math.log2(1 / 4))
    assert found.mean(1, 1) == pytest.approx(-1 + 5 * math.log2(3 / 4))
    assert found.slope == pytest.approx(np.polyfit(COMPLEXITY, found.log2_probability, 1)[0])
    free = sequence_preference(Copier(), STRINGS, COMPLEXITY, start=0)
    assert float(free.log2_probability[0]) == pytest.approx(math.log2(1 / 9) + 5 * math.log2(3 / 9))


def test_probabilities_of_all_strings_sum_to_one_and_are_averaged_over_models():
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(CausalTransformer(7, 8, 2, 1, 8, 8))
    together = sequence_preference(models, STRINGS, COMPLEXITY, start=0, symbols=(3, 5))
    single = [sequence_preference(m, STRINGS, COMPLEXITY, start=0, symbols=(3, 5)).log2_probability for m in models]
    mean = torch.stack([2**bits for bits in single]).mean(0)
    torch.testing.assert_close(2**together.log2_probability, mean)
    assert float(mean.sum()) == pytest.approx(1)
    assert together.mean() == pytest.approx(math.log2(1 / 64))
    assert "bits for each step" in together.summary()


def test_refusals():
    with pytest.raises(ValueError, match="complexity for each"):
        sequence_preference(Copier(), STRINGS, [1], start=0)
    with pytest.raises(ValueError, match="does not allow"):
        sequence_preference(Copier(), STRINGS, COMPLEXITY, start=0, symbols=(3, 4))
    with pytest.raises(ValueError, match="models"):
        sequence_preference([], STRINGS, COMPLEXITY, start=0)
    with pytest.raises(ValueError, match="no sequence"):
        sequence_preference(Copier(), STRINGS, COMPLEXITY, start=0).mean(20, 30)
