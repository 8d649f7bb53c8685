"""Geometry of prototype subspaces: projections, distances, and a QR that survives coinciding prototypes."""

import pytest
import torch

from neurarium.layers import GradientReversal, PrototypeSubspace
from neurarium.objectives import subspace_alignment


def layer(features=6, classes=4, **more):
    generator = torch.Generator().manual_seed(0)
    return PrototypeSubspace(features, classes, scale=1.0, dtype=torch.float64, generator=generator, **more)


def points(rows=7, features=6, seed=1):
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_projection():
    concept, z = layer(), points()
    projected = concept.project(z)
    assert torch.allclose(concept.project(projected), projected, atol=1e-12)
    assert torch.allclose(concept.project(concept.prototypes), concept.prototypes, atol=1e-5)
    differences = (concept.prototypes[1:] - concept.prototypes[0]).detach()
    assert torch.allclose((z - projected) @ differences.T, torch.zeros(7, 3, dtype=torch.float64), atol=1e-5)


def test_distances_are_those_of_projected_points():
    concept, z = layer(), points()
    direct = torch.cdist(concept.project(z), concept.prototypes).square()
    assert torch.allclose(concept.distances(z), direct, atol=1e-5)
    outside = z - concept.project(z)
    assert torch.allclose(concept.distances(z + 3 * outside), concept.distances(z), atol=1e-10)
    assert not torch.allclose(layer(subspace=False).distances(z + 3 * outside), layer(subspace=False).distances(z))


def test_as_many_prototypes_as_dimensions_measure_whole_space():
    for classes in (7, 9):
        inside, whole = layer(classes=classes), layer(classes=classes, subspace=False)
        assert inside.dim == 6
        assert torch.allclose(inside(points()), whole(points()), atol=1e-12)
    assert torch.allclose(layer(classes=3)(points()), layer(classes=3, subspace=False)(points()), atol=1e-5)


def test_probabilities_of_duplicated_prototypes_add_up():
    concept, z = layer(duplication=2), points()
    scores = (-torch.cdist(concept.project(z), concept.prototypes).square()).softmax(1)
    expected = scores[:, ::2] + scores[:, 1::2]
    assert torch.allclose(concept(z).exp(), expected, atol=1e-5)
    assert torch.allclose(concept(z).exp().sum(1), torch.ones(7, dtype=torch.float64))


def test_residual():
    concept, z = layer(), points()
    assert torch.allclose(concept.residual(z), z - concept.project(z))
    assert float(concept.residual(concept.project(z)).detach().abs().max()) < 1e-12
    whole = layer(subspace=False)
    weights = (-torch.cdist(z, whole.prototypes).square() / 0.1).softmax(1)
    offsets = z.unsqueeze(1) - whole.prototypes
    assert torch.allclose(whole.residual(z), (weights.unsqueeze(2) * offsets).sum(1), atol=1e-12)


def test_gradients_through_the_basis():
    concept, z = layer(features=4, classes=3), points(5, 4)
    fixed = points(4, 1, seed=3)

    def loss(prototypes):
        clone = layer(features=4, classes=3)
        return subspace_alignment(torch.func.functional_call(Basis(clone), {"inner.prototypes": prototypes}, ()), fixed)

    assert torch.autograd.gradcheck(loss, concept.prototypes)
    concept(z)[:, 0].sum().backward()
    assert bool(torch.isfinite(concept.prototypes.grad).all())


class Basis(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self):
        return self.inner.basis()


def test_coinciding_prototypes():
    concept = layer()
    with torch.no_grad():
        concept.prototypes[2] = concept.prototypes[1]
    with pytest.warns(UserWarning, match="ill-conditioned"):
        q = concept.basis()
    assert torch.allclose(q.T @ q, torch.eye(3, dtype=torch.float64), atol=1e-10)
    q.square().sum().backward()
    assert bool(torch.isfinite(concept.prototypes.grad).all())


def test_alignment():
    eye = torch.eye(12, dtype=torch.float64)
    nine, one = eye[:, :9], eye[:, 2:3]
    assert float(subspace_alignment(nine, nine)) == pytest.approx(1 / 9)
    assert float(subspace_alignment(nine, one)) == pytest.approx(1 / 9)
    assert float(subspace_alignment(nine, eye[:, 9:])) == 0
    assert float(subspace_alignment(nine, one, "max")) == 1
    a, b = torch.linalg.qr(points(12, 4)).Q, torch.linalg.qr(points(12, 3, seed=2)).Q
    turn = torch.linalg.qr(points(4, 4, seed=5)).Q
    assert float(subspace_alignment(a @ turn, b)) == pytest.approx(float(subspace_alignment(a, b)))
    expected = torch.trace(a @ a.T @ b @ b.T) / 12
    assert float(subspace_alignment(a, b)) == pytest.approx(float(expected))


def test_alignment_does_not_depend_on_which_prototype_is_first():
    one, two = layer(), layer(classes=3)
    with torch.no_grad():
        two.prototypes += 1.0
    before = float(subspace_alignment(one.basis(), two.basis()).detach())
    with torch.no_grad():
        one.prototypes.copy_(one.prototypes[[2, 0, 3, 1]] + 5.0)
    assert float(subspace_alignment(one.basis(), two.basis()).detach()) == pytest.approx(before, abs=1e-5)


def test_gradient_reversal():
    x = points().requires_grad_()
    GradientReversal(2.5)(x).square().sum().backward()
    assert torch.allclose(x.grad, -5 * x)
    assert torch.equal(GradientReversal()(x), x)


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: PrototypeSubspace(4, 1), "num_classes must be at least 2"),
        (lambda: PrototypeSubspace(4, 2, 0), r"duplication \(0\)"),
        (lambda: subspace_alignment(torch.eye(3), torch.eye(4)), "3 and 4 dimensions"),
        (lambda: subspace_alignment(torch.eye(3), torch.eye(3), "median"), "statistic must be"),
    ],
)
def test_bad_requests(use, sentence):
    with pytest.raises(ValueError, match=sentence):
        use()


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("classes", [4, 12])
def test_distances_keep_their_digits_far_from_the_origin_and_at_any_scale(classes, shift, scale):
    layer = PrototypeSubspace(8, classes, scale=1.0, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.prototypes.copy_(scale * (layer.prototypes + shift))
    z = scale * (torch.randn(20, 8, generator=torch.Generator().manual_seed(1)) + shift)
    exact = PrototypeSubspace(8, classes, dtype=torch.float64)
    with torch.no_grad():
        exact.prototypes.copy_(layer.prototypes)
    wanted = exact.distances(z.double())
    assert torch.allclose(layer.distances(z).double(), wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))
