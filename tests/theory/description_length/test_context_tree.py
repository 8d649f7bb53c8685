"""Context-tree weighting: exact fractions, all trees written out, sums to one, and the source it is optimal for."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from neurarium.data import ContextTreeSource, IndependentSource, all_words
from neurarium.theory import KT, ContextTreeWeighting


def exact_kt(symbols, alphabet):
    """The estimator's probability of a sequence."""
    counts, found = [Fraction(1, 2)] * alphabet, Fraction(1)
    for symbol in symbols:
        found *= counts[symbol] / sum(counts)
        counts[symbol] += 1
    return found


def trees(depth, alphabet):
    """Every complete context tree up to a depth, as its leaves, with its prior probability."""
    if depth == 0:
        return [([()], Fraction(1))]
    found = [([()], Fraction(1, 2))]
    for branches in itertools.product(trees(depth - 1, alphabet), repeat=alphabet):
        leaves = [(*leaf, symbol) for symbol, (below, _) in enumerate(branches) for leaf in below]
        found.append((leaves, Fraction(1, 2) * math.prod(weight for _, weight in branches)))
    return found


def mixed(sequence, depth, alphabet):
    """The sum over all trees of prior times likelihood: what the weighting must equal."""
    padded = (0,) * depth + tuple(sequence)
    total = Fraction(0)
    for leaves, weight in trees(depth, alphabet):
        for leaf in leaves:
            after = [padded[t] for t in range(depth, len(padded)) if padded[t - len(leaf) : t] == leaf]
            weight *= exact_kt(after, alphabet)
        total += weight
    return total


def test_kt_has_its_known_probabilities():
    assert math.exp(KT().log_prob([0, 0, 0, 0])) == pytest.approx(35 / 128, rel=1e-12)
    for word in ([0, 0, 1, 1], [1, 0, 1, 0]):
        assert math.exp(KT().log_prob(word)) == pytest.approx(3 / 128, rel=1e-12)


@pytest.mark.parametrize(("depth", "wanted"), [(0, (5, 2048)), (1, (1, 512)), (2, (15, 8192)), (3, (35, 16384))])
def test_a_known_sequence(depth, wanted):
    found = ContextTreeWeighting(depth).log_prob([0, 1, 1, 0, 1, 0, 0])
    assert math.exp(found) == pytest.approx(wanted[0] / wanted[1], rel=1e-12)


@pytest.mark.parametrize(("depth", "alphabet", "size"), [(3, 2, 26), (2, 3, 9)])
def test_weighting_equals_the_mixture_over_all_trees(depth, alphabet, size):
    every = trees(depth, alphabet)
    assert len(every) == size
    assert sum(weight for _, weight in every) == 1
    draw = torch.Generator().manual_seed(depth)
    for word in torch.randint(alphabet, (4, 9), generator=draw).tolist():
        assert math.exp(ContextTreeWeighting(depth, alphabet).log_prob(word)) == pytest.approx(
            float(mixed(word, depth, alphabet)), rel=1e-12
        )


def test_probabilities_of_all_words_sum_to_one():
    assert float(ContextTreeWeighting(3).log_probs(all_words(2, 6)).sum(1).exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("depth", "alphabet"), [(0, 2), (4, 2), (3, 5)])
def test_one_after_another_and_side_by_side_agree(depth, alphabet):
    words = torch.randint(alphabet, (3, 40), generator=torch.Generator().manual_seed(1))
    together = ContextTreeWeighting(depth, alphabet)
    for word, conditionals in zip(words, together.conditionals(words), strict=True):
        tree = ContextTreeWeighting(depth, alphabet)
        for symbol, row in zip(word.tolist(), conditionals, strict=True):
            torch.testing.assert_close(tree.predict(), row.exp(), rtol=1e-10, atol=1e-12)
            assert tree.update(symbol) == pytest.approx(float(row[symbol].exp()), rel=1e-10)


def test_long_certain_sequences_stay_finite():
    tree = ContextTreeWeighting(8, 2)
    found = tree.log_probs(torch.arange(2_000)[None] % 2)
    assert bool(found.isfinite().all())
    assert float(found[0, -1].exp()) > 0.999


def test_it_is_the_bayes_mixture_of_the_tree_source():
    drawn = ContextTreeSource(2).sample(60_000, 5, torch.Generator().manual_seed(0))
    code = (drawn.tokens * 2 ** torch.arange(4, -1, -1)).sum(1)
    seen = torch.bincount(code, minlength=32) / len(code)
    wanted = ContextTreeWeighting(2).log_probs(all_words(2, 5)).sum(1).exp()
    assert bool(((seen - wanted).abs() < 4 * (wanted * (1 - wanted) / len(code)).sqrt()).all())


def test_the_matched_depth_predicts_a_source_best():
    trees_ = ContextTreeSource(3).sample(400, 100, torch.Generator().manual_seed(2))
    costs = [-float(ContextTreeWeighting(depth).log_probs(trees_.tokens).sum()) / 400 for depth in (0, 3, 9)]
    truth = -float(trees_.truth.sum()) / 400
    assert truth < costs[1] < min(costs[0], costs[2])
    even = IndependentSource(4).sample(400, 60, torch.Generator().manual_seed(3))
    flat = [-float(ContextTreeWeighting(depth, 4).log_probs(even.tokens).sum()) for depth in (0, 2)]
    assert flat[0] < flat[1]


def test_refusals():
    with pytest.raises(ValueError, match="depth"):
        ContextTreeWeighting(-1)
    with pytest.raises(ValueError, match="symbol must be between 0 and 1, not 2"):
        KT().update(2)
    with pytest.raises(ValueError, match="tokens must be between"):
        KT().log_probs(torch.tensor([[0, 2]]))
