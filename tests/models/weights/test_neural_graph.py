"""Parameters on the edges of a neural graph: a bijection for every kind of layer, and refusals that name the layer."""

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.models import CausalTransformer, neural_graph
from neurarium.models.weights._neuron_graph import KINDS


class Conv1D(nn.Module):
    """A linear layer whose weight is stored [in, out], as in GPT-2."""

    def __init__(self, out_features, in_features):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))


def part(**children):
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def gpt2(width=4, heads=2, layers=2, tokens=7, context=3):
    def block():
        attn = part(c_attn=Conv1D(3 * width, width), c_proj=Conv1D(width, width))
        attn.num_heads = heads
        mlp = part(c_fc=Conv1D(4 * width, width), c_proj=Conv1D(width, 4 * width))
        return part(ln_1=nn.LayerNorm(width), attn=attn, ln_2=nn.LayerNorm(width), mlp=mlp)

    body = part(
        wte=nn.Embedding(tokens, width), wpe=nn.Embedding(context, width),
        h=nn.ModuleList(block() for _ in range(layers)), ln_f=nn.LayerNorm(width),
    )  # fmt: skip
    head = nn.Linear(width, tokens, bias=False)
    head.weight = body.wte.weight
    return part(transformer=body, lm_head=head)


def llama(width=8, heads=4, key_heads=2, layers=2, tokens=7):
    size = width // heads

    def block():
        attn = part(
            q_proj=nn.Linear(width, width, bias=False), k_proj=nn.Linear(width, key_heads * size, bias=False),
            v_proj=nn.Linear(width, key_heads * size, bias=False), o_proj=nn.Linear(width, width, bias=False),
        )  # fmt: skip
        attn.head_dim = size
        mlp = part(**{n: nn.Linear(width, 12, bias=False) for n in ("gate_proj", "up_proj")},
                   down_proj=nn.Linear(12, width, bias=False))  # fmt: skip
        return part(
            self_attn=attn, mlp=mlp, input_layernorm=nn.RMSNorm(width), post_attention_layernorm=nn.RMSNorm(width)
        )

    body = part(
        embed_tokens=nn.Embedding(tokens, width),
        layers=nn.ModuleList(block() for _ in range(layers)),
        norm=nn.RMSNorm(width),
    )
    return part(model=body, lm_head=nn.Linear(width, tokens, bias=False))


MODELS = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
    "conv": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 5, groups=2, bias=False), nn.Flatten(),
        nn.Linear(6 * 12, 3),
    ),  # 5 x 5 kernels and twelve places per channel do not fit on one edge
    "transformer": lambda: CausalTransformer(11, 8, 2, 2, 16, 6),
    "gpt2": gpt2,
    "grouped queries": llama,
    "transposed convolution": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_on_one_edge(name):
    model = MODELS[name]()
    graph = neural_graph(model)
    states = torch.randn(sum(p.numel() for p in model.parameters()), 3)
    edges = graph.to_edges(states)
    assert torch.equal(graph.to_vector(edges), states)
    assert sorted(graph.entries[graph.real].tolist()) == list(range(graph.parameters))
    constant = edges[~graph.real.any(1)][:, 0]
    loops = graph.edge_index[0] == graph.edge_index[1]
    assert torch.equal(constant[loops[~graph.real.any(1)]], torch.full((graph.nodes, 3), 2.0))
    assert (constant[~loops[~graph.real.any(1)]] == 1).all()


def test_edges_lead_from_the_neuron_read_to_the_neuron_fed():
    model = MODELS["mlp"]()
    graph = neural_graph(model)
    weight = graph.to_edges(torch.arange(float(graph.parameters))[:, None])[:, 0, 0]
    first, second = model[0].weight.numel() + 5, 0
    kept = graph.edge_type == KINDS.index("linear")
    found = {tuple(pair): int(value) for pair, value in zip(graph.edge_index.T[kept].tolist(), weight[kept])}
    inputs, hidden = list(range(4)), list(range(4, 9))
    for o in range(5):
        for i in range(4):
            assert found[inputs[i], hidden[o]] == o * 4 + i
    targets = {target for source, target in found if source in hidden}
    assert len(targets) == 3
    second = [value for (source, _), value in found.items() if source in hidden]
    assert sorted(second) == list(range(first, first + 15))


