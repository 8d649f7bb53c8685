"""Truncated back-propagation through time: full gradients where nothing is cut, a detached state where it is."""

import pytest
import torch

from neurarium.models import ARMARNN

ACTIVATIONS = ("sigmoid", "tanh")


def gradients(activation, truncation, states=None):
    torch.manual_seed(0)
    model = ARMARNN(3, 5, 4, 1, 1, activation=activation, truncation=truncation).double()
    x = torch.randn(2, 10, 3, dtype=torch.float64)
    out = model(x) if states is None else model.readout(states(model, x))
    out.square().sum().backward()
    return out.detach(), [p.grad for p in model.parameters()]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("truncation", [10, 50])
def test_a_cut_beyond_the_sequence_is_full_back_propagation(activation, truncation):
    out, grads = gradients(activation, truncation)
    full, expected = gradients(activation, None)
    assert torch.equal(out, full)
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("truncation", [1, 4])
def test_a_cut_is_a_state_detached_by_hand(activation, truncation):
    def by_hand(model, x):
        f = torch.sigmoid if activation == "sigmoid" else torch.tanh
        h, every, rnn = x.new_zeros(2, 5), [], model.rnn
        for t, v in enumerate(model.stacked(x).unbind(1)):
            h = h.detach() if t % truncation == 0 else h
            h = f(v @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + h @ rnn.weight_hh_l0.T + rnn.bias_hh_l0)
            every.append(h)
        return torch.stack(every, 1)

    out, grads = gradients(activation, truncation)
    expected_out, expected = gradients(activation, None, by_hand)
    full, whole = gradients(activation, None)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(out, full)
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert any(not torch.allclose(a, b) for a, b in zip(grads, whole, strict=True))


def test_a_cut_below_one_frame_is_refused():
    with pytest.raises(ValueError, match="truncation must be at least 1"):
        ARMARNN(3, 5, 4, truncation=0)
