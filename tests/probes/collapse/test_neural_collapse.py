"""Neural-collapse measures against exact geometries and a plain computation; the head that is found."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.objectives import HeadInput
from neurarium.probes import class_distance_normalized_variance, neural_collapse
from neurarium.theory import collapse_geometry


class Fixed(nn.Module):
    """Gives stored features for example numbers, then a head."""

    def __init__(self, features, *head):
        super().__init__()
        self.features = nn.Parameter(features)
        self.head = nn.Sequential(*head)

    def forward(self, x):
        return self.head(self.features[x])


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


def batches(y, size=7):
    order = torch.randperm(len(y))
    return [(rows, y[rows]) for rows in order.split(size)]


def simplex(k, d):
    basis = torch.linalg.qr(torch.randn(d, k, dtype=torch.float64))[0]
    return ((torch.eye(k, dtype=torch.float64) - 1 / k) @ basis.T).float()


def test_a_collapsed_network_measures_zero():
    means, y = simplex(4, 9), torch.arange(4).repeat_interleave(5)
    report = neural_collapse(Fixed(means[y], linear(2 * means)), batches(y))
    for value in (report.nc1, report.nc2_w, report.nc2_h, report.nc3, report.nc4, report.cdnv):
        assert value == pytest.approx(0, abs=1e-5)
    assert report.min_angle == pytest.approx(math.degrees(math.acos(-1 / 3)), abs=1e-3)
    assert report.simplex_gap == pytest.approx(0, abs=1e-6)
    assert report.self_duality == pytest.approx(0, abs=1e-6)
    assert report.distances("orthogonal")[0] == pytest.approx(math.sqrt(2 - 2 * math.sqrt(3 / 4)), abs=1e-5)
    assert "NC1" in report.summary()


def test_against_a_plain_computation():
    """S_W and S_B written out, and numpy's pseudo-inverse."""
    generator = torch.Generator().manual_seed(3)
    y = torch.tensor([0] * 20 + [1] * 9 + [2] * 4)
    h = (torch.randn(33, 6, generator=generator) + 1000).requires_grad_(False)
    h += y[:, None] * torch.randn(6, generator=generator)
    w1, w2 = torch.randn(5, 6, generator=generator), torch.randn(3, 5, generator=generator)
    model = Fixed(h, linear(w1), nn.Dropout(0.5), linear(w2))
    model.train()
    report = neural_collapse(model, batches(y, 4))
    assert all(module.training for module in model.modules())
    assert report.head == ("head.0", "head.2")

    x, labels = h.double().numpy(), y.numpy()
    mu = np.stack([x[labels == c].mean(0) for c in range(3)])
    within = sum(np.outer(x[i] - mu[c], x[i] - mu[c]) for i, c in enumerate(labels)) / len(x)
    centred = mu - mu.mean(0)
    between = centred.T @ centred / 3
    assert report.nc1 == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-8)) / 3, rel=1e-6)
    w = (w2.double() @ w1.double()).numpy()
    etf = np.eye(3) - 1 / 3
    relation = w @ centred.T
    difference = relation / np.linalg.norm(relation) - etf / np.linalg.norm(etf)
    assert report.nc3 == pytest.approx(np.linalg.norm(difference), rel=1e-6)
    nearest = np.linalg.norm(x[:, None] - mu, axis=2).argmin(1)
    assert report.nc4 == pytest.approx((nearest != (x @ w.T).argmax(1)).mean())
    assert report.cdnv == pytest.approx(class_distance_normalized_variance(h, y).average)


def test_a_predicted_geometry_is_a_target():
    predicted = collapse_geometry((8, 4, 2), 5e-3, 5e-3)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    means = (predicted.gram_h.sqrt() @ rotation).float()
    y = torch.arange(3).repeat_interleave(torch.tensor([8, 4, 2]))
    model = Fixed(means[y], linear((predicted.gram_w.sqrt() @ rotation).float()))
    report = neural_collapse(model, batches(y), target=predicted)
    assert max(report.nc2_w, report.nc2_h, report.nc3) < 1e-5
    assert report.target == "prediction"
    assert report.distances("orthogonal")[0] > 0.1
    with pytest.raises(ValueError, match="4 classes, but there are 3"):
        report.distances(collapse_geometry((8, 4, 2, 2), 5e-3, 5e-3))


def test_the_head_is_what_nothing_interrupts():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.c(self.b(torch.relu(self.a(x))))

    data = [(torch.randn(12, 4), torch.arange(12) % 3)]
    assert neural_collapse(Late(), data).head == ("b", "c")
    assert neural_collapse(Late(), data, head="c").head == ("c",)
    with pytest.raises(ValueError, match="between 'a' and 'b'"):
        neural_collapse(Late(), data, head=["a", "b", "c"])
    with pytest.raises(ValueError, match="'d'"):
        neural_collapse(Late(), data, head=["d"])


def test_labels_with_gaps_and_batches_as_dictionaries():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(4, 9)

        def forward(self, inputs_embeds, attention_mask=None):
            return Output(self.score(inputs_embeds.mean(1)))

    y = torch.tensor([7, 2, 7, 2, 5, 5], dtype=torch.int32)
    data = [{"inputs_embeds": torch.randn(6, 3, 4), "attention_mask": torch.ones(6, 3), "labels": y}]
    report = neural_collapse(Model(), data)
    assert report.classes.tolist() == [2, 5, 7]
    assert report.weight.shape == (3, 4)
    bf16 = neural_collapse(Model().bfloat16(), [{**data[0], "inputs_embeds": data[0]["inputs_embeds"].bfloat16()}])
    assert math.isfinite(bf16.nc1)


@pytest.mark.parametrize(
    ("y", "word"), [(torch.zeros(6).long(), "two classes"), (torch.arange(6) % 2 + 4, "5, but the head has 3")]
)
def test_refused_labels(y, word):
    with pytest.raises(ValueError, match=word):
        neural_collapse(nn.Sequential(nn.Linear(4, 3)), [(torch.randn(6, 4), y)])


def test_other_refusals():
    data = [(torch.randn(6, 4), torch.arange(6) % 3)]
    with pytest.raises(ValueError, match="twice"):
        neural_collapse(nn.Sequential(nn.Linear(4, 3)), iter(data))
    with pytest.raises(ValueError, match="no linear layer"):
        neural_collapse(nn.Flatten(), data)
    with pytest.raises(ValueError, match="target"):
        neural_collapse(nn.Sequential(nn.Linear(4, 3)), data, target="etf")
    with pytest.raises(ValueError, match="not finite"):
        neural_collapse(nn.Sequential(nn.Linear(4, 3)), [(torch.full((6, 4), torch.nan), data[0][1])])


def test_a_copy_made_inside_does_not_speak_for_the_original():
    import copy

    model = nn.Sequential(nn.Linear(4, 3))
    with HeadInput(model) as head:
        model(torch.ones(2, 4))
        copy.deepcopy(model)(torch.zeros(5, 4))
        assert head.features.shape == (2, 4)
