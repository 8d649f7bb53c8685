"""The other models of annotators: their starts, their formulas, and that they learn."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from neurarium.data import CrowdBatches, crowd_matrix
from neurarium.objectives import CommonConfusion, CrowdLayer, LowRankConfusion, TraceRegularised, UnionNet
from neurarium.training import fit

METHODS = [CrowdLayer, TraceRegularised, UnionNet, CommonConfusion, LowRankConfusion]


def made(kind, annotators=3, **options):
    torch.manual_seed(0)
    return kind(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), annotators, **options)


def batch():
    g = torch.Generator().manual_seed(0)
    said = torch.randint(-1, 3, (8, 3), generator=g)
    rows, annotators = (said >= 0).nonzero(as_tuple=True)
    return torch.randn(8, 4, generator=g), said, rows, annotators, said[rows, annotators]


def test_formulas():
    x, said, rows, annotators, labels = batch()
    model = made(CrowdLayer)
    model.matrices.data += 0.3 * torch.randn(3, 3, 3)
    p = model.predict_proba(x)
    scores = torch.stack([model.matrices[m] @ p[n] for n, m in zip(rows, annotators, strict=True)])
    torch.testing.assert_close(model.loss(x, said), cross_entropy(scores, labels))

    model = made(TraceRegularised, strength=0.2)
    p, matrix = model.predict_proba(x), model.logits.softmax(2)
    each = torch.stack([p[n] @ matrix[m] for n, m in zip(rows, annotators, strict=True)])
    trace = torch.stack([m.trace() for m in matrix]).mean()
    expected = -each.gather(1, labels[:, None]).log().mean() + 0.2 * trace
    torch.testing.assert_close(model.loss(x, said), expected)

    model = made(UnionNet)
    union = model.predict_proba(x) @ model.matrix.softmax(0).T  # [batch, annotators * classes]
    torch.testing.assert_close(model.loss(x, said), -union[rows, 3 * annotators + labels].log().mean())

    model = made(CommonConfusion, strength=0.1)
    model.own.data += 0.3 * torch.randn(3, 3, 3)
    logits, features = model.perceive(x)
    p, u = logits.softmax(1), normalize(model.embed_example(features), dim=1)
    v = normalize(model.embed_annotator(torch.eye(3)), dim=1)
    scores = []
    for n, m in zip(rows, annotators, strict=True):
        share = (u[n] @ v[m]).sigmoid()
        scores.append(share * p[n] @ model.common + (1 - share) * p[n] @ model.own[m])
    apart = sum((own - model.common).norm() for own in model.own)
    torch.testing.assert_close(model.loss(x, said), cross_entropy(torch.stack(scores), labels) - 0.1 * apart)

    model = made(LowRankConfusion, rank=2, vote_batches=0).eval()
    logits, features = model.perceive(x)
    c = model.competences(torch.eye(3)).view(3, 3, 3, 2)
    d = model.difficulties(features).view(8, 3, 3, 2)
    total = 0.0
    for n, m, z in zip(rows, annotators, labels, strict=True):
        matrix = (c[m] * d[n]).sum(2).softmax(1)
        total -= (logits[n].softmax(0) @ matrix[:, z]).log()
    torch.testing.assert_close(model.loss(x, said), total / len(rows))


def test_votes_come_first_where_nothing_says_which_class_is_which():
    x, said, *_ = batch()
    model = made(LowRankConfusion, vote_batches=2)
    early = model.loss(x, said)
    model.loss(x, said)
    assert int(model.seen) == 2
    assert float((early - model.loss(x, said)).abs()) > 1e-3


@pytest.mark.parametrize("kind", METHODS)
def test_each_learns_from_a_crowd_that_is_mostly_right(kind):
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (400,), generator=g)
    x = torch.eye(4)[y] * 3 + torch.randn(400, 4, generator=g)
    right = torch.rand(400, 4, generator=g) < torch.tensor([0.9, 0.7, 0.6, 0.6])
    said = torch.where(right, y[:, None], (y[:, None] + 1) % 3)
    said[torch.rand(said.shape, generator=g) < 0.3] = -1
    model = made(kind, 4)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    fit(model, CrowdBatches(x, crowd_matrix(said), 50, shuffle=True), optimizer, epochs=25)
    assert float((model.eval()(x).argmax(1) == y).double().mean()) > 0.85
