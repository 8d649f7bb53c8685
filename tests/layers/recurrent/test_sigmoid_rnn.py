"""The sigmoid recurrence against a loop that follows its definition, and the frame window against stacking by hand."""

import pytest
import torch
from torch import nn

from neurarium.layers import FrameWindow, SigmoidRNN


def looped(rnn, x, h, layer, end=""):
    """h_t = sigmoid(W h + W_in x + b), one step at a time; x [time, batch, features]."""
    named = {
        name: getattr(rnn, f"{name}_l{layer}{end}", None) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    states = []
    for step in x.flip(0) if end else x:
        a = step @ named["weight_ih"].T + h @ named["weight_hh"].T
        h = torch.sigmoid(a + named["bias_ih"] + named["bias_hh"] if rnn.bias else a)
        states.append(h)
    return torch.stack(states[::-1] if end else states), h


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_equals_the_recurrence_it_stands_for(bias, bidirectional, start):
    rnn = SigmoidRNN(3, 5, num_layers=2, bias=bias, bidirectional=bidirectional).double()
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    ends = ("", "_reverse") if bidirectional else ("",)
    h0 = torch.rand(2 * len(ends), 4, 5, dtype=torch.float64) if start else torch.zeros(2 * len(ends), 4, 5).double()
    states, last = rnn(x, h0 if start else None)
    below, expected_last = x, []
    for layer in range(2):
        parts = [looped(rnn, below, h0[layer * len(ends) + d], layer, end) for d, end in enumerate(ends)]
        below = torch.cat([p[0] for p in parts], -1)
        expected_last += [p[1] for p in parts]
    torch.testing.assert_close(states, below, atol=1e-13, rtol=0)
    torch.testing.assert_close(last, torch.stack(expected_last), atol=1e-13, rtol=0)


def test_gradients_are_those_of_the_definition():
    rnn = SigmoidRNN(3, 5).double()
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    weights = torch.randn(7, 4, 5, dtype=torch.float64)
    ours = torch.autograd.grad((rnn(x)[0] * weights).sum(), list(rnn.parameters()))
    theirs = torch.autograd.grad(
        (looped(rnn, x, torch.zeros(4, 5).double(), 0)[0] * weights).sum(), list(rnn.parameters())
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_batch_first_and_single_sequences_are_views_of_the_same():
    rnn = SigmoidRNN(3, 5)
    first = SigmoidRNN(3, 5, batch_first=True)
    first.load_state_dict(rnn.state_dict())
    x = torch.randn(7, 4, 3)
    torch.testing.assert_close(first(x.transpose(0, 1))[0].transpose(0, 1), rnn(x)[0])
    states, last = rnn(x[:, 1])
    torch.testing.assert_close(states, rnn(x)[0][:, 1])
    assert last.shape == (1, 5)
    with pytest.raises(TypeError, match="packed"):
        rnn(nn.utils.rnn.pack_sequence([x[:, 0]]))


def test_state_dict_is_that_of_a_plain_rnn():
    plain, ours = nn.RNN(3, 5, 2), SigmoidRNN(3, 5, 2)
    ours.load_state_dict(plain.state_dict())
    assert torch.equal(ours.weight_hh_l1, plain.weight_hh_l1)


def test_window_is_frames_stacked_by_hand():
    x = torch.randn(2, 5, 3)
    stacked = FrameWindow(1, 2)(x)
    zero = torch.zeros(3)
    expected = torch.cat([x[1, 2], x[1, 3], x[1, 4], zero])
    assert torch.equal(stacked[1, 3], expected)
    assert torch.equal(stacked[0, 0], torch.cat([zero, x[0, 0], x[0, 1], x[0, 2]]))
    held = FrameWindow(1, 2, edge="replicate")(x)
    assert torch.equal(held[1, 4], torch.cat([x[1, 3], x[1, 4], x[1, 4], x[1, 4]]))
    assert FrameWindow()(x) is x


@pytest.mark.parametrize("edge", ["zeros", "replicate"])
def test_window_never_sees_padding(edge):
    window = FrameWindow(1, 2, edge=edge)
    x = torch.randn(2, 6, 3)
    lengths = torch.tensor([4, 6])
    padded = x.clone()
    padded[0, 4:] = 1e9
    torch.testing.assert_close(window(padded, lengths)[0, :4], window(x[:1, :4])[0])
    torch.testing.assert_close(window(padded, lengths)[1], window(x)[1])


def test_window_refuses_nonsense():
    with pytest.raises(ValueError, match="must not be negative"):
        FrameWindow(-1, 0)
    with pytest.raises(ValueError, match="edge"):
        FrameWindow(1, 1, edge="wrap")
