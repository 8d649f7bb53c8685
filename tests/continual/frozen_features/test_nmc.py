"""The nearest-mean classifier and the closed-form heads against scikit-learn, algebra, and the order of the stream."""

import io
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid
from torch import nn

from neurarium.continual import NearestMeanClassifier, StreamingLDA, StreamingRidge, learn_stream
from neurarium.data import load, split_stream
from neurarium.models import FrozenEncoder
from neurarium.testing import check_strategy

ALL = [NearestMeanClassifier, StreamingLDA, StreamingRidge]


def blobs(rows=300, features=6, classes=4, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (rows,), generator=generator)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(99), dtype=torch.float64) * 2
    mixing = torch.randn(features, features, generator=torch.Generator().manual_seed(98), dtype=torch.float64)
    noise = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    return centres[y] + spread * noise @ mixing, y


def fitted(kind, x, y, batch=50, **options):
    model = kind(**options)
    for rows in torch.arange(len(x)).split(batch):
        model.observe(x[rows], y[rows])
    return model


def same_state(a, b, tolerance=1e-12):
    order = [a.classes.index(name) for name in b.classes]
    assert sorted(a.classes) == sorted(b.classes)
    assert torch.allclose(a.means[order], b.means, rtol=tolerance, atol=tolerance)
    assert torch.equal(a.counts[order], b.counts)
    if hasattr(a, "gram"):
        assert torch.allclose(a.gram, b.gram, rtol=tolerance, atol=1e3 * tolerance)


@pytest.mark.parametrize("kind", ALL)
def test_contract(kind):
    check_strategy(kind)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_equals_nearest_centroid_fitted_at_once(batch):
    x, y = blobs()
    test, _ = blobs(200, seed=1)
    peer = NearestCentroid(metric="euclidean").fit(x.numpy(), y.numpy())
    model = fitted(NearestMeanClassifier, x, y, batch)
    assert model.predict(test).argmax(1).tolist() == peer.predict(test.numpy()).tolist()
    assert model.classify(test) == peer.predict(test.numpy()).tolist()


def test_scores_are_half_squared_distances():
    x, y = blobs()
    model = fitted(NearestMeanClassifier, x, y)
    scores, distance = model.scores(x), torch.cdist(x, model.means) ** 2
    assert torch.allclose(scores - scores[:, :1], (distance[:, :1] - distance) / 2, atol=1e-9)
    linear = x @ model.means.T - model.means.square().sum(1) / 2
    assert torch.equal(linear.argmax(1), scores.argmax(1))
    assert torch.allclose(model.predict_proba(x), (-distance).softmax(1), atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_order_and_grouping_do_not_matter(kind):
    x, y = blobs()
    order = torch.randperm(len(x))
    first, second = fitted(kind, x, y, 50), fitted(kind, x[order], y[order], 13)
    same_state(first, second)
    assert torch.equal(first.predict(x).argmax(1), second.predict(x).argmax(1))


@pytest.mark.parametrize("kind", ALL)
def test_merge_is_the_union_and_remove_the_inverse(kind):
    x, y = blobs()
    y[:100] = y[:100] % 2  # the first part knows two classes only
    whole = fitted(kind, x, y)
    a, b = fitted(kind, x[:100], y[:100]), fitted(kind, x[100:], y[100:])
    a.merge(b)
    same_state(a, whole)
    empty = kind()
    empty.merge(b)
    same_state(empty, b)
    a.remove(x[100:], y[100:])
    same_state(a, fitted(kind, x[:100], y[:100]), 1e-11)
    assert set(a.classes) == {0, 1}


def test_old_means_do_not_move_by_a_bit():
    x, y = blobs()
    model = fitted(NearestMeanClassifier, x[y < 2], y[y < 2])
    before = {name: model.means[i].clone() for i, name in enumerate(model.classes)}
    model.observe(x[y >= 2], y[y >= 2])
    assert all(torch.equal(model.means[model.classes.index(name)], mean) for name, mean in before.items())


def test_a_common_shift_changes_nothing_in_single_precision_either():
    x, y = blobs()
    x = x.float()
    shift = torch.full((6,), 1024.0)  # a power of two: little is lost in the features themselves
    plain = fitted(NearestMeanClassifier, x, y).predict(x).argmax(1)
    moved = fitted(NearestMeanClassifier, x + shift, y).predict(x + shift).argmax(1)
    assert float((plain == moved).double().mean()) > 0.99
    cosine = fitted(NearestMeanClassifier, x + shift, y, metric="cosine").predict(x + shift).argmax(1)
    assert (
        float((cosine == fitted(NearestMeanClassifier, x, y, metric="cosine").predict(x).argmax(1)).double().mean()) < 1
    )


def test_accuracy_on_two_gaussians_is_the_normal_distribution_of_half_their_distance():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (200_000,), generator=generator)
    x = torch.randn(200_000, 3, generator=generator)
    x[:, 0] += 2.0 * y - 1
    model = fitted(NearestMeanClassifier, x[:100_000], y[:100_000], 10_000)
    share = (model.predict(x[100_000:]).argmax(1) == y[100_000:]).double().mean()
    assert float(share) == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=0.004)