def test_queries_and_keys_of_a_head_meet():
    graph = neural_graph(gpt2(layers=1))
    ends = {
        kind: graph.edge_index[:, graph.edge_type == KINDS.index(kind)] for kind in ("query", "key", "value", "head")
    }
    assert set(ends["query"][1].tolist()) == set(ends["key"][0].tolist())
    assert set(ends["key"][1].tolist()) == set(ends["query"][0].tolist())
    for head in ends["head"][0].unique():
        reached = set(ends["head"][1, ends["head"][0] == head].tolist())
        assert len(reached & set(ends["query"][1].tolist())) == len(reached & set(ends["value"][1].tolist())) == 2


def test_a_tied_tensor_is_one_set_of_edges():
    assert neural_graph(gpt2(layers=1)).kinds()["token embedding"] == 28
    untied = gpt2(layers=1)
    untied.lm_head.weight = nn.Parameter(torch.randn(7, 4))
    assert neural_graph(untied).kinds()["linear"] == neural_graph(gpt2(layers=1)).kinds()["linear"] + 28


def test_positions_are_eigenvectors_dense_and_by_lanczos():
    for width in (5, 300):
        graph = neural_graph(nn.Sequential(nn.Linear(7, width), nn.ReLU(), nn.Linear(width, 9), nn.Linear(9, 300)))
        adjacency = np.zeros((graph.nodes, graph.nodes))
        source, target = graph.edge_index.numpy()
        adjacency[source, target] = adjacency[target, source] = 1
        np.fill_diagonal(adjacency, 0)
        degree = adjacency.sum(1)
        laplacian = np.eye(graph.nodes) - adjacency / np.sqrt(degree[:, None] * degree)
        vectors = graph.positions.double().numpy()
        values = (vectors * (laplacian @ vectors)).sum(0)
        assert np.allclose(laplacian @ vectors, vectors * values, atol=1e-4)
        assert np.allclose(values, np.linalg.eigvalsh(laplacian)[1:9], atol=1e-5)


def test_parts_hold_their_stretch_of_the_vector():
    model = MODELS["transformer"]()
    graph = neural_graph(model)
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in model.layers]
    start = model.tokens.weight.numel() + model.positions.numel()
    states = torch.randn(graph.parameters, 2)
    piece = graph.subgraph(slice(start, start + sizes[0]))
    inside = states[start : start + sizes[0]]
    assert torch.equal(piece.to_vector(piece.to_edges(inside)), inside)
    assert piece.kinds()["residual"] == 16
    assert piece.kinds()["self-loop"] == piece.nodes < graph.nodes


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(3, 4))
        self.layer = nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Odd(), ["Odd", "mixing", "edges-only"]),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)), ["1", "reads 5", "has 4"]),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5)), ["1", "5", "4"]),
        (nn.Sequential(nn.LSTM(3, 4)), ["0", "LSTM", "weight_ih_l0"]),
        (nn.ReLU(), ["no parameters"]),
    ],
)
def test_what_is_not_known_is_refused_by_name_or_laid_out_alone(model, words):
    with pytest.raises(ValueError) as caught:
        neural_graph(model)
    assert all(word in str(caught.value) for word in words)
    if any(True for _ in model.parameters()):
        with pytest.warns(UserWarning, match="cannot be told"):
            graph = neural_graph(model, fallback="edges-only")
        states = torch.randn(graph.parameters, 1)
        assert torch.equal(graph.to_vector(graph.to_edges(states)), states)


def test_heads_have_to_be_known():
    model = gpt2(layers=1)
    del model.transformer.h[0].attn.num_heads
    with pytest.raises(ValueError, match=r"h\.0\.attn.*give heads="):
        neural_graph(model)
    assert neural_graph(model, heads=2).kinds() == neural_graph(gpt2(layers=1)).kinds()


def test_states_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"\[43, context\]"):
        neural_graph(MODELS["mlp"]()).to_edges(torch.randn(42, 2))
