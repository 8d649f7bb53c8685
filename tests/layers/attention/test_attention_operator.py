"""The operator on scores: by hand, by recurrence, by symmetry; its sizes as published; rows on the simplex."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from neurarium.layers import AttentionOperator, Basis, FourierBasis, SoftmaxOperator, project_simplex
from neurarium.layers.attention._fourier_sum import fourier_sum, waves
from neurarium.training import peak_bytes, saved_bytes

DOUBLE = {"dtype": torch.float64}


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def operator(num_tokens: int = 5, nhead: int = 2, rank: int = 3, **options) -> AttentionOperator:
    made = AttentionOperator(num_tokens, nhead, rank, generator=seed(), **DOUBLE, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seed(1), **DOUBLE))
    return made


def scores(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=seed(2), **DOUBLE)


@pytest.mark.parametrize(
    ("heads", "layers", "grid", "millions"),
    [(12, 12, 1, 1.70), (12, 1, 1, 0.14), (6, 12, 3, 1.53), (6, 1, 3, 0.13), (3, 12, 3, 0.76), (3, 1, 3, 0.06)],
)
def test_parameters_are_those_of_the_papers_table(heads: int, layers: int, grid: int, millions: float) -> None:
    made = AttentionOperator(197, heads, 12, grid_size=grid, base="silu", device="meta")
    each = sum(p.numel() for p in made.parameters())
    assert each == heads * 197 * 12 * (2 * grid + 3)
    assert layers * each / 1e6 == pytest.approx(millions, abs=0.0101)


def test_one_head_by_hand() -> None:
    made = operator(3, 1, 2, grid_size=1, base="silu")
    x = scores(4, 3)
    a, b = (made.coefficients.detach().numpy()[0, :, :, i] for i in (0, 1))
    ws, wb = made.scale.detach().numpy()[0], made.base_weight.detach().numpy()[0]
    w = made.expansion.detach().numpy()[0]
    out = np.zeros((4, 3))
    for n, row in enumerate(x.numpy()):
        inner = [
            sum(
                ws[p, q] * (a[p, q] * math.cos(row[q]) + b[p, q] * math.sin(row[q]))
                + wb[p, q] * row[q] / (1 + math.exp(-row[q]))
                for q in range(3)
            )
            for p in range(2)
        ]  # fmt: skip
        out[n] = w @ inner
    torch.testing.assert_close(made(x), torch.from_numpy(out))


def test_cosines_by_recurrence_stay_exact() -> None:
    x = torch.linspace(-30, 30, 4001)
    for m, (cos, sin) in enumerate(waves(x, 8), start=1):
        torch.testing.assert_close(cos, (m * x.double()).cos().float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(sin, (m * x.double()).sin().float(), rtol=0, atol=1e-5)


def test_the_sum_and_its_gradients_are_those_of_the_written_form() -> None:
    x, a, b = scores(2, 7, 4), scores(2, 3, 5, 4), scores(2, 3, 5, 4) + 1
    inputs = tuple(t.clone().requires_grad_() for t in (x, a, b))
    m = torch.arange(1, 4, **DOUBLE)[:, None, None, None]
    written = torch.einsum("mgni,gmoi->gno", (m * x).cos(), a) + torch.einsum("mgni,gmoi->gno", (m * x).sin(), b)
    torch.testing.assert_close(fourier_sum(*inputs), written)
    assert torch.autograd.gradcheck(fourier_sum, inputs)
    assert torch.autograd.gradgradcheck(fourier_sum, inputs)


def test_the_fast_way_is_that_of_the_fourier_basis_of_the_kan_layers() -> None:
    fast = operator(grid_size=3)
    slow = AttentionOperator(5, 2, 3, basis=FourierBasis(6), **DOUBLE)
    slow.load_state_dict(fast.state_dict())
    x = scores(4, 2, 6, 5)
    torch.testing.assert_close(fast(x), slow(x))
    torch.testing.assert_close(fast.edge(x[0, 0, 0], 1, 2, 3), slow.edge(x[0, 0, 0], 1, 2, 3))


class Identity(Basis):
    size = 1

    def columns(self, x, inputs=None):
        return x[:, None]


def test_an_identity_basis_is_the_linear_operator() -> None:
    linear = operator(basis="linear")
    same = AttentionOperator(5, 2, 3, basis=Identity(), **DOUBLE)
    same.load_state_dict(linear.state_dict(), strict=False)
    x = scores(4, 2, 6, 5)
    torch.testing.assert_close(same(x), linear(x))
    by_hand = x @ (linear.expansion @ linear.coefficients[..., 0]).mT
    torch.testing.assert_close(linear(x), by_hand)


@pytest.mark.parametrize("basis", ["fourier", "bspline", "wavelet", "linear"])
def test_tokens_are_positions(basis: str) -> None:
    made = operator(basis=basis, base="identity")
    x, order, rows = scores(4, 2, 6, 5), torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(made(x[rows]), made(x)[rows])
    assert not torch.allclose(made(x[..., order]), made(x)[..., order])
    moved = AttentionOperator(5, 2, 3, basis=basis, base="identity", **DOUBLE)
    state = made.state_dict()
    for name in ("coefficients", "scale", "base_weight", "basis.knots"):
        if name in state:
            state[name] = state[name][order] if name == "basis.knots" else state[name][:, :, order]
    state["expansion"] = state["expansion"][:, order]
    moved.load_state_dict(state)
    torch.testing.assert_close(moved(x[..., order]), made(x)[..., order])


def test_the_simplex_projection_solves_its_programme() -> None:
    rows = scores(5, 6)
    found = project_simplex(rows)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(5, **DOUBLE))
    for row, mine in zip(rows.numpy(), found.numpy(), strict=True):
        peer = minimize(
            lambda p, row=row: ((p - row) ** 2).sum(), np.full(6, 1 / 6), bounds=[(0, None)] * 6,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, tol=1e-12,
        )  # fmt: skip
        np.testing.assert_allclose(mine, peer.x, atol=1e-5)
    torch.testing.assert_close(project_simplex(found), found)
    assert torch.autograd.gradcheck(project_simplex, rows.requires_grad_())


def test_projected_weights_are_on_the_simplex_and_masked_ones_are_nought() -> None:
    x = scores(3, 2, 4, 5)
    keep = torch.tensor([True, True, False, True, False]).expand(3, 1, 1, 5)
    for made in (operator(), operator(project="simplex"), SoftmaxOperator()):
        weights = made(x, keep)
        assert (weights[..., [2, 4]] == 0).all()
        changed = torch.where(keep, x, 100.0)
        torch.testing.assert_close(made(changed, keep), weights)  # what is hidden changes nothing
    torch.testing.assert_close(operator(project="simplex")(x, keep).sum(-1), torch.ones(3, 2, 4, **DOUBLE))


def test_memory_holds_no_functions_of_all_scores() -> None:
    made, x = AttentionOperator(65, 3), torch.randn(64, 3, 65, 65, requires_grad=True)
    assert saved_bytes(lambda: made(x)) < 2.2 * x.numel() * 4

    def expanded() -> torch.Tensor:
        m = torch.arange(1, 4)
        both = torch.cat([(x[..., None] * m).cos(), (x[..., None] * m).sin()], -1)
        return torch.einsum("bhnkm,hrkm->bhnr", both, made.curves()) @ made.expansion.mT

    peaks = [peak_bytes(lambda f=f: f().sum().backward()) for f in (lambda: made(x), expanded, lambda: x.softmax(-1))]
    assert peaks[0] < peaks[1] / 3
    assert peaks[0] < 2.5 * peaks[2]


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="rank must be at most num_tokens, 5, not 12"):
        AttentionOperator(5, rank=12)
    assert AttentionOperator(5).rank == 5
    assert AttentionOperator(50).rank == 12
    with pytest.raises(ValueError, match="base must be one of zero, silu, identity"):
        AttentionOperator(5, rank=2, base="relu")
    with pytest.raises(ValueError, match="basis must be a Basis or one of"):
        AttentionOperator(5, rank=2, basis="fourrier")
    with pytest.raises(ValueError, match="at least 1"):
        AttentionOperator(5, rank=0)
    with pytest.raises(ValueError, match="'scaled' or 'paper'"):
        AttentionOperator(5, rank=2, init="he")
    with pytest.raises(ValueError, match="None or 'simplex'"):
        AttentionOperator(5, rank=2, project="ball")
    with pytest.raises(ValueError, match="one function per token position; 5 expected, 4 given"):
        operator()(scores(2, 2, 4, 4))
    with pytest.raises(ValueError, match="2 heads, queries, keys"):
        operator()(scores(3, 5, 5))
    assert isinstance(operator(), nn.Module)


@pytest.mark.parametrize("basis", ["fourier", "linear", FourierBasis(2)], ids=["waves", "linear", "basis"])
def test_the_functions_on_the_edges_add_up_to_the_sums(basis) -> None:
    made = operator(basis=basis, base="silu")
    rows = scores(2, 4, 5)  # heads, queries, keys
    sums = made.compress(rows)
    for head in range(2):
        for output in range(3):
            edges = sum(made.edge(rows[head, :, key], head, output, key) for key in range(5))
            torch.testing.assert_close(edges, sums[head, :, output])
