"""Code lengths: an arithmetic coder's bits by hand, a language model's first token, and regret against the source."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import nll_loss

from neurarium.data import ContextTreeSource
from neurarium.models import CausalTransformer, SequencePredictor, SequenceReadout
from neurarium.objectives import cumulative_log_loss
from neurarium.probes import code_length
from neurarium.theory import KT, ContextTreeWeighting


class Even(nn.Module):
    """Logits that say nothing, or name the token that comes next in order."""

    def __init__(self, kinds, sure=0.0):
        super().__init__()
        self.kinds, self.sure = kinds, sure

    def forward(self, tokens):
        return self.sure * nn.functional.one_hot((tokens + 1) % self.kinds, self.kinds).float()


def test_a_model_that_says_nothing_costs_an_even_guess():
    tokens = torch.randint(5, (7, 9), generator=torch.Generator().manual_seed(0))
    found = code_length(Even(8), tokens)
    assert found.per_symbol == pytest.approx(3)
    assert found.symbols == 8
    assert found.total.tolist() == pytest.approx([27.0] * 7)


def test_the_first_token_of_a_language_model_is_coded_evenly():
    tokens = torch.arange(6)[None] % 4
    found = code_length(Even(4, 50.0), tokens)
    assert float(found.bits[0, 0]) == pytest.approx(2)
    assert float(found.bits[0, 1:].abs().max()) < 1e-6


def test_masked_places_cost_nothing():
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    found = code_length(KT(), tokens, mask)
    assert found.total.tolist() == pytest.approx([-math.log2(3 / 8), 1.0])
    assert found.per_symbol == pytest.approx((1 - math.log2(3 / 8)) / 3)
    assert found.by_place[:2].tolist() == pytest.approx([1, -math.log2(3 / 4)])


def test_regret_is_what_the_source_would_have_saved():
    drawn = ContextTreeSource(3).sample(300, 64, torch.Generator().manual_seed(0))
    matched, plain = (code_length(model, drawn.tokens) for model in (ContextTreeWeighting(3), KT()))
    regret = matched.regret(drawn.truth)
    assert 0 < float(regret[-1]) < float(plain.regret(drawn.truth)[-1])
    # at most a bit for each node of the tree and half a log for each leaf: 15 nodes, 8 leaves
    assert float(regret[-1]) < 15 + 8 * (0.5 * math.log2(64 / 8) + 1)
    assert float(plain.regret(matched)[-1]) == pytest.approx(float((plain.total - matched.total).mean()))


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_a_predictor_is_causal_and_normalised(kind):
    torch.manual_seed(0)
    network = (
        CausalTransformer(4, 8, 2, 1, 8, 12)
        if kind == "transformer"
        else nn.Sequential(nn.Embedding(4, 8), SequenceReadout(nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)))
    )
    model = SequencePredictor(network, 3).eval()
    tokens = torch.randint(3, (5, 12))
    with torch.no_grad():
        before = model(tokens)
        torch.testing.assert_close(before.exp().sum(2), torch.ones(5, 12))
        changed = tokens.clone()
        changed[:, 6:] = (changed[:, 6:] + 1) % 3
        torch.testing.assert_close(model(changed)[:, :7], before[:, :7])
        assert not torch.allclose(model(changed)[:, 7:], before[:, 7:])
        # all words of three symbols: probabilities of whole sequences sum to one
        words = torch.cartesian_prod(*[torch.arange(3)] * 3)
        assert float(model.log_probs(words).sum(1).exp().sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(
        code_length(model, tokens).total * math.log(2), -model.log_probs(tokens).sum(1).detach(), rtol=1e-5, atol=1e-5
    )


def test_log_loss_adds_up_what_counts():
    log_probs = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    targets = torch.tensor([[0, 1, 2, 3], [4, -100, -100, -100], [1, 1, -100, 0]])
    each = cumulative_log_loss(log_probs, targets, "none")
    assert float(each[1]) == pytest.approx(-float(log_probs[1, 0, 4]))
    total = nll_loss(log_probs.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    torch.testing.assert_close(cumulative_log_loss(log_probs, targets, "sum"), total)
    torch.testing.assert_close(cumulative_log_loss(log_probs, targets), total / 3)
    with pytest.raises(ValueError, match="reduction"):
        cumulative_log_loss(log_probs, targets, "median")


def test_refusals():
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="mask"):
        code_length(KT(), tokens, torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="symbols"):
        SequencePredictor(Even(3), 1)
    with pytest.raises(ValueError, match="logits"):
        SequencePredictor(Even(3), 4)(torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="truth"):
        code_length(KT(), tokens).regret(torch.zeros(2, 4))
