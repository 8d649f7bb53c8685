"""Sparse evolutionary training: counts, who is dropped, where connections grow, and what the optimizer remembers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.compression import Masks, SparseEvolution, SparseEvolutionaryTraining, random_sparse
from neurarium.compression.pruning._evolution import strongest
from neurarium.layers import SparseLinear, SReLU, draw_positions, epsilon_density
from neurarium.learning import Backprop
from neurarium.models import RBM
from neurarium.probes import degree_distribution
from neurarium.probes.weights._topology import power_law
from neurarium.training import fit


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(seed: int = 0, density: float = 0.1, storage: str = "csr") -> SparseLinear:
    return SparseLinear(40, 30, density, storage=storage, generator=seeded(seed))


def as_mapping(values: Tensor, places: Tensor) -> dict[int, float]:
    return dict(zip(places.tolist(), values.tolist(), strict=True))


def test_weakest_of_each_sign_go() -> None:
    values = torch.tensor([0.1, 0.2, 0.9, 1.0, -0.05, -0.8, -0.9, -1.0])
    torch.testing.assert_close(values[strongest(values, 0.5)], torch.tensor([0.9, 1.0, -0.9, -1.0]))
    assert (~strongest(values, 0.25)).nonzero().flatten().tolist() == [0, 4]
    assert strongest(torch.tensor([0.0, 2.0, -1.0]), 0.1).tolist() == [False, True, True]
    equal = torch.tensor([2.0, 1.0, 1.0, -3.0, 1.0, -3.0])
    assert strongest(equal, 0.5).tolist() == [True, False, False, False, True, True], "equal ones go in their order"


def test_counts_hold_and_signs_lose_their_share() -> None:
    sparse = layer()
    before = as_mapping(sparse.values.detach(), sparse.positions())
    positive = sum(v > 0 for v in before.values())
    negative = len(before) - positive
    removed = SparseEvolution(sparse, zeta=0.3, generator=seeded(7)).evolve()
    after = as_mapping(sparse.values.detach(), sparse.positions())
    expected = int(0.3 * positive) + int(0.3 * negative)
    assert removed == {"": expected}
    assert len(after) == len(before) == sparse.values.numel()
    kept = [place for place, v in before.items() if after.get(place) == v]
    assert len(kept) == len(before) - expected
    for sign in (1, -1):
        stayed = [sign * before[p] for p in kept if sign * before[p] > 0]
        gone = [sign * v for p, v in before.items() if sign * v > 0 and p not in kept]
        assert max(gone) <= min(stayed)


def test_last_call_only_removes() -> None:
    sparse = layer()
    count = sparse.values.numel()
    SparseEvolution(sparse, zeta=0.3).evolve(last=True)
    assert abs(sparse.values.numel() - 0.7 * count) <= 2
    x = torch.randn(5, 40)
    torch.testing.assert_close(sparse(x), sparse.to_linear()(x))
    sparse(x).sum().backward()


@pytest.mark.parametrize("kind", ["adam", "amsgrad", "momentum", "rmsprop", "adagrad", "rprop"])
def test_the_optimizers_memory_moves_with_the_connections(kind: str) -> None:
    sparse = layer()
    optimizer: torch.optim.Optimizer = {
        "adam": lambda: torch.optim.Adam(sparse.parameters(), 0.01),
        "amsgrad": lambda: torch.optim.AdamW(sparse.parameters(), 0.01, amsgrad=True),
        "adagrad": lambda: torch.optim.Adagrad(sparse.parameters(), 0.01, initial_accumulator_value=0.5),
        "rprop": lambda: torch.optim.Rprop(sparse.parameters(), 0.01),
        "momentum": lambda: torch.optim.SGD(sparse.parameters(), 0.01, momentum=0.9),
        "rmsprop": lambda: torch.optim.RMSprop(sparse.parameters(), 0.01, momentum=0.9),
    }[kind]()
    evolution = SparseEvolution(sparse, optimizer, generator=seeded())

    def step() -> None:
        optimizer.zero_grad()
        sparse(torch.randn(20, 40, generator=seeded(1))).square().sum().backward()
        optimizer.step()

    step()
    for last in (False, True):
        places, weights = sparse.positions(), as_mapping(sparse.values.detach(), sparse.positions())
        state = optimizer.state[sparse.values]
        names = [k for k, v in state.items() if isinstance(v, Tensor) and v.dim() == 1]
        memory = {name: as_mapping(state[name], places) for name in names}
        assert names
        evolution.evolve(last=last)
        now, new = sparse.positions(), as_mapping(sparse.values.detach(), sparse.positions())
        for name in names:
            for place, m in as_mapping(state[name], now).items():
                begins = {"sum": 0.5, "step_size": 0.01}.get(name, 0.0)
                assert m == pytest.approx(memory[name][place] if weights.get(place) == new[place] else begins)
        step()


def test_curvature_of_all_weights_is_forgotten_when_they_move() -> None:
    sparse = layer()
    x = torch.randn(20, 40, generator=seeded(1))
    optimizer = torch.optim.LBFGS(sparse.parameters(), line_search_fn="strong_wolfe")
    evolution = SparseEvolution(sparse, optimizer, generator=seeded())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (sparse(x) - x[:, :30]).square().mean()
        loss.backward()
        return loss.detach()

    for last in (False, True):
        optimizer.step(closure)
        evolution.evolve(last=last)
        loss = float(closure())
        optimizer.step(closure)
        assert float(closure()) < loss


@pytest.mark.parametrize("storage", ["csr", "mask"])
def test_masked_dense_weights_evolve_in_the_same_way(storage: str) -> None:
    sparse = layer(storage=storage)
    dense = sparse.to_linear()
    masks = Masks({"weight": dense.weight})
    masks.keep({"weight": dense.weight != 0})
    optimizers = [torch.optim.SGD(m.parameters(), 0.05, momentum=0.9) for m in (sparse, dense)]
    masks.attach(optimizers[1])
    evolutions = [
        SparseEvolution(sparse, optimizers[0], generator=seeded(3)),
        SparseEvolution(dense, optimizers[1], masks=masks, generator=seeded(3)),
    ]
    x = torch.randn(20, 40, generator=seeded(1))
    for epoch in range(4):
        for model, optimizer, evolution in zip((sparse, dense), optimizers, evolutions, strict=True):
            for _ in range(3):
                optimizer.zero_grad()
                (model(x) - 1).square().mean().backward()
                optimizer.step()
            evolution.evolve(last=epoch == 3)
        torch.testing.assert_close(sparse.dense_weight(), dense.weight.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-5, atol=1e-6)


def test_a_grown_masked_weight_begins_without_memory_whatever_was_there_before() -> None:
    dense = layer().to_linear()
    optimizer = torch.optim.SGD(dense.parameters(), 0.05, momentum=0.9)
    dense(torch.randn(20, 40, generator=seeded(1))).square().sum().backward()
    optimizer.step()  # momenta of all weights, from before the mask
    masks = Masks({"weight": dense.weight})
    masks.keep({"weight": torch.rand(30, 40, generator=seeded(2)) < 0.1})
    before = dense.weight.detach().clone()
    SparseEvolution(dense, optimizer, masks=masks, generator=seeded(3)).evolve()
    grown = masks["weight"] & (dense.weight.detach() != before)
    memory = optimizer.state[dense.weight]["momentum_buffer"]
    assert bool(grown.any())
    assert not bool(memory[grown].any())
    assert bool(memory[masks["weight"] & ~grown].all())


def test_growth_is_uniform_over_free_places() -> None:
    taken = torch.arange(0, 100, 3)
    counts = torch.zeros(100)
    generator = seeded()
    for _ in range(3000):
        drawn = draw_positions(100, 12, taken, generator)
        assert len(drawn.unique()) == 12
        counts[drawn] += 1
    assert not counts[taken].any()
    free = torch.ones(100, dtype=torch.bool)
    free[taken] = False
    # draws within one call are without replacement, which only narrows the spread
    assert chisquare(counts[free].numpy()).pvalue > 0.001
    crowded = draw_positions(10, 4, torch.tensor([0, 1, 2, 3, 4, 5]), generator)
    assert crowded.tolist() == [6, 7, 8, 9]


def test_random_graph_has_the_density_and_binomial_degrees() -> None:
    density = epsilon_density(3.0, 60, 40)
    assert density == pytest.approx(3 * 100 / 2400)
    generator = seeded()
    degrees = torch.cat([SparseLinear(60, 40, density, generator=generator).crow.diff() for _ in range(200)])
    assert float(degrees.double().mean()) == pytest.approx(60 * density, rel=1e-3)
    observed = torch.bincount(degrees.long(), minlength=61)[:61].double().numpy()
    expected = binom.pmf(range(61), 60, density) * len(degrees)
    common = expected > 20
    scaled = expected[common] * observed[common].sum() / expected[common].sum()
    assert chisquare(observed[common], scaled).pvalue > 0.001


def test_conversion_leaves_the_model_and_dense_layers_alone() -> None:
    model = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 4), nn.ReLU(), nn.Linear(4, 3))
    sparse = random_sparse(model, 10.0, generator=seeded()).model
    assert isinstance(sparse[0], SparseLinear)
    assert sparse[0].values.numel() == 10 * 300
    assert type(sparse[2]) is nn.Linear, "ε (100 + 4) connections are more than all of them"
    assert type(sparse[4]) is nn.Linear
    assert torch.equal(sparse[2].weight, model[2].weight)
    with pytest.warns(UserWarning, match="no incoming connection"):
        random_sparse(model, density=0.001, generator=seeded())


def test_tiny_share_of_moves_is_a_fixed_graph() -> None:
    models = [random_sparse(mlp(), density=0.3, generator=seeded()).model for _ in range(2)]
    batches = [(torch.randn(30, 20, generator=seeded(1)), torch.randint(3, (30,), generator=seeded(2)))]
    models[1].load_state_dict(models[0].state_dict())
    for i, model in enumerate(models):
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        callbacks = [SparseEvolution(model, optimizer, zeta=1e-6, every=2, steps=6)] if i else []
        fit(Backprop(model, cross_entropy), batches, optimizer, epochs=6, callbacks=callbacks)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3))


def test_callback_evolves_by_epoch_and_removes_at_the_end() -> None:
    model = random_sparse(mlp(), density=0.3, generator=seeded()).model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    start, count = copy.deepcopy(model), model[0].values.numel()
    batches = [(torch.randn(9, 20), torch.randint(3, (9,))) for _ in range(4)]
    evolution = SparseEvolution(model, optimizer, every=4, steps=12, generator=seeded())
    fit(Backprop(model, cross_entropy), batches, optimizer, epochs=2, callbacks=[evolution])
    assert model[0].values.numel() == count
    assert 0.3 < degree_distribution(model[0], before=start[0]).overlap < 0.95
    evolution(12, 0.0)
    assert model[0].values.numel() < 0.75 * count


def test_compressor_trains_a_sparse_network() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 20)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 200, 20)]
    sparse = SparseEvolutionaryTraining(0.3, generator=seeded()).compress(mlp(), batches)
    assert (sparse(x).argmax(1) == y).float().mean() > 0.85
    assert sparse[0].density < 0.22


def test_srelu_is_three_lines() -> None:
    unit = SReLU(1)
    with torch.no_grad():
        for name, v in (("left_threshold", -1.0), ("left_slope", 0.1), ("right_threshold", 2.0), ("right_slope", 3.0)):
            getattr(unit, name).fill_(v)
    x = torch.tensor([[-3.0], [-1.0], [0.5], [2.0], [4.0]])
    assert unit(x).flatten().tolist() == pytest.approx([-1.2, -1.0, 0.5, 2.0, 8.0])
    assert torch.equal(SReLU(1)(x), x.relu())
    doubles = SReLU(3).double()
    points = torch.tensor([[-0.7, 0.4, 1.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(doubles, points)


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_contrastive_divergence_is_the_difference_of_correlations(density: float) -> None:
    rbm = RBM(6, 4, density=density, generator=seeded())
    v = (torch.rand(12, 6, generator=seeded(1)) < 0.5).float()
    model = rbm.gibbs(v, 1, seeded(2))
    rbm.assign_credit(v, 1, seeded(2))
    with torch.no_grad():
        up = [rbm.hidden_probabilities(state).T @ state / 12 for state in (v, model)]
        expected = -(up[0] - up[1])
    if density == 1:
        torch.testing.assert_close(rbm.weights.weight.grad, expected)
    else:
        torch.testing.assert_close(rbm.weights.values.grad, expected.flatten()[rbm.weights.positions()])
        h = torch.rand(3, 4)
        torch.testing.assert_close(rbm.weights.transposed(h), h @ rbm.weights.dense_weight())
    torch.testing.assert_close(rbm.visible_bias.grad, -(v - model).mean(0))


def test_long_chains_point_along_the_likelihood() -> None:
    rbm = RBM(6, 4, generator=seeded())
    v = (torch.rand(400, 6, generator=seeded(1)) < torch.tensor([0.9, 0.9, 0.1, 0.1, 0.5, 0.5])).float()
    v[:, 5] = v[:, 0]
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    (-(-rbm.free_energy(v).mean() - torch.logsumexp(-rbm.free_energy(every), 0))).backward()
    exact = rbm.weights.weight.grad.clone()
    rbm.zero_grad()
    rbm.assign_credit(v, 10, seeded(2))
    assert torch.cosine_similarity(exact.flatten(), rbm.weights.weight.grad.flatten(), 0) > 0.8


def test_degrees_and_power_law() -> None:
    dense = nn.Linear(4, 3)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]))
    for module in (dense, SparseLinear.from_linear(dense)):
        result = degree_distribution(module)
        assert result.inputs.tolist() == [3, 1, 1, 0]
        assert result.outputs.tolist() == [2, 1, 2]
        assert "connections per input unit" in result.summary()
    uniform = (torch.arange(20_000).double() + 0.5) / 20_000
    degrees = (0.5 + 4.5 * (1 - uniform) ** (-1 / 1.5)).round().long()
    exponent, _, distance = power_law(degrees[degrees >= 5].numpy())
    assert exponent == pytest.approx(2.5, abs=0.15)
    assert distance < 0.05
    exponent, tail, _ = power_law(np.array([2] * 20))
    assert (exponent, tail) == (pytest.approx(1 + 1 / np.log(2 / 1.5)), 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SparseEvolution(layer(), zeta=1.0), "zeta"),
        (lambda: SparseEvolution(layer(), grow_init="ones"), "grow_init"),
        (lambda: SparseEvolution(nn.Linear(3, 3)), "no SparseLinear"),
        (lambda: SparseEvolution(layer(), torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)), "optimizer"),
        (lambda: random_sparse(nn.Linear(3, 3)), "nothing to convert"),
        (lambda: epsilon_density(0.0, 3, 3), "epsilon"),
        (lambda: draw_positions(4, 5), "4 of 4 are free"),
    ],
)
def test_errors_name_what_is_wrong(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
