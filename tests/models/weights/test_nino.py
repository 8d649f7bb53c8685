"""Forecasts of parameters: against the released networks, under permutations, over the scales of tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.weights.test_neural_graph import gpt2
from torch import nn

from neurarium.models import Forecaster, NiNo, WeightNowcast, load_released, neural_graph
from neurarium.models.weights._nino import BoundNiNo, EdgeModulatedMessages

RELEASED = Path(__file__).parent / "data" / "nino_release.npz"
MODELS = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
    "conv": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Linear(6, 3)
    ),
    "gpt2": gpt2,
}  # fmt: skip


def walk(size, context=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(size, 1, generator=generator) + 0.01 * torch.randn(
        size, context, generator=generator
    ).cumsum(1)


def lively(forecaster, seed=0):
    """Weights far from zero, so that everything matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return forecaster


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_equal_the_released_codes(name, tmp_path):
    # weights drawn at random, run through the authors' code with all positions at zero
    with np.load(RELEASED) as file:
        kept = {key: torch.from_numpy(file[key]) for key in file.files}
    state = {key.removeprefix("state/"): value for key, value in kept.items() if key.startswith("state/")}
    torch.save({"state_dict": state, "model_args": {"wte_pos_enc": False}}, tmp_path / "nino.pt")
    nino = load_released(tmp_path / "nino.pt")
    model = MODELS[name]()
    graph = neural_graph(model)
    assert graph.nodes == int(kept[f"{name}/nodes"])
    bound = BoundNiNo(nino, model, [(graph, torch.zeros(graph.nodes, 8))])
    assert torch.allclose(bound.predict(kept[f"{name}/states"], 4), kept[f"{name}/future"], atol=1e-6)


def test_permuted_neurons_are_forecast_the_same():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    states = walk(4 * 6 + 6 + 6 * 3 + 3)

    def permuted(vectors):
        w, b, v, c = vectors.split([24, 6, 18, 3])
        rest = vectors.shape[1:]
        w, v = w.view(6, 4, *rest)[order].flatten(0, 1), v.view(3, 6, *rest)[:, order].flatten(0, 1)
        return torch.cat([w, b[order], v, c])

    nino = lively(NiNo(horizon=6, hidden=16, final_edge_update=True))
    graph = neural_graph(model)
    hidden = slice(4, 10)  # the nodes that the first layer feeds
    positions = graph.positions.clone()
    positions[hidden] = positions[hidden][order]
    plain = BoundNiNo(nino, model, [(graph, None)]).predict(states, 3)
    moved = BoundNiNo(nino, model, [(graph, positions)]).predict(permuted(states), 3)
    assert torch.allclose(moved, permuted(plain[:, None])[:, 0], atol=1e-5)
    assert not torch.allclose(moved, plain, atol=1e-3)


@pytest.mark.parametrize(
    "forecaster", [NiNo(hidden=16), WeightNowcast(hidden=16), WeightNowcast(hidden=16, plus=False)]
)
def test_scale_and_offset_of_a_tensor_come_back(forecaster):
    model = MODELS["mlp"]()
    bound = lively(forecaster).bind(model)
    states = walk(43).double()
    factor, offset = torch.tensor(
        [[2.0, 0.5, 10.0, 3.0], [1.0, -2.0, 0.3, 5.0]], dtype=torch.float64
    ).repeat_interleave(torch.tensor([20, 5, 15, 3]), dim=1)
    moved = bound.predict((factor[:, None] * states + offset[:, None]).float(), 7)
    expected = factor * bound.predict(states.float(), 7).double() + offset
    assert torch.allclose(moved.double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "forecaster", [NiNo(hidden=16), WeightNowcast(hidden=16), WeightNowcast(hidden=16, plus=False)]
)
def test_an_empty_readout_forecasts_the_last_state(forecaster):
    lively(forecaster)
    last = forecaster.readout[-1] if isinstance(forecaster, NiNo) else forecaster.network[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    states = walk(43)
    for k in (1, 40):
        assert torch.allclose(forecaster.bind(MODELS["mlp"]()).predict(states, k), states[:, -1], atol=1e-6)


def test_messages_equal_a_loop_over_edges():
    layer = lively(EdgeModulatedMessages(4)).double()
    x, e = torch.randn(1, 3, 4).double(), torch.randn(1, 5, 4).double()
    source, target = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 0, 0])
    expected = []
    for i in range(3):
        arriving = []
        for j in range(5):
            if target[j] == i:
                scale, shift = layer.modulation(e[0, j]).chunk(2)
                arriving.append(scale * layer.pair(torch.cat([x[0, i], x[0, source[j]]])) + shift)
        mean = torch.stack(arriving).mean(0) if arriving else torch.zeros(4).double()
        expected.append(layer.out(layer.update(torch.cat([x[0, i], mean]))))
    assert torch.allclose(layer(x, e, source, target, 5)[0], torch.stack(expected))


