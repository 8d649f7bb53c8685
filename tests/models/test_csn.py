"""Concept-subspace networks: every loss term by hand, hierarchies, missing labels, concepts added later."""

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss, nll_loss

from neurarium.models import ConceptSubspaceNetwork, ConceptWeights
from neurarium.probes import concept_slope

X = torch.randn(12, 5, generator=torch.Generator().manual_seed(3))
Y = {"digit": torch.arange(12) % 4, "parity": torch.arange(12) % 2}


def network(concepts=None, *, variational=True, features=6, **more):
    torch.manual_seed(0)
    encoder = nn.Linear(5, features * (2 if variational else 1))
    return ConceptSubspaceNetwork(
        encoder, features, concepts or {"digit": 4, "parity": 2}, variational=variational, **more
    )


def test_every_term_by_hand():
    weights = {"digit": ConceptWeights(2.0, 3.0, 5.0, 7.0), "parity": ConceptWeights(1.0, 0.0, 0.0, 0.0)}
    model = network(
        weights=weights, relations={("digit", "parity"): 11.0}, decoder=nn.Linear(6, 5), reconstruction=13.0
    )
    model.eval()
    terms = model.losses(X, Y)
    mean, log_variance = model.encoder(X).chunk(2, 1)
    p = model.prototypes("digit")
    q = torch.linalg.qr((p[1:] - p[0]).T).Q
    projected = p[0] + (mean - p[0]) @ q @ q.T
    distances = torch.cdist(projected, p).square()
    b = (model.prototypes("parity")[1] - model.prototypes("parity")[0]).unsqueeze(1)
    kl = -0.5 * (1 + log_variance - (mean - projected) ** 2 - log_variance.exp()).mean()
    expected = {
        "digit/classification": 2 * nll_loss((-distances).log_softmax(1), Y["digit"]),
        "digit/near": 3 * distances.min(1).values.mean(),
        "digit/cover": 5 * distances.min(0).values.mean(),
        "digit/kl": 7 * kl,
        "parity/classification": nll_loss(model(X)["parity"], Y["parity"]),
        "digit~parity": 11 * ((q.T @ b / b.norm()) ** 2).mean(),
        "reconstruction": 13 * mse_loss(model.decoder(mean), X),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-4), name
    assert float(model.loss(X, Y)) == pytest.approx(sum(float(t) for t in expected.values()), rel=1e-4)


def test_encodings_on_the_subspace_with_unit_variance_have_no_divergence():
    model = network(weights={"digit": ConceptWeights(0.0, 0.0, 0.0, 1.0), "parity": ConceptWeights(0.0, 0.0, 0.0, 0.0)})
    target = model.concepts["digit"].project(torch.randn(6)).detach()
    with torch.no_grad():
        model.encoder.weight.zero_()
        model.encoder.bias.copy_(torch.cat([target, torch.zeros(6)]))
    assert float(model.eval().losses(X, Y)["digit/kl"]) == pytest.approx(0, abs=1e-6)


def test_latents_are_drawn_in_training_only():
    model = network()
    assert torch.equal(model.eval()(X)["digit"], model(X)["digit"])
    assert not torch.equal(model.train()(X)["digit"], model(X)["digit"])
    mean, log_variance = model.encode(X)
    draws = torch.stack([model.sample(mean, log_variance) for _ in range(4000)])
    assert torch.allclose(draws.mean(0), mean, atol=0.15)
    assert torch.allclose(draws.var(0).log(), log_variance, atol=0.2)


def test_alignment_follows_the_sign_of_the_relation():
    found = {}
    for weight in (-10.0, 100.0):
        model = network(relations={("digit", "parity"): weight})
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(150):
            optimizer.zero_grad()
            model.loss(X, Y).backward()
            optimizer.step()
        found[weight] = float(model.alignment()["digit", "parity"].detach())
    assert found[-10.0] > 0.3  # its maximum is 1 / 3
    assert found[100.0] < 0.005


def test_orthogonal_concepts_do_not_move_each_other():
    model = network({"a": 2, "b": 2}, features=2)
    with torch.no_grad():
        model.prototypes("a").copy_(torch.tensor([[-1.0, 0.3], [1.0, 0.3]]))
        model.prototypes("b").copy_(torch.tensor([[0.2, -1.0], [0.2, 1.0]]))
    z = torch.randn(20, 2)
    shifted = z + torch.tensor([5.0, 0.0])
    assert torch.allclose(model.classify(z)["b"], model.classify(shifted)["b"], atol=1e-5)
    targets = torch.arange(20) % 2
    link = concept_slope(z, targets, lambda v: model.classify(v)["a"], lambda v: model.classify(v)["b"])
    assert link.slope == pytest.approx(0, abs=1e-5)
    assert link.first > 0.01


