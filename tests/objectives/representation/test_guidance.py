"""CKA and RSA against their formulas, the pairing of layers, and guidance as a loss."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, copy_paste
from neurarium.learning import Backprop
from neurarium.models import CausalTransformer
from neurarium.objectives import Guidance, Taps, linear_cka, rsa
from neurarium.objectives.representation._guidance import spread
from neurarium.probes import cka_matrix, error_consistency
from neurarium.training import fit


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_cka_is_blind_to_rotation_scale_and_shift_and_symmetric():
    x, y = normal(30, 12), normal(30, 7, seed=1) + normal(30, 12)[:, :7]
    rotation = torch.linalg.qr(normal(12, 12, seed=2)).Q
    assert linear_cka(x, x).item() == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, -3 * x @ rotation + normal(12, seed=3)).item() == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, y).item() == pytest.approx(linear_cka(y, x).item(), abs=1e-14)
    assert 0 < linear_cka(x, y).item() < 1


@pytest.mark.parametrize(("n", "p", "q"), [(30, 12, 7), (10, 40, 3), (10, 40, 50)])
def test_both_forms_are_the_formula(n, p, q):
    x, y = normal(n, p), normal(n, q, seed=1)
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    a, b = h @ x @ x.T @ h, h @ y @ y.T @ h
    expected = (a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()
    assert linear_cka(x, y).item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(("n", "p", "expected"), [(100, 1000, 0.909), (64, 256, 0.800), (256, 64, 0.200)])
def test_independent_representations_look_alike_unless_debiased(n, p, expected):
    x, y = normal(n, p), normal(n, p, seed=1)
    assert linear_cka(x, y).item() == pytest.approx(expected, abs=0.01)
    assert linear_cka(x, y, debiased=True).item() == pytest.approx(0, abs=0.05)
    assert linear_cka(x, 2 * x, debiased=True).item() == pytest.approx(1, abs=1e-12)


def test_rsa_is_pearsons_correlation_of_cosines():
    x, y = normal(9, 5), normal(9, 4, seed=1)
    cosines = [nn.functional.cosine_similarity(z[:, None], z[None], dim=2).flatten() for z in (x, y)]
    assert rsa(x, y).item() == pytest.approx(torch.corrcoef(torch.stack(cosines))[0, 1].item(), abs=1e-12)


@pytest.mark.parametrize("similarity", [linear_cka, rsa, lambda x, y: linear_cka(x, y, debiased=True)])
def test_gradients(similarity):
    x, y = normal(7, 4).requires_grad_(), normal(7, 9, seed=1)
    assert torch.autograd.gradcheck(lambda z: similarity(z, y), (x,))


def test_layers_are_spread_evenly():
    assert [t for _, t in spread(3, 5)] == [0, 2, 4]
    assert [t for _, t in spread(5, 3)] == [0, 0, 1, 2, 2]
    assert [t for _, t in spread(4, 6)] == [0, 2, 3, 5]
    assert spread(1, 4) == [(0, 0)]
    assert spread(5, 3, "spread-last") == [(1, 0), (2, 1), (4, 2)]


def mlp(seed, width=16, depth=3):
    torch.manual_seed(seed)
    layers = [nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def problem():
    torch.manual_seed(9)
    x = torch.randn(64, 6)
    return x, x[:, :3].argmax(1)


def trained(weight, **options):
    model, guide, (x, y) = mlp(0), mlp(1, width=9, depth=2), problem()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    with Guidance(model, guide, weight=weight, **options) as guidance:
        rule = Backprop(model, guidance.around(cross_entropy))
        fit(rule, [(x, y)], torch.optim.SGD(model.parameters(), 0.1), epochs=5)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in guide.parameters())
    assert guide.training
    return model, guidance


def plain():
    model, (x, y) = mlp(0), problem()
    fit(Backprop(model, cross_entropy), [(x, y)], torch.optim.SGD(model.parameters(), 0.1), epochs=5)
    return model


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_no_weight_is_plain_training_and_a_weight_is_not():
    assert equal(trained(0.0)[0], plain())
    assert equal(trained(1.0, until_step=0)[0], plain())
    assert equal(trained(lambda step: 0.0)[0], plain())
    assert not equal(trained(1.0)[0], plain())
    assert not equal(trained(1.0, until_step=1)[0], plain())
    assert not equal(trained(1.0, guide_input="noise")[0], trained(1.0)[0])


def test_guidance_brings_the_representations_closer():
    def apart(model):
        matrix = cka_matrix(model, mlp(1, width=9, depth=2), [problem()], ["3", "6"], ["0", "3"])
        return 1 - float(matrix.values[1, 1])

    guided, guidance = trained(5.0)
    assert apart(guided) < apart(plain())
    with Guidance(guided, mlp(1, width=9, depth=2), weight=5.0) as again:
        guided(problem()[0])
        loss = again.penalty().item()
    assert loss == pytest.approx(5 * sum(again.distances.values()), rel=1e-5)
    assert list(guidance.distances) == ["0", "6"]  # two guide layers, spread over three; the logits are left out


def test_a_copy_of_the_guide_is_at_its_place():
    guide = mlp(1).eval()
    model = mlp(1).eval()
    with Guidance(model, guide) as guidance:
        model(problem()[0])
        loss = guidance.penalty()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-4


def test_recurrent_layers_give_examples_first_and_hooks_go():
    model, guide, (x, y) = mlp(0), mlp(1), problem()
    with Guidance(model, guide) as guidance:
        Backprop(model, guidance.around(cross_entropy)).assign_credit(x, y)
    recurrent = nn.ModuleDict({"late": nn.GRU(4, 3), "early": nn.GRU(4, 3, batch_first=True)})
    with Taps(recurrent) as taps:
        recurrent["early"](torch.randn(5, 7, 4))
        recurrent["late"](torch.randn(7, 5, 4))
        assert {name: tuple(z.shape) for name, z in taps.outputs.items()} == {"early": (5, 7, 3), "late": (5, 7, 3)}
    assert not any(m._forward_hooks for m in [*recurrent.modules(), *model.modules(), *guide.modules()])


def test_wrong_use_is_said():
    model, guide = mlp(0), mlp(1)
    with pytest.raises(ValueError, match="no layer '33'; did you mean"):
        Guidance(model, guide, layers_target=["33"])
    with pytest.raises(ValueError, match="'3' twice"):
        Guidance(model, guide, layers_target=["3", "3"])
    with pytest.raises(ValueError, match="no layer to tap"):
        Guidance(nn.ReLU(), guide)
    for wrong in ({"distance": "cca"}, {"pairs": "random"}, {"guide_input": "zeros"}):
        with pytest.raises(ValueError, match="must be"):
            Guidance(model, guide, **wrong)
    with pytest.raises(RuntimeError, match="forward pass"):
        Guidance(model, guide).penalty()
    with pytest.raises(ValueError, match="at least 2 examples"):
        linear_cka(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="x has 3 examples but y has 4"):
        rsa(torch.ones(3, 3), torch.ones(4, 3))
    with Guidance(model, guide, layers_target=["2"]) as guidance:
        nn.init.constant_(model[1].bias, -100.0)
        model(problem()[0])
        with pytest.warns(UserWarning, match="layer 2 gives every"):
            guidance.penalty()


def test_the_matrix_finds_equal_layers_over_batches():
    model, (x, y) = mlp(0), problem()
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    matrix = cka_matrix(model, model, batches)
    assert matrix.rows == matrix.columns == ("0", "3", "6", "9")
    assert torch.allclose(matrix.values.diagonal(), torch.ones(4, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(matrix.values, matrix.values.T, atol=1e-6)
    model.eval()
    whole = cka_matrix(model, model, [(x, y)], ["0"], ["6"]).values
    with Taps(model) as taps:
        model(x)
        expected = linear_cka(taps.outputs["0"].double(), taps.outputs["6"].double(), debiased=True)
    assert float(whole) == pytest.approx(float(expected), abs=1e-6)


def test_error_consistency_by_hand():
    y = torch.tensor([0, 0, 0, 0])
    a, b = (nn.functional.one_hot(torch.tensor(c), 2).float() for c in ([0, 0, 1, 1], [0, 1, 1, 1]))
    found = error_consistency(a, b, y)
    assert found.observed == pytest.approx(0.75)
    assert found.expected == pytest.approx(0.5 * 0.25 + 0.5 * 0.75)
    assert found.kappa == pytest.approx(0.5)
    assert error_consistency(a, a, y).kappa == 1


def test_half_precision_around_it_does_not_reach_the_similarities():
    x, y = normal(40, 30).float() + 3, normal(40, 30, seed=1).float() + 3
    x64, y64 = x.double(), y.double()
    exact = linear_cka(x64, y64), linear_cka(x64, y64, debiased=True), rsa(x64, y64)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ y.T).dtype == torch.bfloat16
        within = linear_cka(x, y), linear_cka(x, y, debiased=True), rsa(x, y)
    for a, b in zip(within, exact, strict=True):
        assert a.item() == pytest.approx(b.item(), abs=1e-5)


class Reader(nn.Module):
    """Tokens, given by name, with a mask that is not a tensor of numbers to be disturbed."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.inner, self.out = nn.Embedding(9, 6), nn.Linear(6, 5), nn.Linear(5, 3)
        self.seen = []

    def forward(self, *, tokens, mask):
        self.seen.append(tokens)
        return self.out(torch.tanh(self.inner(self.embed(tokens) * mask[..., None])).mean(1))