@pytest.mark.parametrize("final", [False, True])
def test_chunks_do_not_change_a_forecast(final):
    model = MODELS["gpt2"]()
    states = walk(sum(p.numel() for p in model.parameters()))
    whole = lively(NiNo(hidden=8, horizon=5, final_edge_update=final))
    small = NiNo(hidden=8, horizon=5, final_edge_update=final, chunk=100)
    small.load_state_dict(whole.state_dict())
    assert torch.allclose(small.bind(model).predict(states, 2), whole.bind(model).predict(states, 2), atol=1e-5)
    with torch.enable_grad():
        every = whole.bind(model).forecasts(states[None])
    with torch.no_grad():
        assert torch.allclose(whole.bind(model).forecasts(states[None], 2), every[..., 1], atol=1e-5)


def test_a_share_of_the_edges_is_enough_to_go_on():
    model = MODELS["gpt2"]()
    states = walk(sum(p.numel() for p in model.parameters()))
    nino = lively(NiNo(hidden=8, horizon=5))
    exact = nino.bind(model).predict(states, 2)
    nino.edge_share = 0.5
    sampled = nino.bind(model).predict(states, 2)
    assert torch.isfinite(sampled).all()
    assert not torch.allclose(sampled, exact)
    assert not torch.equal(nino.bind(model).predict(states, 2), sampled)  # drawn anew
    nino.draws = 0
    torch.manual_seed(5)  # but not from the global generator, which differs between ranks
    assert torch.equal(nino.bind(model).predict(states, 2), sampled)


def test_blocks_are_graphs_of_their_own():
    model = MODELS["gpt2"]()
    bound = lively(NiNo(hidden=8, horizon=5)).bind(model, blocks="transformer.h")
    assert [graph.parameters for graph, _ in bound.parts] == [
        sum(p.numel() for name, p in model.named_parameters() if ("h.1." in name or "ln_f" in name) == second)
        for second in (False, True)
    ]
    assert torch.isfinite(bound.predict(walk(sum(p.numel() for p in model.parameters())), 1)).all()
    with pytest.raises(ValueError, match="layers"):
        NiNo(hidden=8).bind(model, blocks="layers")


def test_tokens_have_an_embedding_where_wanted():
    model = MODELS["gpt2"]()
    states = walk(sum(p.numel() for p in model.parameters()))
    nino = lively(NiNo(hidden=8, horizon=5, vocabulary=7))
    before = nino.bind(model).predict(states, 1)
    with torch.no_grad():
        nino.token.weight[3] += 1
    assert not torch.allclose(nino.bind(model).predict(states, 1)[8:12], before[8:12], atol=1e-4)
    graph = neural_graph(model)
    assert graph.tokens[graph.tokens > 0].tolist() == list(range(1, 8))


@pytest.mark.parametrize(
    "forecaster", [NiNo(hidden=8, layers=2, final_edge_update=True), WeightNowcast(hidden=8, plus=False)]
)
def test_files_come_back(forecaster, tmp_path):
    lively(forecaster).save(tmp_path / "f.safetensors")
    again = Forecaster.load(tmp_path / "f.safetensors")
    states = walk(43)
    model = MODELS["mlp"]()
    assert torch.equal(again.bind(model).predict(states, 3), forecaster.bind(model).predict(states, 3))
    other = WeightNowcast if isinstance(forecaster, NiNo) else NiNo
    with pytest.raises(ValueError, match=f"holds no {other.__name__}"):
        other.load(tmp_path / "f.safetensors")


def test_requests_that_make_no_sense_name_the_argument():
    bound = NiNo(hidden=8).bind(MODELS["mlp"]())
    with pytest.raises(ValueError, match=r"43 parameters, 5 snapshots"):
        bound.predict(torch.zeros(43, 4), 1)
    with pytest.raises(ValueError, match="k must be between 1 and 40, not 41"):
        bound.predict(torch.zeros(43, 5), 41)
    with pytest.raises(ValueError, match="edge_share"):
        NiNo(edge_share=0.0)
    with pytest.raises(ValueError, match="context"):
        WeightNowcast(context=1)
