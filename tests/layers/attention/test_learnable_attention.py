"""Attention around an operator against torch's, and in networks that exist."""

import copy
import io

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from neurarium.layers import AttentionOperator, LearnableAttention, SoftmaxOperator, replace_attention
from neurarium.probes import attention_spectrum


def encoder(layers: int = 2, nhead: int = 2, batch_first: bool = True) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, nhead, 16, 0.0, batch_first=batch_first, norm_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_with_softmax_the_network_is_the_one_it_was(batch_first: bool, mode: bool) -> None:
    model, x = encoder(batch_first=batch_first).train(mode), torch.randn(5, 5, 8)
    found = replace_attention(model, 5, basis="softmax")
    assert len(found.changed) == 2
    torch.testing.assert_close(found.model(x), model(x), rtol=0, atol=1e-6)
    hidden = torch.tensor([[False, False, True, False, True]]).expand(5, 5)
    with_padding = found.model(x, src_key_padding_mask=hidden)
    torch.testing.assert_close(with_padding, model(x, src_key_padding_mask=hidden), rtol=0, atol=1e-6)
    causal = torch.full((5, 5), -torch.inf).triu(1)
    torch.testing.assert_close(found.model(x, causal), model(x, causal), rtol=0, atol=1e-6)


def test_weights_come_out_as_from_torch() -> None:
    torch.manual_seed(0)
    torch_attention, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)
    mine = LearnableAttention.like(torch_attention, 5, SoftmaxOperator())
    for average in (True, False):
        for one, other in zip(
            mine(x, x, x, average_attn_weights=average),
            torch_attention(x, x, x, average_attn_weights=average),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
    y = torch.randn(3, 7, 8)  # as many queries as you like
    torch.testing.assert_close(mine(y, x, x)[0], torch_attention(y, x, x)[0])


@pytest.mark.parametrize("padded", [True, False])
def test_the_narrow_way_is_that_over_the_weights(padded: bool) -> None:
    torch.manual_seed(0)
    layer, x = LearnableAttention(8, 2, 5), torch.randn(3, 5, 8)
    mask = torch.rand(3, 5) > 0.6 if padded else None
    output, weights = layer(x, key_padding_mask=mask)
    torch.testing.assert_close(layer(x, key_padding_mask=mask, need_weights=False)[0], output)
    assert weights.shape == (3, 5, 5)
    if mask is not None:
        changed = x.masked_fill(mask[..., None], 9.0)
        again = layer(x, changed, key_padding_mask=mask)[0]
        torch.testing.assert_close(again, output)


def test_a_shared_operator_is_one_and_stays_one() -> None:
    found = replace_attention(encoder(3), 5, shared=True, rank=2)
    operators = {id(m) for m in found.model.modules() if isinstance(m, AttentionOperator)}
    assert len(operators) == 1
    blockwise = replace_attention(encoder(3), 5, rank=2).model
    assert sum(p.numel() for p in blockwise.parameters()) - sum(p.numel() for p in found.model.parameters()) == 2 * sum(
        p.numel() for p in AttentionOperator(5, 2, 2).parameters()
    )
    file = io.BytesIO()
    torch.save(found.model.state_dict(), file)
    file.seek(0)
    other = replace_attention(encoder(3), 5, shared=True, rank=2).model
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(other(x), found.model(x))
    for model in (other, copy.deepcopy(found.model)):
        assert len({id(m) for m in model.modules() if isinstance(m, AttentionOperator)}) == 1


def test_all_parameters_of_a_converted_network_are_trained() -> None:
    model = replace_attention(encoder(), 5, base="silu").model
    model(torch.randn(4, 5, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_spectrum_of_softmax_is_known() -> None:
    model = replace_attention(encoder(), 5, basis="softmax").model
    found = attention_spectrum(model, torch.randn(6, 5, 8))
    assert found.row_sums == pytest.approx((1.0, 1.0))
    assert found.row_sum_deviations == pytest.approx((0.0, 0.0), abs=1e-6)
    assert found.negative == (0.0, 0.0)
    assert found.parameters == (0, 0)
    assert "stable rank" in found.summary()
    _, ax = plt.subplots()
    found.plot(ax)
    plt.close()
    narrow = attention_spectrum(replace_attention(encoder(), 5, rank=1).model, torch.randn(6, 5, 8))
    assert narrow.weight_rank == pytest.approx((1.0, 1.0), abs=1e-5)
    assert max(narrow.weights[:, 1].tolist()) < 1e-5
    with pytest.raises(ValueError, match="no LearnableAttention"):
        attention_spectrum(encoder(), torch.randn(6, 5, 8))


def test_what_cannot_be_is_refused_in_one_sentence() -> None:
    layer, x = LearnableAttention(8, 2, 5), torch.randn(3, 5, 8)
    with pytest.raises(ValueError, match="5 expected, 4 given"):
        layer(x[:, :4])
    for bad in ({"attn_mask": torch.zeros(5, 5)}, {"is_causal": True}):
        with pytest.raises(ValueError, match="not causal"):
            layer(x, **bad)
    with pytest.raises(ValueError, match="nhead must divide d_model"):
        LearnableAttention(8, 3, 5)
    with pytest.raises(ValueError, match="operator is for 6 tokens and 2 heads"):
        LearnableAttention(8, 2, 5, AttentionOperator(6, 2, 2))
    with pytest.raises(ValueError, match="nothing to convert in Linear"):
        replace_attention(nn.Linear(2, 2), 5)
    mixed = nn.Sequential(encoder(1, 2), encoder(1, 4))
    with pytest.raises(ValueError, match="4 heads, and the shared operator is for 2"):
        replace_attention(mixed, 5, shared=True)
    with pytest.raises(ValueError, match="hide or not"):
        LearnableAttention(8, 2, 5, SoftmaxOperator())(x, attn_mask=torch.randn(5, 5))
