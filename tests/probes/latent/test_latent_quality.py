"""Latent quality against scikit-learn's neighbours and least squares; decoder curves against the layer itself."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from neurarium.models import Autoencoder
from neurarium.probes import decoder_curves, latent_quality

SEED = torch.Generator


def halves(rows: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    generator = SEED().manual_seed(0)
    y = torch.randint(4, (rows,), generator=generator) * 10 + 3  # labels with gaps
    return torch.randn(rows, 5, generator=generator) + 0.05 * y[:, None], y


def identity() -> Autoencoder:
    return Autoencoder(nn.Identity(), nn.Identity())


@pytest.mark.parametrize("grid", [False, True])
def test_neighbours_vote_as_in_scikit_learn(grid: bool) -> None:
    x, y = halves()
    if grid:  # few different codes: many ties, in distance and in votes
        x = x.mul(0.5).round()
        x = x + torch.arange(600)[:, None] * 1e-9  # of equally near codes the earlier, in both
    x = x.double()
    found = latent_quality(identity(), [(x[:400], y[:400])], [(x[400:], y[400:])], neighbours=4)
    peer = KNeighborsClassifier(4, algorithm="brute").fit(x[:400].numpy(), y[:400].numpy())
    score = peer.score(x[400:].numpy(), y[400:].numpy())
    assert found.neighbour_accuracy == pytest.approx(score, abs=0.011 if grid else 1e-12)


def test_equal_votes_go_to_the_smallest_label() -> None:
    codes = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    known, query = [(codes, torch.tensor([7, 7, 2, 2]))], [(torch.tensor([[1.5]]), torch.tensor([2]))]
    assert latent_quality(identity(), known, query, neighbours=4).neighbour_accuracy == 1


def test_the_linear_readout_is_least_squares() -> None:
    x, y = halves()
    found = latent_quality(identity(), [(x[:400], y[:400])], [(x[400:], y[400:])])
    classes = np.unique(y.numpy())
    peer = LinearRegression().fit(x[:400].numpy(), (y[:400, None].numpy() == classes).astype(float))
    guess = classes[peer.predict(x[400:].numpy()).argmax(1)]
    assert found.linear_accuracy == pytest.approx((guess == y[400:].numpy()).mean(), abs=1e-9)


def test_errors_and_rank_have_their_known_values() -> None:
    x, y = torch.randn(4000, 6, generator=SEED().manual_seed(2)), torch.zeros(4000, dtype=torch.int64)
    whole = latent_quality(identity(), [(x, y)], noise=0.5, generator=SEED().manual_seed(0))
    assert whole.error == 0
    assert whole.noisy_error == pytest.approx(0.25, rel=0.05)
    assert whole.rank == pytest.approx(6, abs=0.01)
    line = latent_quality(identity(), [(x[:, :1].expand(-1, 6), y)])
    assert line.rank == pytest.approx(1, abs=1e-3)
    assert latent_quality(identity(), [(x + 5, y)]).rank == pytest.approx(whole.rank, abs=1e-3)  # about the mean
    assert len(whole.codes) == 2000  # every other example


def test_the_model_is_left_as_it_was() -> None:
    model = Autoencoder(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)), nn.Linear(3, 5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = halves(100)
    first, second = (latent_quality(model, [(x, y)], generator=SEED().manual_seed(0)) for _ in range(2))
    assert first.summary() == second.summary()
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_it_is_refused_what_it_cannot_read() -> None:
    x, y = halves(10)
    with pytest.raises(TypeError, match="encode and decode, not a Linear"):
        latent_quality(nn.Linear(5, 5), [(x, y)])
    with pytest.raises(ValueError, match="between 1 and the 5 remembered"):
        latent_quality(identity(), [(x, y)], neighbours=6)
    with pytest.raises(TypeError, match="decoder has a KANLinear"):
        decoder_curves(identity(), x)


@pytest.mark.parametrize("norm", [False, True])
def test_decoder_curves_add_up_to_what_the_layer_gives(norm: bool) -> None:
    torch.manual_seed(0)
    model, (x, _) = Autoencoder.kan(5, 2, (4,), norm=norm), halves(50)
    found = decoder_curves(model, x)
    layer = model.decoder[1 if norm else 0]
    torch.testing.assert_close(found.curves.sum(2), layer(found.sites))
    code = model.encode(x).tanh() if norm else model.encode(x)
    torch.testing.assert_close(found.sites[[0, -1]], torch.stack([code.amin(0), code.amax(0)]))
    assert "share" in found.summary()
    _, ax = plt.subplots()
    found.plot(ax)
    latent_quality(identity(), [(x, torch.arange(50) % 3)]).plot(ax)
    plt.close()