def test_metrics():
    x, y = blobs()
    unit = nn.functional.normalize(x, dim=1)
    for metric, points in [("cosine", x), ("normalized-mean", unit)]:
        means = torch.stack([points[y == c].mean(0) for c in range(4)])
        expected = (unit @ nn.functional.normalize(means, dim=1).T).argmax(1)
        assert torch.equal(fitted(NearestMeanClassifier, x, y, metric=metric).predict(x).argmax(1), expected)


def test_decay_is_an_exponential_mean():
    z = torch.randn(20, 3, dtype=torch.float64)
    model = NearestMeanClassifier(decay=0.3)
    model.observe(z[:9], torch.zeros(9, dtype=torch.int64))
    model.observe(z[9:], torch.zeros(11, dtype=torch.int64))
    mean = z[0]
    for row in z[1:]:
        mean = 0.7 * mean + 0.3 * row
    assert torch.allclose(model.means[0], mean, atol=1e-12)
    with pytest.raises(ValueError, match="does not go with decay"):
        model.remove(z[:1], [0])


def test_lda_equals_scikit_learn():
    x, y = blobs()
    test, _ = blobs(500, seed=1)
    model = fitted(StreamingLDA, x, y, shrinkage=1e-9)
    peer = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), y.numpy())
    prior = torch.bincount(y).double().log()  # scikit-learn's scores have the classes' frequencies in them
    log_p = torch.from_numpy(peer.predict_log_proba(test.numpy()))
    assert torch.allclose((model.predict(test) + prior).log_softmax(1), log_p, atol=1e-5)


def test_ridge_equals_scikit_learn():
    x, y = blobs()
    model = fitted(StreamingRidge, x, y, strength=0.01)
    level = float(((x - x.mean(0)) ** 2).sum(0).mean())
    peer = Ridge(alpha=0.01 * level).fit(x.numpy(), nn.functional.one_hot(y, 4).double().numpy())
    assert torch.allclose(model.predict(x), torch.from_numpy(peer.predict(x.numpy())), atol=1e-9)


def test_sanity_number_on_raw_digits():
    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    cut = int(0.7 * len(x))
    model = fitted(NearestMeanClassifier, x[order[:cut]], y[order[:cut]].long())
    share = float((model.predict(x[order[cut:]]).argmax(1) == y[order[cut:]]).double().mean())
    assert 0.87 < share < 0.93


