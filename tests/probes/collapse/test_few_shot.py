"""Few-shot episodes against scikit-learn's ridge regression and nearest centroids, and their draws."""

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid
from torch import nn

from neurarium.probes import few_shot_accuracy
from neurarium.probes.collapse._few_shot import centre_scores, draw_episodes, ridge_scores


@pytest.mark.parametrize("features", [3, 40])
def test_ridge_is_scikit_learns(features):
    """Fewer features than examples take one form, more the other."""
    support = torch.randn(2, 3, 4, features, dtype=torch.float64) + 5
    queries = torch.randn(2, 7, features, dtype=torch.float64) + 5
    scores = ridge_scores(support, queries, 1.7)
    targets = torch.eye(3).repeat_interleave(4, 0).numpy()
    for episode in range(2):
        peer = Ridge(alpha=1.7).fit(support[episode].flatten(0, 1).numpy(), targets)
        expected = torch.from_numpy(peer.predict(queries[episode].numpy()))
        torch.testing.assert_close(scores[episode] + 1 / 3, expected, atol=1e-8, rtol=1e-6)


def test_nearest_centre_is_scikit_learns():
    support, queries = torch.randn(1, 4, 3, 6), torch.randn(1, 50, 6)
    peer = NearestCentroid().fit(support[0].flatten(0, 1).numpy(), torch.arange(4).repeat_interleave(3).numpy())
    assert centre_scores(support, queries, 1.0)[0].argmax(1).tolist() == peer.predict(queries[0].numpy()).tolist()


def test_episodes_are_drawn_without_repeats():
    labels = torch.tensor([3] * 9 + [5] * 6 + [8] * 7 + [9] * 30)[torch.randperm(52)]
    rows = draw_episodes(labels, ways=3, size=6, episodes=50, generator=torch.Generator().manual_seed(1))
    assert rows.shape == (50, 3, 6)
    for episode in rows:
        assert len(episode.unique()) == 18
        found = labels[episode]
        assert bool((found == found[:, :1]).all())
        assert len(found[:, 0].unique()) == 3
    again = draw_episodes(labels, 3, 6, 50, torch.Generator().manual_seed(1))
    assert torch.equal(rows, again)


def test_easy_and_hopeless_features():
    y = torch.arange(200) % 10
    easy = nn.functional.one_hot(y, 10).float()
    for head in ("ridge", "nearest-centre"):
        report = few_shot_accuracy(easy, y, shots=1, queries=10, episodes=30, head=head)
        assert report.accuracy == 1
        noise = torch.randn(200, 10)
        low, high = few_shot_accuracy(noise, y, shots=1, queries=10, episodes=300, head=head).interval
        assert low < 0.22
        assert high > 0.18
    assert "5-way 1-shot" in report.summary()


def test_a_network_is_read_at_its_features():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).half().float()
    x, y = torch.randn(120, 4), torch.arange(120) % 6
    one = few_shot_accuracy(model, [(x, y)], episodes=5, generator=torch.Generator().manual_seed(0))
    two = few_shot_accuracy(model[:2](x).detach(), y, episodes=5, generator=torch.Generator().manual_seed(0))
    assert one.per_episode.tolist() == two.per_episode.tolist()
    state = torch.get_rng_state()
    few_shot_accuracy(model, [(x, y)], layer="", episodes=5, generator=torch.Generator())
    assert torch.equal(state, torch.get_rng_state())


def test_refusals():
    x, y = torch.randn(40, 3), torch.tensor([0] * 20 + [1] * 18 + [4] * 2)
    with pytest.raises(ValueError, match="class 4 has 2 examples"):
        few_shot_accuracy(x, y, ways=2)
    with pytest.raises(ValueError, match="5 ways need as many classes, but there are 3"):
        few_shot_accuracy(x, y)
    with pytest.raises(ValueError, match="head"):
        few_shot_accuracy(x, y, ways=2, head="svm")
    with pytest.raises(ValueError, match="strength"):
        few_shot_accuracy(x, y, ways=2, strength=0.0)
