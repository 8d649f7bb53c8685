"""Subspaces, coded networks and codes of labels: what is written down is all there is."""

import math

import pytest
import torch
from torch import nn

from neurarium.compression import CodedModel, SubspaceModel, code_model, label_code_length
from neurarium.data import Arrays
from neurarium.theory import finite_hypothesis_bound


def build():
    return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))


def examples(count=400, seed=0, noise=False):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draw)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    return Arrays(x, torch.randint(3, (count,), generator=draw) if noise else y)


def test_parameters_are_the_first_ones_plus_a_fixed_linear_map():
    model = SubspaceModel(build, 7, seed=3)
    size = sum(p.numel() for p in build().parameters())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = torch.cat([p.detach().flatten() for p in build().parameters()])

    def at(w):
        with torch.no_grad():
            model.coordinates.copy_(w)
            return torch.cat([p.flatten() for p in model.parameters_now().values()])

    torch.testing.assert_close(at(torch.zeros(7)), first)
    columns = torch.stack([at(w) - first for w in torch.eye(7)])
    assert columns.shape == (7, size)
    torch.testing.assert_close(columns.abs(), columns.abs()[:1, :1].expand_as(columns))  # signs, all of one size
    w = torch.randn(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(at(w), first + w @ columns, rtol=1e-5, atol=1e-5)


def test_columns_are_nearly_orthogonal_and_rows_have_norm_one():
    big = SubspaceModel(lambda: nn.Linear(100, 100), 49)
    square = (
        big.left.T @ big.left / len(big.left) * big.rows,
        big.right @ big.right.T / big.right.shape[1] * big.columns,
    )
    for gram in square:
        torch.testing.assert_close(gram.diagonal(), torch.ones(7))
        assert float((gram - gram.diag().diag()).abs().max()) < 0.45
    torch.testing.assert_close(big.left.norm(dim=1), torch.ones(len(big.left)))


def test_gradients_are_those_of_the_whole_network_projected():
    model = SubspaceModel(build, 6, seed=1)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    model(x).square().sum().backward()
    numbers = [p.clone() for p in model.parameters_now().values()]
    eps = 1e-3
    for k in range(6):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                model.coordinates[k] = sign * eps
                values.append(float(model(x).square().sum()))
                model.coordinates.zero_()
        assert float(model.coordinates.grad[k]) == pytest.approx(
            (values[0] - values[1]) / (2 * eps), rel=2e-2, abs=1e-2
        )
    assert all(torch.equal(a, b) for a, b in zip(numbers, model.parameters_now().values(), strict=True))


def test_the_first_codebook_is_evenly_spaced_from_end_to_end():
    model = SubspaceModel(build, 4)
    with torch.no_grad():
        model.coordinates.copy_(torch.tensor([-1.0, 3.0, 0.4, 0.6]))
    model.quantize(5)
    torch.testing.assert_close(model.codebook.detach(), torch.tensor([-1.0, 0, 1, 2, 3]))
    assert model.indices().tolist() == [0, 4, 1, 2]
    model.quantize(1)
    assert model.codebook.tolist() == [1.0]


@pytest.mark.parametrize("levels", [1, 2, 9])
def test_the_bytes_give_the_same_predictions(levels):
    model = SubspaceModel(build, 50, seed=5)
    with torch.no_grad():
        model.coordinates.normal_(generator=torch.Generator().manual_seed(levels))
    model.quantize(levels)
    code = code_model(model)
    decoded = code.decode(build)
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(decoded(x), model(x), rtol=0, atol=0)
    assert len(decoded.used_coordinates().unique()) <= levels
    header, table = 7, 2 * levels + -(-levels * 6 // 8)
    counts = torch.bincount(model.indices(), minlength=levels)
    entropy = -float((counts[counts > 0] * (counts[counts > 0] / 50).log2()).sum())
    assert header + table + entropy / 8 - 1e-3 <= len(code.data) <= header + table + entropy / 8 + 2
    assert code.bits == 8 * len(code.data)
    if levels == 1:
        assert entropy == 0
    with pytest.raises(ValueError, match="data must hold"):
        CodedModel(code.data[:8]).decode(build)


def test_gradients_pass_the_rounding():
    """The codebook's gradient is the sum over its coordinates; each coordinate's is that of the rounded one."""
    model = SubspaceModel(build, 12, seed=2)
    with torch.no_grad():
        model.coordinates.normal_(generator=torch.Generator().manual_seed(0))
    model.quantize(3)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    model(x).square().sum().backward()
    plain = SubspaceModel(build, 12, seed=2)
    with torch.no_grad():
        plain.coordinates.copy_(model.codebook[model.indices()])
    plain(x).square().sum().backward()
    torch.testing.assert_close(model.coordinates.grad, plain.coordinates.grad, rtol=1e-4, atol=1e-4)
    sums = torch.zeros(3).index_add(0, model.indices(), plain.coordinates.grad)
    torch.testing.assert_close(model.codebook.grad, sums, rtol=1e-4, atol=1e-4)


def test_what_can_be_learned_is_shorter_and_noise_is_not():
    settings = {"dim": 40, "epochs": 8, "tuning_epochs": 2, "lr": 0.05, "batch_size": 250}
    true = label_code_length(build, examples(2000), test=examples(seed=9), **settings)
    noise = label_code_length(build, examples(2000, noise=True), **settings)
    assert true.ratio > 1.2
    assert noise.bits_total > noise.naive_bits  # nobody compresses noise
    assert true.test_error < 0.25
    data = examples(2000)
    shares = torch.bincount(data.y) / 2000
    assert true.naive_bits == pytest.approx(2000 * -float((shares * shares.log2()).sum()), rel=1e-5)
    assert true.bits_model == pytest.approx(true.code.bits + 2 * math.log2(true.code.bits))
    assert true.pac_bayes == pytest.approx(finite_hypothesis_bound(true.train_error, true.code.bits, 2000))
    decoded = true.code.decode(build)
    nats = nn.functional.cross_entropy(decoded(data.x), data.y, reduction="sum")
    assert true.bits_data == pytest.approx(float(nats.detach()) / math.log(2), rel=1e-5)
    assert "times shorter" in true.summary()


def test_a_table_of_noise_is_longer_than_noise():
    """As many coordinates as labels can fit them, and then take more than they save."""
    data = examples(60, noise=True)
    wide = label_code_length(
        lambda: nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 3)),
        data,
        dim=400,
        levels=33,
        epochs=150,
        lr=0.02,
    )
    assert wide.train_error < 0.25
    assert wide.bits_total > wide.naive_bits


def test_refusals():
    with pytest.raises(ValueError, match="dim"):
        SubspaceModel(build, 10_000)
    with pytest.raises(ValueError, match="running statistics"):
        SubspaceModel(lambda: nn.BatchNorm1d(3), 2)
    with pytest.raises(ValueError, match="quantize first"):
        code_model(SubspaceModel(build, 5))
    with pytest.raises(ValueError, match="levels"):
        SubspaceModel(build, 5).quantize(0)
    few = examples(20)
    with pytest.raises(ValueError, match="50 examples"):
        label_code_length(build, few)
    with pytest.raises(ValueError, match="codes classes"):
        label_code_length(build, Arrays(few.x, few.x[:, 0]))