def test_labels_of_any_kind_and_ties():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0]])
    model = NearestMeanClassifier().partial_fit(x, ["wolf", "cat", ("a", 1)])
    assert model.classify(torch.tensor([[0.9, 0.1], [-2.0, 0.0], [0.0, 6.0], [0.0, 0.0]])) == [
        "wolf", "cat", ("a", 1), "wolf",  # of equal scores the one seen first
    ]  # fmt: skip
    with pytest.raises(TypeError, match="use classify"):
        model.predict(x)
    late = NearestMeanClassifier()
    late.observe(x[:2], torch.tensor([5, 2]))
    scores = late.predict(x[:2])
    assert scores.shape == (2, 6)
    assert scores.argmax(1).tolist() == [5, 2]
    assert bool((scores[:, [0, 1, 3, 4]] == -math.inf).all())


def test_temperature_is_the_likeliest():
    x, y = blobs(2000, spread=0.6)
    model = fitted(NearestMeanClassifier, x, y)

    def loss(temperature):
        model.temperature = temperature
        return float(
            -model.predict_proba(x)[torch.arange(len(x)), [model.classes.index(c) for c in y.tolist()]].log().mean()
        )

    best = model.fit_temperature(x, y)
    assert loss(best) <= min(loss(best * f) for f in (0.5, 0.8, 1.25, 2.0)) + 1e-9


def test_with_one_class_the_temperature_stays():
    x, _ = blobs(20)
    model = NearestMeanClassifier().partial_fit(x, [3] * 20)
    model.temperature = 0.7
    assert model.fit_temperature(x, [3] * 20) == model.temperature == 0.7
    with pytest.raises(ValueError, match="class 4 was never observed"):
        model.fit_temperature(x, [4] * 20)


@pytest.mark.parametrize("options", [{}, {"metric": "cosine"}, {"metric": "normalized-mean"}, {"decay": 0.1}])
def test_a_class_that_is_forgotten_was_never_there(options):
    x, y = blobs()
    model = fitted(NearestMeanClassifier, x, y, **options)
    without = fitted(NearestMeanClassifier, x[y != 1], y[y != 1], len(x), **options)
    names, means, counts = list(model.classes), model.means.clone(), model.counts.clone()
    model.predict(x)  # what it computed for predictions is stale from here on
    model.forget_class(1)
    rows = [i for i, name in enumerate(names) if name != 1]
    assert model.classes == [names[i] for i in rows]
    assert torch.equal(model.means, means[rows])
    assert torch.equal(model.counts, counts[rows])
    scores = model.predict(x)
    assert bool((scores[:, 1] == -math.inf).all())
    assert torch.equal(scores.argmax(1), without.predict(x).argmax(1))
    with pytest.raises(ValueError, match="class 1 was never observed"):
        model.forget_class(1)
    model.observe(x[y == 1], y[y == 1])
    assert model.classes[-1] == 1
    for name in (0, 1, 2, 3):
        model.forget_class(name)
    with pytest.raises(ValueError, match="no class has been observed yet"):
        model.predict(x)


@pytest.mark.parametrize("kind", [StreamingLDA, StreamingRidge])
def test_one_covariance_for_all_classes_cannot_forget_one(kind):
    x, y = blobs()
    model = fitted(kind, x, y)
    before = model.predict(x)
    with pytest.raises(ValueError, match=r"cannot forget class 1 without its examples: use remove\(x, y\)"):
        model.forget_class(1)
    assert torch.equal(model.predict(x), before)


def test_state_dict_round_trip_through_a_file():
    x, y = blobs()
    for kind in ALL:
        model = fitted(kind, x, y)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        other = kind()
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other.predict(x), model.predict(x))
        other.observe(x, y)
        assert float(other.counts.sum()) == 600


def test_a_stream_of_tasks():
    split = load("digits").map_inputs(lambda x: x.double().flatten(1))
    matrix = learn_stream(NearestMeanClassifier(), split_stream(split, 2))
    assert matrix.average_accuracy > 0.85
    assert matrix.forgetting > 0


