"""MaDL against sums in probability space, closed forms, Dawid and Skene, and its limiting cases."""

import copy
import math

import pytest
import torch
from scipy.stats import gamma as gamma_distribution
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, CrowdBatches, crowd_matrix
from neurarium.learning import dawid_skene
from neurarium.objectives import AnnotatorPerformance, AnnotatorWeights, MaDL
from neurarium.objectives.crowd._crowd_model import marginal
from neurarium.probes import annotator_report, crowd_scores
from neurarium.training import fit

KINDS = [(c, x) for c in ("isotropic", "diagonal", "full") for x in (True, False)]


def classifier(classes=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, classes))


def batch(n=8, annotators=3, classes=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    said = torch.randint(-1, classes, (n, annotators), generator=g)
    return torch.randn(n, 4, generator=g), said


@pytest.mark.parametrize(("confusion", "dependent"), KINDS)
@pytest.mark.parametrize("classes", [2, 5])
def test_at_the_start_everybody_has_the_prior_accuracy(confusion, dependent, classes):
    model = AnnotatorPerformance(4, classes, 6, confusion=confusion, instance_dependent=dependent, prior_accuracy=0.7)
    nn.init.zeros_(model.head.weight)
    matrix = model(torch.randn(5, 6)).exp()
    expected = torch.full((classes, classes), 0.3 / (classes - 1)).fill_diagonal_(0.7)
    torch.testing.assert_close(matrix, expected.expand(5, 4, classes, classes))


@pytest.mark.parametrize(("confusion", "dependent"), KINDS)
def test_rows_of_confusions_add_up_and_single_labels_are_their_columns(confusion, dependent):
    torch.manual_seed(0)
    model = AnnotatorPerformance(4, 3, 6, confusion=confusion, instance_dependent=dependent).double().eval()
    features = torch.randn(5, 6, dtype=torch.float64)
    matrix = model(features)
    torch.testing.assert_close(matrix.exp().sum(3), torch.ones(5, 4, 3, dtype=torch.float64))
    rows, annotators = torch.cartesian_prod(torch.arange(5), torch.arange(4)).T
    labels = torch.randint(0, 3, (20,))
    columns = model.log_likelihoods(features, rows, annotators, labels)
    torch.testing.assert_close(columns, matrix[rows, annotators, :, labels])
    assert (matrix[0] - matrix[1]).abs().max() > 1e-3 if dependent else torch.equal(matrix[0], matrix[1])


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_the_fast_hidden_layer_is_the_one_on_concatenated_pairs(outer, residual):
    torch.manual_seed(0)
    model = AnnotatorPerformance(3, 2, 6, embedding_dim=5, outer_product=outer, residual=residual).double().eval()
    h = torch.randn(4, 6, dtype=torch.float64)
    e, g = model.embed.weight.T + model.embed.bias, model.embed_example(h)
    for n in range(4):
        for m in range(3):
            parts = [e[m], g[n]]
            if outer:
                s = e[m] + g[n]
                parts.append(torch.stack([s @ omega @ s for omega in model.product]))
            z = model.norm(model.hidden(torch.cat(parts))[None])
            z = model.out_norm(model.out(z.relu()))
            z = model.head((z + e[m]).relu() if residual else z)
            torch.testing.assert_close(model(h)[n, m], z.view(2, 2).log_softmax(1))


def test_the_likelihood_is_a_sum_over_true_classes():
    torch.manual_seed(0)
    model, (x, said) = MaDL(classifier(), 2, weights=False).double().eval(), batch(4, 2)
    x = x.double()
    p, matrix = model.predict_proba(x), model.confusion(x)
    total, count = 0.0, 0
    for n in range(4):
        for m in range(2):
            if said[n, m] >= 0:
                total -= math.log(sum(float((p[n, c] * matrix[n, m, c, said[n, m]]).detach()) for c in range(3)))
                count += 1
    assert float(model.loss(x, said)) == pytest.approx(total / count, rel=1e-10)


def test_both_forms_of_annotations_give_one_loss():
    model, (x, said) = MaDL(classifier(), 3).eval(), batch()
    rows, annotators = (said >= 0).nonzero(as_tuple=True)
    order = torch.randperm(len(rows))
    flat = (rows[order], annotators[order], said[rows, annotators][order])
    torch.testing.assert_close(model.loss(x, said), model.loss(x, flat))
    assert float(model.loss(x, torch.full((8, 3), -1))) == 0
    model.train().loss(x[:1], torch.tensor([[1, -1, -1]])).backward()  # one label is enough


def test_perfect_annotators_are_labels():
    torch.manual_seed(0)
    model = MaDL(classifier(), 1, weights=False, confusion="isotropic", instance_dependent=False)
    plain = copy.deepcopy(model.model)
    nn.init.zeros_(model.performance.head.weight)
    model.performance.head.bias.data.fill_(40.0)
    x, y = torch.randn(9, 4), torch.arange(9) % 3
    loss, expected = model.loss(x, y[:, None]), cross_entropy(plain(x), y)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for p, q in zip(model.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_no_gradient_of_the_annotators_reaches_the_features():
    model, (x, said) = MaDL(classifier(), 3, weights=False), batch()
    logits, features = model.perceive(x)
    features.retain_grad()
    rows, annotators = (said >= 0).nonzero(as_tuple=True)
    model.pair_loss(logits.detach(), features, rows, annotators, said[rows, annotators]).backward()
    assert features.grad is None
    assert model.performance.embed_example.weight.grad is not None


def test_weights_are_shares_of_a_vote():
    weights = AnnotatorWeights()
    apart = 100 * torch.eye(4)
    torch.testing.assert_close(weights(apart), torch.ones(4))
    copies = torch.cat([apart, apart[:1].repeat(3, 1)])  # the first has three copies
    found = weights(copies)
    torch.testing.assert_close(found, 7 / 4 * torch.tensor([0.25, 1, 1, 1, 0.25, 0.25, 0.25]))
    order = torch.randperm(7)
    torch.testing.assert_close(weights(copies[order]), found[order])


def test_the_bandwidth_has_the_gradient_of_the_dense_formula():
    torch.manual_seed(0)
    e, values = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    ours = AnnotatorWeights(2.0, 3.0).double()
    (ours(e) @ values).backward()
    gamma = torch.tensor(1 / 3, dtype=torch.float64, requires_grad=True)
    rare = 1 / torch.exp(-gamma * torch.cdist(e, e).square()).sum(1)
    (6 * rare / rare.sum() @ values).backward()
    assert float(ours.gamma.grad) == pytest.approx(float(gamma.grad), rel=1e-6)


def test_the_prior_is_a_gamma_distribution_whose_mode_is_the_start():
    weights = AnnotatorWeights(1.25, 0.25)
    assert float(weights.gamma) == pytest.approx(1.0)
    penalty = weights.penalty()
    assert float(penalty) == pytest.approx(-gamma_distribution.logpdf(1.0, 1.25, scale=4.0), rel=1e-6)
    penalty.backward()
    assert float(weights.gamma.grad) == pytest.approx(0.0, abs=1e-6)


def test_annotators_may_be_permuted_and_idle_ones_added():
    x, said = batch()
    torch.manual_seed(1)
    model = MaDL(classifier(), 3, weights=False).eval()
    order = torch.tensor([2, 0, 1])
    moved = copy.deepcopy(model)
    moved.performance.embed.weight.data = model.performance.embed.weight.data[:, order]
    torch.testing.assert_close(moved.loss(x, said[:, order]), model.loss(x, said))
    torch.testing.assert_close(moved.annotator_accuracy(x), model.annotator_accuracy(x)[:, order])
    more = MaDL(classifier(), 4, weights=False).eval()
    state = model.state_dict()
    state["performance.embed.weight"] = torch.cat([state["performance.embed.weight"], torch.randn(16, 1)], 1)
    more.load_state_dict(state)
    torch.testing.assert_close(more.loss(x, torch.cat([said, torch.full((8, 1), -1)], 1)), model.loss(x, said))


def test_constant_features_and_full_confusions_find_what_dawid_and_skene_find():
    g = torch.Generator().manual_seed(0)
    n, classes, accuracy = 1500, 3, torch.tensor([0.9, 0.75, 0.6, 0.7])
    y = torch.randint(0, classes, (n,), generator=g)
    right = torch.rand(n, 4, generator=g) < accuracy
    wrong = (y[:, None] + torch.randint(1, classes, (n, 4), generator=g)) % classes
    said = torch.where(right, y[:, None], wrong)
    crowd = crowd_matrix(said)
    em = dawid_skene(crowd.items, crowd.workers, crowd.labels, n, 4, classes, tolerance=1e-10)
    torch.manual_seed(0)
    per_item = nn.Sequential(nn.Identity(), nn.Linear(n, classes, bias=False))  # a free class distribution per item
    nn.init.zeros_(per_item[1].weight)
    model = MaDL(per_item, 4, weights=False, instance_dependent=False, prior_accuracy=0.7)
    # the likelihood of all labels of an item together is Dawid and Skene's: items are chosen by posterior steps
    posterior = em.probabilities.float()
    optimizer = torch.optim.LBFGS(model.performance.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    rows, annotators = torch.cartesian_prod(torch.arange(n), torch.arange(4)).T
    labels = said.flatten()

    def closure():
        optimizer.zero_grad()
        given = model.performance.log_likelihoods(torch.ones(n, n), rows, annotators, labels)
        loss = -(posterior[rows] * given).sum() / n
        loss.backward()
        return loss

    optimizer.step(closure)
    found = model.performance(torch.ones(1, n))[0].exp()
    assert float((found - em.confusion.float()).abs().max()) < 0.02
    truth = torch.stack([torch.full((3, 3), float(1 - a) / 2).fill_diagonal_(float(a)) for a in accuracy])
    assert float((em.confusion - truth).abs().max()) < 0.06


def test_it_learns_who_is_wrong_without_a_true_label():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (400,), generator=g)
    x = torch.eye(4)[y] * 3 + torch.randn(400, 4, generator=g)
    liar = (y + 1) % 3
    half = [torch.where(torch.rand(400, generator=g) < 0.7, y, liar) for _ in range(2)]
    said = torch.stack([y, *half, liar], 1)
    said[torch.rand(said.shape, generator=g) < 0.5] = -1
    torch.manual_seed(0)
    model = MaDL(classifier(), 4, instance_dependent=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    fit(model, CrowdBatches(x, crowd_matrix(said), 50, shuffle=True), optimizer, epochs=30)
    scores = crowd_scores(model, x, y, said)
    assert scores.accuracy > 0.9
    assert scores.annotator_balanced_accuracy > 0.75
    report = annotator_report(model, x)
    assert report.accuracy[0] > 0.9 > 0.85 > report.accuracy[1] > 0.5 > 0.15 > report.accuracy[3]
    assert report.nearest[1:3].tolist() == [2, 1]
    assert report.weights[1:3].max() < report.weights[[0, 3]].min()
    assert "4 annotators" in report.summary()


def test_described_annotators_score_those_who_come_later():
    torch.manual_seed(0)
    attributes = torch.randn(5, 2)
    model, (x, said) = MaDL(classifier(), attributes), batch(annotators=5)
    fit(model, Batches(Arrays(x, said), 4), torch.optim.Adam(model.parameters(), 1e-3))
    model.eval()
    torch.testing.assert_close(model.annotator_accuracy(x, attributes[1:3]), model.annotator_accuracy(x)[:, 1:3])
    assert model.confusion(x, torch.randn(7, 2)).shape == (8, 7, 3, 3)
    with pytest.raises(ValueError, match="attributes"):
        MaDL(classifier(), 5).annotator_accuracy(x, attributes)


def test_marginal_of_a_certain_classifier_is_the_confusion():
    confusion = torch.randn(2, 3).log_softmax(1)
    logits = torch.tensor([[0.0, 90.0, 0.0]])
    torch.testing.assert_close(marginal(logits, torch.tensor([0, 0]), confusion), confusion[:, 1])


def test_refusals():
    x, said = batch()
    model = MaDL(classifier(), 3)
    with pytest.raises(ValueError, match=r"\[8, 3\], not \[8, 2\]"):
        model.loss(x, said[:, :2])
    with pytest.raises(ValueError, match="labels of annotations must be from 0 to 2, not 0 to 3"):
        model.loss(x, torch.where(said == 2, 3, said))
    with pytest.raises(ValueError, match="one length"):
        model.loss(x, (torch.zeros(2), torch.zeros(3), torch.zeros(3)))
    with pytest.raises(ValueError, match="but its last layer '0' has 6"):
        MaDL(classifier(), 3, layer="0").loss(x, said)
    with pytest.raises(ValueError, match="no module '7'"):
        MaDL(classifier(), 3, layer="7")
    with pytest.raises(ValueError, match="confusion must be one of"):
        MaDL(classifier(), 3, confusion="sparse")
    with pytest.raises(ValueError, match="prior_accuracy"):
        MaDL(classifier(), 3, prior_accuracy=1.0)
    with pytest.raises(ValueError, match="positive"):
        AnnotatorWeights(0.0)
    with pytest.raises(ValueError, match="no linear layer"):
        MaDL(nn.Tanh(), 3)