@pytest.mark.parametrize("guide_input", ["same", "noise"])
def test_inputs_by_name_and_tokens(guide_input):
    model, guide = Reader(0), Reader(1)
    tokens = torch.randint(9, (20, 7))
    with Guidance(model, guide, guide_input=guide_input) as guidance:
        loss = guidance.around(cross_entropy)(model(tokens=tokens, mask=torch.ones(20, 7).bool()), torch.arange(20) % 3)
    loss.backward()
    shown = guide.seen[0]
    assert torch.equal(shown.flatten().sort().values, tokens.flatten().sort().values)
    assert torch.equal(shown, tokens) == (guide_input == "same")
    assert model.inner.weight.grad.abs().sum() > 0


def test_few_examples_are_said_once():
    model, guide = mlp(0), mlp(1)
    with Guidance(model, guide) as guidance:
        model(problem()[0][:15])
        with pytest.warns(UserWarning, match="15 examples tell little"):
            guidance.penalty()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            guidance.penalty()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(8, 12), nn.RNN(12, 16, 2), nn.Linear(16, 8)

    def forward(self, tokens):
        return self.out(self.rnn(self.embed(tokens).transpose(0, 1))[0].transpose(0, 1))


def test_a_transformer_guides_a_recurrent_network_on_sequences():
    torch.manual_seed(0)
    task = copy_paste(64, longest=6, shortest=3, symbols=6)
    model, guide = Recurrent(), CausalTransformer(8, 16, 2, 2, 32, context=13)

    def loss(output, y):
        return cross_entropy(output.flatten(0, 1), y.flatten())

    found = []
    with Guidance(model, guide) as guidance:
        rule, optimizer = Backprop(model, guidance.around(loss)), torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(15):
            fit(rule, Batches(task, 32, shuffle=True), optimizer)
            found.append(guidance.distances["rnn"])
    assert list(guidance.distances) == ["rnn"]
    assert found[-1] < 0.7 * found[0]