@pytest.mark.parametrize("kind", ALL)
def test_refusals(kind):
    x, y = blobs(20)
    model = kind()
    with pytest.raises(ValueError, match="no class has been observed yet"):
        model.predict(x)
    model.observe(x, y)
    with pytest.raises(ValueError, match="6 values as before, not 5"):
        model.predict(x[:, :5])
    broken = x.clone()
    broken[[3, 7]] = math.nan
    before = model.means.clone()
    with pytest.raises(ValueError, match="2 examples are not finite, the first at index 3"):
        model.observe(broken, y)
    with pytest.raises(ValueError, match="20 examples but y has 19"):
        model.observe(x, y[:19])
    assert torch.equal(model.means, before)
    with pytest.raises(ValueError, match="never observed"):
        model.remove(x[:1], [9])
    with pytest.raises(ValueError, match="fewer than are to be removed"):
        model.remove(x[:1].expand(30, -1), y[:1].expand(30))
    other = NearestMeanClassifier(metric="cosine")
    with pytest.raises(ValueError, match="same class and metric"):
        model.merge(other)


def test_encoder_of_any_kind():
    x, y = blobs(40)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    by_module = NearestMeanClassifier(FrozenEncoder(net, layer="1"))
    by_module.observe(x, y)
    assert by_module.means.shape == (4, 5)
    assert not any(p.requires_grad for p in by_module.parameters())
    by_function = NearestMeanClassifier(lambda x: net[:2](x))
    by_function.observe(x, y)
    assert torch.equal(by_module.predict(x), by_function.predict(x))


@pytest.mark.parametrize("kind", [NearestMeanClassifier, StreamingLDA, StreamingRidge])
def test_labels_of_every_type_are_the_same_classes(kind):
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    y = (torch.arange(40) % 3) * 2  # classes 0, 2 and 4
    plain = kind()
    plain.observe(x, y)
    for labels in (
        y.int(), y.to(torch.uint8), y.numpy(), y.numpy().astype(np.int16), list(y.numpy()), list(y), y.double(),
    ):  # fmt: skip
        other = kind()
        other.observe(x, labels)
        assert other.classes == plain.classes
        assert torch.equal(other.predict(x), plain.predict(x))
        assert other.fit_temperature(x, labels) == plain.fit_temperature(x, y)
    with pytest.raises(ValueError, match="label 1 is NaN"):
        kind().observe(x[:2], [0, float("nan")])


@pytest.mark.parametrize("kind", [StreamingLDA, StreamingRidge])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_example_of_each_class_gives_the_nearest_mean(kind, dtype):
    x = torch.eye(4)[:, :3] + 100
    head = kind(dtype=dtype)
    head.observe(x, torch.arange(4))
    assert head.classify(x) == [0, 1, 2, 3]
    assert bool(head.scores(x).isfinite().all())
    one = kind(dtype=dtype)
    one.observe(x[:1], [7])
    assert one.classify(x) == [7] * 4
    assert bool(one.predict_proba(x).isfinite().all())
    assert one.fit_temperature(x[:1], [7]) == 1.0


def test_a_cast_does_not_round_what_was_counted():
    x = 1e5 + torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    head = NearestMeanClassifier()
    head.observe(x, torch.arange(40) % 2)
    means = head.means.clone()
    assert torch.equal(head.half().float().means, means)


@pytest.mark.parametrize("kind", [StreamingLDA, StreamingRidge])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_scale_and_shift_of_features_change_no_prediction(kind, scale, shift):
    x, y = blobs()
    single = fitted(kind, (scale * (x + shift)).float(), y, dtype=torch.float32)
    assert sum(a == b for a, b in zip(single.classify((scale * (x + shift)).float()), y.tolist(), strict=True)) > 270
    plain, moved = (fitted(kind, z, y) for z in (x, scale * (x.double() + shift)))
    assert plain.classify(x) == moved.classify(scale * (x.double() + shift))
    half = moved.__class__()
    half.observe(scale * (x[::2].double() + shift), y[::2])
    other = moved.__class__()
    other.observe(scale * (x[1::2].double() + shift), y[1::2])
    half.merge(other)
    assert half.classify(scale * (x.double() + shift)) == plain.classify(x)