def test_a_hierarchy_predicts_jointly_and_learns_among_siblings():
    parents = (0, 1, 0, 1)
    model = network(hierarchy={"digit": ("parity", parents)}, subspace=False).eval()
    found = model(X)
    assert torch.allclose(found["digit"].exp().sum(1), torch.ones(12))
    for parent in (0, 1):
        children = [i for i, p in enumerate(parents) if p == parent]
        assert torch.allclose(found["digit"].exp()[:, children].sum(1), found["parity"].exp()[:, parent])
    mean, _ = model.encode(X)
    scores = (-torch.cdist(mean, model.prototypes("digit")).square()).exp()
    own = scores.gather(1, Y["digit"].unsqueeze(1))[:, 0]
    sibling = scores.gather(1, ((Y["digit"] + 2) % 4).unsqueeze(1))[:, 0]
    expected = -(own / (own + sibling)).log().mean()
    assert float(model.losses(X, Y)["digit/classification"]) == pytest.approx(expected.item(), rel=1e-4)


def test_missing_labels_count_for_nothing():
    model = network(variational=False)
    some = {"digit": torch.where(torch.arange(12) < 5, Y["digit"], -1)}
    part = model.losses(X, some)
    assert float(part["digit/classification"]) == pytest.approx(
        float(nll_loss(model(X)["digit"][:5], Y["digit"][:5])), rel=1e-5
    )
    assert "parity/classification" not in part
    none = model.losses(X, {"digit": torch.full((12,), -1)})
    assert float(none["digit/classification"]) == 0


def test_a_concept_added_later_leaves_the_others_as_they_are():
    model = network().eval()
    before = model(X)["digit"]
    model.encoder.requires_grad_(False)
    model.add_concept("third", 3)
    optimizer = torch.optim.Adam(model.concepts["third"].parameters(), 0.05)
    target = {"third": model.encode(X)[0][:, 0].argsort().argsort() * 3 // 12}
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(X, target).backward()
        optimizer.step()
    assert torch.equal(model(X)["digit"], before)
    assert float((model(X)["third"].argmax(1) == target["third"]).float().mean()) > 0.6


def test_one_concept_in_the_whole_space_is_a_prototype_network():
    model = network({"digit": 4}, subspace=False, variational=False)
    distances = torch.cdist(model.encoder(X), model.prototypes("digit")).square()
    assert torch.allclose(model(X)["digit"], (-distances).log_softmax(1), atol=1e-5)


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: network({"a": 1}), "concept 'a' needs at least 2 classes"),
        (lambda: network(relations={("digit", "colour"): 1.0}), "unknown concept 'colour' in relations"),
        (lambda: network(weights={"colour": ConceptWeights()}), "unknown concept 'colour' in weights"),
        (lambda: network(relations={("digit", "digit"): 1.0}), "needs two concepts"),
        (lambda: network(hierarchy={"digit": ("parity", (0, 1))}), "parent of each of its classes"),
        (lambda: network(hierarchy={"digit": ("parity", (0, 1, 2, 1))}), "no class of 'parity'"),
        (lambda: network().loss(X, {"digit": torch.full((12,), 4)}), "targets of concept 'digit' must lie in 0..3"),
        (lambda: network().loss(X, {"colour": Y["digit"]}), "unknown concept 'colour' in targets"),
        (lambda: network().add_concept("digit", 3), "a concept 'digit' already"),
        (
            lambda: network({"a": 2}, weights={"a": ConceptWeights(near=0.0, cover=0.0)}).loss(X, {}),
            "no term of the loss has a weight",
        ),
        (lambda: ConceptSubspaceNetwork(nn.Linear(5, 6), 6, {"a": 2})(X), "must give 12 features, not 6"),
    ],
)
def test_bad_requests(use, sentence):
    with pytest.raises(ValueError, match=sentence):
        use()


def test_impossible_orthogonality_is_said():
    with pytest.warns(UserWarning, match=r"cannot be orthogonal: 3 \+ 1 dimensions in 3"):
        network(features=3, relations={("digit", "parity"): 1.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(features=3, relations={("digit", "parity"): -1.0})
    assert math.isfinite(float(network().loss(X, Y)))


def test_targets_are_class_indices_of_any_width():
    net = ConceptSubspaceNetwork(nn.Linear(4, 6), 3, {"a": 3})
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    torch.manual_seed(1)
    wanted = net.loss(x, {"a": y})
    for kind in (torch.int32, torch.int8):
        torch.manual_seed(1)
        assert torch.equal(net.loss(x, {"a": y.to(kind)}), wanted)
    with pytest.raises(ValueError, match=r"targets of concept 'a' must be class indices .and -1, not NaN"):
        net.loss(x, {"a": torch.full((8,), float("nan"))})
    with pytest.raises(ValueError, match=r"targets of concept 'a' must be class indices, not torch.float32"):
        net.loss(x, {"a": y.float()})
