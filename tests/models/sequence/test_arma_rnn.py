"""The AR and ARMA networks against torch's RNN, frames stacked by hand, and sentences taken one by one."""

import pytest
import torch
from torch import nn

from neurarium.models import ARMARNN


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_without_a_window_it_is_torchs_rnn(activation):
    model = ARMARNN(4, 6, 3, activation=activation)
    plain = nn.RNN(4, 6, nonlinearity=activation, batch_first=True)
    plain.load_state_dict(model.rnn.state_dict())
    x = torch.randn(2, 9, 4)
    torch.testing.assert_close(model(x), model.readout(plain(x)[0]), atol=1e-6, rtol=0)


def test_with_a_window_it_is_the_ar_network_on_stacked_frames():
    arma, ar = ARMARNN(4, 6, 3, look_back=1, look_ahead=2), ARMARNN(16, 6, 3)
    ar.load_state_dict(arma.state_dict())
    x = torch.randn(2, 9, 4)
    padded = torch.cat([torch.zeros(2, 1, 4), x, torch.zeros(2, 2, 4)], 1)
    stacked = torch.cat([padded[:, tau : tau + 9] for tau in range(4)], -1)
    torch.testing.assert_close(arma(x), ar(stacked))


def test_it_hears_what_comes_next_and_no_further():
    model = ARMARNN(4, 6, 3, look_ahead=2)
    x = torch.randn(1, 9, 4)
    changed = x.clone()
    changed[0, 5] += 1
    differs = (model(changed) - model(x)).abs().amax(-1)[0] > 0
    assert differs.tolist() == [False] * 3 + [True] * 6


def test_padded_sentences_equal_sentences_alone():
    features = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid())  # nothing in, something out: padding must be cut behind it
    model = ARMARNN(4, 6, 3, look_back=2, look_ahead=2, features=features)
    x = torch.randn(3, 8, 5)
    lengths = torch.tensor([8, 5, 1])
    together = model(x, lengths)
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(together[i, :length], model(x[i : i + 1, :length])[0])
    states = model.states(x, lengths)
    assert torch.equal(states[1, 7], states[1, 4])  # padding does not advance the state


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="activation must be one of"):
        ARMARNN(4, 6, 3, activation="gelu")
    with pytest.raises(ValueError, match="at least 1"):
        ARMARNN(0, 6, 3)