def test_token_wise_guidance_is_the_sum_over_positions():
    torch.manual_seed(0)
    tokens = torch.randint(8, (20, 13))
    model, guide = Recurrent(), CausalTransformer(8, 16, 2, 2, 32, context=13)
    names = {"layers_target": ["rnn"], "layers_guide": ["norm"]}
    with Taps(model, ["rnn"]) as own, Taps(guide, ["norm"]) as other:
        model(tokens), guide(tokens)
        a, b = own.outputs["rnn"], other.outputs["norm"]
    by_position = [1 - linear_cka(a[:, t], b[:, t]).item() for t in range(13)]
    with Guidance(model, guide, token_wise=True, **names) as guidance:
        model(tokens)
        assert guidance.penalty().item() == pytest.approx(sum(by_position), rel=1e-4)
    assert guidance.distances["rnn"] == pytest.approx(sum(by_position) / 13, rel=1e-4)
    with Guidance(model, guide, **names) as whole:
        model(tokens)
        assert whole.penalty().item() == pytest.approx(1 - linear_cka(a, b).item(), rel=1e-4)


@pytest.mark.untyped
def test_layers_without_positions_cannot_be_compared_token_by_token():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(20, 3)
    guide = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with Guidance(model, guide, token_wise=True) as guidance:
        model(x)
        with pytest.raises(ValueError, match=r"but 0 gives \[20, 4\] and the guide's 0"):
            guidance.penalty()


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("width", [7, 1000])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e3, 1e8, 1e30])
def test_cka_and_rsa_are_free_of_scale_in_float32(scale, width, debiased):
    x, y = normal(128, width), normal(128, width, seed=1) + normal(128, width)
    wanted = linear_cka(x, y, debiased=debiased).item()
    a, b = (scale * x).float().requires_grad_(), y.float()
    found = linear_cka(a, b, debiased=debiased)
    assert found.item() == pytest.approx(wanted, abs=1e-4)
    assert linear_cka(a, a, debiased=debiased).item() == pytest.approx(1, abs=1e-5)
    (gradient,) = torch.autograd.grad(found, a)
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())
    assert rsa(a, b).item() == pytest.approx(rsa(x, y).item(), abs=1e-4)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_of_activations_that_vary_little_beside_their_mean(debiased):
    x, y = ((0.1 + 1e-8 * normal(128, 40, seed=seed)).float() for seed in (0, 1))
    wanted = linear_cka(x.double(), y.double(), debiased=debiased).item()
    assert linear_cka(x, y, debiased=debiased).item() == pytest.approx(wanted, abs=1e-4)
    assert linear_cka(torch.ones(9, 3), torch.randn(9, 3), debiased=debiased).item() == 0


def test_the_cka_of_layers_is_free_of_scale_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double()
    small = nn.Sequential(*(nn.Linear(a, b) for a, b in ((6, 9), (9, 4)))).double()
    loader = [(torch.randn(20, 6).double(), torch.zeros(20))]
    with torch.no_grad():
        for layer, like in zip(small, (model[0], model[2]), strict=True):
            layer.weight.copy_(1e-8 * like.weight)
            layer.bias.copy_(1e-8 * like.bias)
    values = cka_matrix(model, small, loader, ["0"], ["0"]).values
    assert values.item() == pytest.approx(1, abs=1e-6)
