"""Attention with places against formulas written out token by token."""

import math

import pytest
import torch
from torch import nn

from neurarium.layers import PositionedAttention, alibi_bias, rotate_positions, sinusoidal_positions
from neurarium.layers.attention._positions import alibi_slopes


def attention(layer, x, score):
    """Token by token and head by head, with a score of our own."""
    d, h = x.shape[-1], layer.nhead
    q, k, v = (part.view(len(x), h, d // h) for part in layer.in_proj(x).chunk(3, -1))
    rows = []
    for i in range(len(x)):
        heads = []
        for head in range(h):
            scores = torch.stack([score(q[i, head], k[j, head], i, j, head) for j in range(len(x))])
            heads.append((scores / math.sqrt(d // h)).softmax(0) @ v[:, head])
        rows.append(torch.cat(heads))
    return layer.out_proj(torch.stack(rows))


@pytest.mark.parametrize("positions", ["none", "rotary", "alibi", "relative"])
def test_attention_written_out(positions):
    torch.manual_seed(0)
    layer, x = PositionedAttention(8, 2, positions).double(), torch.randn(5, 8, dtype=torch.float64)
    if positions == "relative":
        with torch.no_grad():
            layer.content_bias.normal_()
            layer.distance_bias.normal_()

    def score(q, k, i, j, head):
        if positions == "rotary":
            turned = []
            for vector, place in ((q, i), (k, j)):
                pairs = torch.view_as_complex(vector.view(-1, 2).contiguous())
                angle = torch.tensor([place * 10_000 ** (-p / 2) for p in range(2)], dtype=torch.float64)
                turned.append(torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten())
            return turned[0] @ turned[1]
        if positions == "alibi":
            distance = abs(i - j) - (0.5 if j < i else 0.0)
            return q @ k - alibi_slopes(2)[head] * distance * 2.0
        if positions == "relative":
            waves = [(i - j) * 10_000 ** (-p / 8) for p in range(0, 8, 2)]
            waves = torch.tensor([math.sin(a) for a in waves] + [math.cos(a) for a in waves], dtype=torch.float64)
            key = layer.distance_proj(waves).view(2, 4)[head]
            return (q + layer.content_bias[head, 0]) @ k + (q + layer.distance_bias[head, 0]) @ key
        return q @ k

    torch.testing.assert_close(layer(x[None])[0], attention(layer, x, score))


def test_without_places_it_is_torchs():
    torch.manual_seed(0)
    layer, reference = PositionedAttention(8, 2, "none"), nn.MultiheadAttention(8, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": layer.in_proj.weight, "in_proj_bias": layer.in_proj.bias,
            "out_proj.weight": layer.out_proj.weight, "out_proj.bias": layer.out_proj.bias,
        }
    )  # fmt: skip
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(layer(x), reference(x, x, x)[0])


def test_turned_products_depend_on_the_difference_only():
    torch.manual_seed(0)
    q, k = torch.randn(6), torch.randn(6)

    def product(i, j):
        return rotate_positions(q[None], torch.tensor([i]))[0] @ rotate_positions(k[None], torch.tensor([j]))[0]

    torch.testing.assert_close(product(3.0, 1.0), product(12.0, 10.0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(product(4.0, 4.0), q @ k)


def test_slopes_and_bias_of_alibi():
    assert alibi_slopes(8) == [2.0**-k for k in range(1, 9)]
    assert alibi_slopes(3) == [2**-4, 2**-8, 2**-2]  # the rest from every second slope of the next power
    bias = alibi_bias(8, 3)
    assert bias.shape == (8, 3, 3)
    assert bias[0].tolist() == [[0.0, -0.5, -1.0], [-0.25, 0.0, -0.5], [-0.75, -0.25, 0.0]]


def test_sinusoids():
    table = sinusoidal_positions(torch.tensor([0.0, 3.0]), 4)
    assert table[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert table[1].tolist() == pytest.approx([math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)])


def test_half_precision_tells_far_places_apart():
    torch.manual_seed(0)
    q, places = torch.randn(2, 8).bfloat16(), torch.tensor([1000.0, 1001.0])  # equal in bfloat16
    turned = rotate_positions(q, places)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned.float(), rotate_positions(q.float(), places), atol=0.02, rtol=0.01)
    bias = alibi_bias(1, 300, dtype=torch.bfloat16)
    torch.testing.assert_close(bias.float(), alibi_bias(1, 300), atol=0, rtol=2**-8)


@pytest.mark.parametrize("positions", ["none", "rotary", "alibi", "relative"])
def test_attention_in_half_precision_is_close_to_single(positions):
    torch.manual_seed(0)
    layer, x = PositionedAttention(16, 2, positions, causal=True), torch.randn(1, 400, 16)
    expected = layer(x)
    torch.testing.assert_close(layer.bfloat16()(x.bfloat16()).float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.untyped
def test_one_sentence_for_bad_arguments():
    for wrong in (
        lambda: PositionedAttention(8, 3),
        lambda: PositionedAttention(8, 2, "learned"),
        lambda: PositionedAttention(6, 2),
        lambda: sinusoidal_positions(torch.zeros(2), 3),
        lambda: rotate_positions(torch.zeros(2, 3), torch.zeros(2)),
        lambda: alibi_slopes(0),
    ):
        with pytest.raises(ValueError):
            wrong()
