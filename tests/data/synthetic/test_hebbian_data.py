"""Diluted patterns and their noisy examples have the rates they are asked for."""

import pytest
import torch

from neurarium.data import diluted_patterns, noisy_examples


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rates():
    patterns = diluted_patterns(4, 20_000, 0.3, generator=draw())
    assert float((patterns == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(patterns.sum() / patterns.abs().sum()) == pytest.approx(0, abs=0.02)
    assert float((patterns[0] * patterns[1]).mean()) == pytest.approx(0, abs=0.02)
    exact = diluted_patterns(4, 1000, 0.3, sampling="blanks", generator=draw())
    assert (exact == 0).sum(1).tolist() == [300] * 4
    assert not torch.equal(exact[0] == 0, exact[1] == 0)
    balanced = diluted_patterns(2, 900, 1 / 3, sampling="columns", generator=draw())
    columns, counts = balanced.T.unique(dim=0, return_counts=True)
    assert len(columns) == 9
    assert counts.tolist() == [100] * 9
    odd = diluted_patterns(3, 1000, 0.37, sampling="columns", generator=draw())
    assert abs(float((odd[0] * odd[1]).mean())) < 0.01
    assert bool((diluted_patterns(2, 50, generator=draw()).abs() == 1).all())


def test_examples_keep_blanks_and_correlate_with_the_quality():
    patterns = diluted_patterns(3, 2000, 0.4, generator=draw())
    examples = noisy_examples(patterns, 0.3, 50, draw(1))
    assert examples.shape == (3, 50, 2000)
    assert torch.equal(examples == 0, (patterns == 0).unsqueeze(1).expand_as(examples))
    agreement = (examples * patterns.unsqueeze(1)).sum() / (examples != 0).sum()
    assert float(agreement) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(noisy_examples(patterns, 1.0, 2), patterns.unsqueeze(1).expand(3, 2, 2000))
    assert torch.equal(examples, noisy_examples(patterns, 0.3, 50, draw(1)))


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: diluted_patterns(2, 10, 1.0), "dilution must lie"),
        (lambda: diluted_patterns(2, 10, 0.99, sampling="blanks"), "leaves none"),
        (lambda: diluted_patterns(4, 80, 0.5, sampling="columns"), "81 columns, more than 80"),
        (lambda: diluted_patterns(4, 80, 0.5, sampling="some"), "sampling must be"),
        (lambda: noisy_examples(torch.ones(1, 5), 0.0, 3), "quality must lie"),
        (lambda: noisy_examples(torch.full((1, 5), 0.5), 0.5, 3), "entries -1, 0 or"),
    ],
)
def test_bad_requests(use, sentence):
    with pytest.raises(ValueError, match=sentence):
        use()
