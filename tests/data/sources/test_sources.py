"""Sources of sequences: their known probabilities against frequencies, and what the loader counts."""

import pytest
import torch

from neurarium.data import (
    BrainPhoque,
    ContextTreeSource,
    DataError,
    FormalSource,
    IndependentSource,
    MixtureSource,
    PeriodicSource,
    SourceBatches,
    formal_tasks,
)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_frequencies_of_independent_symbols_are_drawn_from_dirichlet_one_half():
    found = IndependentSource(2).sample(4_000, 200, draw())
    share = found.tokens.double().mean(1)
    # Of Beta(1/2, 1/2): the variance is 1/8, a third lies beyond sin(pi / 12)^2 from both ends
    assert float(share.var()) == pytest.approx(1 / 8, abs=0.006)
    assert float(((share < 0.067) | (share > 0.933)).double().mean()) == pytest.approx(1 / 3, abs=0.03)


def test_a_tree_of_depth_nought_is_a_coin():
    found = ContextTreeSource(0).sample(30, 2_000, draw())
    for tokens, truth in zip(found.tokens, found.truth, strict=True):
        one = torch.where(tokens == 1, truth.exp(), 1 - truth.exp())
        assert float(one.max() - one.min()) < 1e-9
        one = one[0]
        assert float(tokens.double().mean()) == pytest.approx(float(one), abs=0.045)


def test_frequencies_follow_the_truth():
    found = ContextTreeSource(3).sample(40, 2_000, draw(1))
    contexts = set()
    for tokens, truth in zip(found.tokens, found.truth, strict=True):
        code = tokens[:-3] * 4 + tokens[1:-2] * 2 + tokens[2:-1]
        for context in code.unique():
            after, given = tokens[3:][code == context], truth[3:][code == context]
            chance = torch.where(after == 1, given.exp(), 1 - given.exp())
            assert float(chance.max() - chance.min()) < 1e-9  # one leaf for each context
            p, n = float(chance[0]), len(after)
            assert abs(float(after.double().mean()) - p) < 4 * (p * (1 - p) / n) ** 0.5 + 1e-9
            contexts.add(round(p, 9))
    assert len(contexts) > 40


def test_leaves_are_drawn_from_beta_and_half_of_the_roots_branch():
    found = ContextTreeSource(1).sample(20_000, 2, draw(2))
    one = torch.where(found.tokens == 1, found.truth.exp(), 1 - found.truth.exp())
    assert float(one[:, 0].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(one[:, 0].var()) == pytest.approx(1 / 8, abs=0.005)
    moved = one[found.tokens[:, 0] == 1]  # after a 1 the leaf is another one where the root branches
    assert float(((moved[:, 0] - moved[:, 1]).abs() > 1e-9).double().mean()) == pytest.approx(0.5, abs=0.02)
    assert ContextTreeSource(24).sample(2, 30, draw()).tokens.shape == (2, 30)


def test_independent_symbols_have_their_probabilities():
    found = IndependentSource(3).sample(2, 20_000, draw())
    for tokens, truth in zip(found.tokens, found.truth, strict=True):
        for symbol in tokens.unique():
            p = float(truth[tokens == symbol][0].exp())
            assert float((tokens == symbol).double().mean()) == pytest.approx(p, abs=0.015)


def test_pieces_repeat():
    found = PeriodicSource(5, 2, 8).sample(200, 40, draw()).tokens
    shifts = torch.stack([(found[:, k:] == found[:, :-k]).all(1) for k in range(2, 9)])
    assert bool(shifts.any(0).all())
    assert len(found.unique(dim=0)) > 150


def test_a_question_and_its_answer():
    found = FormalSource(formal_tasks["parity_check"], 4).sample(50, 13, draw())
    assert found.tokens.shape == (50, 13)
    for tokens, mask in zip(found.tokens, found.mask, strict=True):
        assert mask.nonzero().flatten().tolist() == [4, 9]
        for end in (4, 9):
            assert int(tokens[end]) == 2 + int(tokens[end - 4 : end].sum()) % 2
    assert found.targets[0, :4].tolist() == [-100] * 4


def test_a_mixture_keeps_the_shares():
    source = MixtureSource([IndependentSource(3), ContextTreeSource(2)], [3, 1])
    assert source.symbols == 3
    found = source.sample(4000, 10, draw())
    assert found.truth is not None
    assert float((found.tokens == 2).any(1).double().mean()) == pytest.approx(0.75 * 0.75, abs=0.1)
    assert MixtureSource([PeriodicSource(2), ContextTreeSource(2)]).sample(9, 8, draw()).truth is None


def test_the_loader_masks_and_repeats_itself():
    source = BrainPhoque(5, 4, 60)
    first, second = (list(SourceBatches(source, 8, 2, 16, seed=3)) for _ in range(2))
    assert len(first) == 2
    for (x, y), (again, _) in zip(first, second, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(x[y >= 0], y[y >= 0])
        assert int(y.min()) == -100
    assert not torch.equal(first[0][0], first[1][0])


def test_refusals():
    with pytest.raises(DataError, match="symbols"):
        IndependentSource(1)
    with pytest.raises(DataError, match="shortest"):
        PeriodicSource(3, 5, 4)
    with pytest.raises(DataError, match="depth"):
        ContextTreeSource(63)
    with pytest.raises(DataError, match="weight"):
        MixtureSource([ContextTreeSource(1)], [0])
    with pytest.raises(DataError, match="question"):
        FormalSource(formal_tasks["parity_check"], 4).sample(1, 4, draw())
    with pytest.raises(DataError, match="batch_size"):
        SourceBatches(ContextTreeSource(1), 0, 1, 1)
