"""Masks: pruned weights stay exactly zero, and ranking is exact, nested and deterministic."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurarium.compression import Masks, largest, prunable

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x, y = torch.randn(16, 12, generator=generator), torch.randint(4, (16,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def half(masks: Masks, seed: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(masks[name].shape, generator=generator) < 0.5 for name in masks}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero_even_with_momentum_from_before(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 5)  # momenta of all weights are alive when the mask comes
    masks = Masks(prunable(model))
    masks.keep(half(masks))
    masks.attach(optimizer)
    before = model[0].weight.detach().clone()
    train(model, optimizer, 100)
    for weight_name, weight in masks.targets.items():
        assert torch.equal(weight.detach()[~masks[weight_name]], torch.zeros(int((~masks[weight_name]).sum())))
    kept = masks["0.weight"]
    assert bool((model[0].weight.detach()[kept] != before[kept]).all())


def test_state_of_an_optimizer_attached_from_the_start_stays_zero_too() -> None:
    model = network()
    masks = Masks(prunable(model))
    masks.keep(half(masks))
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    masks.attach(optimizer)
    train(model, optimizer, 20)
    moments = optimizer.state[model[0].weight]
    assert float(moments["exp_avg"][~masks["0.weight"]].abs().max()) == 0.0
    assert float(moments["exp_avg_sq"][~masks["0.weight"]].max()) == 0.0


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adadelta", "Adagrad", "ASGD", "NAdam", "Rprop", "Muon", "LBFGS"])
@pytest.mark.parametrize("before", [0, 3])
def test_a_closure_sees_the_sparse_network_alone(name: str, before: int) -> None:
    model = nn.Sequential(nn.Linear(12, 9, bias=False), nn.ReLU(), nn.Linear(9, 4, bias=False))
    with torch.no_grad():
        for weight, known in zip(model.parameters(), (network()[0].weight, network()[2].weight)):
            weight.copy_(known)
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))
    y = x[:, :4].argmax(1)
    masks = Masks(prunable(model))
    largest_pruned, losses = [], []

    def closure() -> float:
        optimizer.zero_grad()
        largest_pruned.append(max(float(w.detach()[~masks[n]].abs().sum()) for n, w in masks.targets.items()))
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        return losses[-1]

    options = {"line_search_fn": "strong_wolfe"} if name == "LBFGS" else {"lr": 1e-2}
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    for _ in range(before):  # what the optimizer remembers of the whole network
        optimizer.step(closure)
    masks.keep(half(masks))
    masks.attach(optimizer)
    start = len(losses)
    for number in range(20):
        optimizer.step(closure=closure) if number % 2 else optimizer.step(closure)
    assert set(largest_pruned[start:]) == {0.0}
    assert all(not bool(weight.detach()[~masks[n]].any()) for n, weight in masks.targets.items())
    assert losses[-1] < losses[start]
    if name == "Adam" and not before:
        assert not bool(optimizer.state[model[0].weight]["exp_avg"][~masks["0.weight"]].any())


def test_close_takes_the_hooks_off() -> None:
    model = network()
    masks = Masks(prunable(model))
    masks.keep(half(masks))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with masks.attach(optimizer):
        train(model, optimizer, 3)
    train(model, optimizer, 3)
    assert bool((model[0].weight.detach()[~masks["0.weight"]] != 0).any())


def test_masks_survive_the_state_dict_and_leave_the_models_own_plain() -> None:
    model = network()
    masks = Masks(prunable(model))
    masks.keep(half(masks))
    twin = Masks(prunable(network()))
    twin.load_state_dict(masks.state_dict())
    assert all(torch.equal(twin[name], masks[name]) for name in masks)
    twin.zero_weights()
    assert float(twin.targets["0.weight"].detach()[~masks["0.weight"]].abs().max()) == 0.0
    assert set(model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not list(masks.parameters())


def test_a_mask_changed_in_place_takes_effect() -> None:
    model = network()
    masks = Masks(prunable(model))
    masks.zero_weights()
    masks["0.weight"][0] = False
    masks.zero_weights()
    assert float(model[0].weight[0].detach().abs().max()) == 0.0
    assert masks.density == pytest.approx(1 - 12 / (12 * 9 + 9 * 4))


def test_ranking_is_argsort_and_ties_go_to_the_first() -> None:
    scores = torch.tensor(np.random.default_rng(0).integers(0, 6, (20, 10)), dtype=torch.float64)
    among = torch.rand(20, 10, generator=torch.Generator().manual_seed(0)) < 0.7
    flat = np.where(among.numpy(), scores.numpy(), -1).ravel()
    expected = np.zeros(200, dtype=bool)
    expected[np.argsort(-flat, kind="stable")[:60]] = True
    marked = largest(scores, 60, among)
    np.testing.assert_array_equal(marked.numpy().ravel(), expected)
    assert bool((marked <= among).all())
    with pytest.raises(ValueError, match="count"):
        largest(scores, 201, among)
    with pytest.raises(ValueError, match="finite"):
        largest(scores * torch.nan, 3, among)


def test_what_is_prunable() -> None:
    shared = nn.Linear(6, 6)
    model = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3), "norm": nn.BatchNorm2d(2), "a": shared, "b": shared})
    assert list(prunable(model)) == ["conv.weight", "a.weight"]
    assert list(prunable(model, exclude=["conv"])) == ["a.weight"]
    with pytest.raises(ValueError, match="no linear or convolutional"):
        prunable(nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="matches no prunable layer"):
        prunable(model, exclude=["cnov"])
    with pytest.raises(ValueError, match="leaves no weight"):
        prunable(model, exclude=["*"])


def test_a_foreign_optimizer_and_a_wrong_shape_are_refused() -> None:
    masks = Masks(prunable(network()))
    with pytest.raises(ValueError, match="holds none"):
        masks.attach(torch.optim.SGD(network().parameters(), lr=0.1))
    with pytest.raises(ValueError, match="shape"):
        masks.keep({"0.weight": torch.ones(2, 2, dtype=torch.bool)})


def test_attention_recurrent_and_bilinear_matrices_are_pruned_too():
    names = list(prunable(nn.TransformerEncoderLayer(8, 2, 16)))
    assert names == ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    assert list(prunable(nn.MultiheadAttention(8, 2, kdim=4, vdim=6)))[:3] == [
        "q_proj_weight", "k_proj_weight", "v_proj_weight"
    ]  # fmt: skip
    assert list(prunable(nn.Sequential(nn.LSTM(3, 4), nn.Bilinear(2, 2, 2)))) == [
        "0.weight_ih_l0", "0.weight_hh_l0", "1.weight"
    ]  # fmt: skip
    assert list(prunable(nn.TransformerEncoderLayer(8, 2, 16), exclude=["self_attn"])) == [
        "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"
    ]  # fmt: skip


def test_ninety_percent_of_a_transformer_layer_is_ninety_percent():
    model = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    masks = Masks(prunable(model))
    masks.keep(
        {n: largest(w.abs(), w.numel() // 10, torch.ones_like(w, dtype=torch.bool)) for n, w in masks.targets.items()}
    )
    left = sum(int(p.count_nonzero()) for p in matrices) / sum(p.numel() for p in matrices)
    assert abs(left - 0.1) < 0.005
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    masks.attach(optimizer)
    model(torch.randn(2, 5, 16)).square().sum().backward()
    optimizer.step()
    assert sum(int(p.count_nonzero()) for p in matrices) / sum(p.numel() for p in matrices) == left


def test_what_another_mechanism_computes_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.warns(UserWarning, match=r"computes them: 0\.weight"):
        assert list(prunable(model)) == ["1.weight"]
