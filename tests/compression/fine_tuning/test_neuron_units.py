"""Whole hidden units of feed-forward networks as neurons: what they consist of, how they are found and trained."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import (
    NeuronFineTuning,
    NeuronSet,
    activation_neurons,
    gradient_neurons,
    neft,
    random_neurons,
    sensitive_neurons,
)
from neurarium.compression.fine_tuning._neurons import neuron_size
from neurarium.layers._linear_maps import neuron_parts
from neurarium.models import CausalTransformer
from neurarium.probes import neuron_similarity

TOKENS = torch.randint(11, (6, 12), generator=torch.Generator().manual_seed(1))


def language_model():
    torch.manual_seed(0)
    return CausalTransformer(11, d_model=16, nhead=2, num_layers=2, dim_feedforward=32, context=12)


def task_loss(model):
    return cross_entropy(model(TOKENS)[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


def train(model, parameters, steps=None):
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(steps or 20):
        optimizer.zero_grad()
        task_loss(model).backward()
        optimizer.step()


class Integers(nn.Module):
    """A quantised layer, as far as one can see from outside."""

    def __init__(self, in_features):
        super().__init__()
        self.in_features = in_features


class Gated(nn.Module):
    """The feed-forward network of LLaMA: two maps that make the hidden units, one that reads them."""

    def __init__(self, width=6, hidden=10):
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden)
        self.down_proj = nn.Linear(hidden, width)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class ShortCircuit(nn.Module):
    """A gated network that stands in a model, with a list of blocks and a head."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Gated(), Gated()])
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.mark.parametrize("impl", ["rows", "mask"])
def test_a_hidden_unit_is_its_rows_and_its_column(impl):
    torch.manual_seed(0)
    base = ShortCircuit()
    model = copy.deepcopy(base)
    neurons = random_neurons(model, fraction=0.2, unit="ffn", generator=torch.Generator().manual_seed(1))
    each = 6 + 6 + 1 + 6  # gate, up with its bias, down
    assert {neuron_size(parts) for parts in neuron_parts(model, unit="ffn").values()} == {each}
    assert neurons.sizes == {"blocks.0.down_proj.weight": 10, "blocks.1.down_proj.weight": 10}
    tuned = NeuronFineTuning(model, neurons, impl)
    assert neurons.count() == 4
    assert tuned.trainable_count() == 4 * each
    optimizer = torch.optim.AdamW(tuned.parameters(), 0.1, weight_decay=0.5)
    x = torch.randn(8, 6)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    output = model(x)
    torch.testing.assert_close(tuned.merge()(x), output, atol=1e-6, rtol=0)
    parts = (("gate_proj.weight", 1), ("up_proj.weight", 1), ("up_proj.bias", None), ("down_proj.weight", 0))
    for i, block in enumerate(model.blocks):
        chosen = neurons.get(f"blocks.{i}.down_proj.weight", torch.zeros(0, dtype=torch.long)).tolist()
        before = base.blocks[i]
        for name, along in parts:
            moved = block.get_parameter(name) != before.get_parameter(name)
            whole = moved if along is None else moved.all(along)
            some_of_it = moved if along is None else moved.any(along)
            assert whole.nonzero().squeeze(1).tolist() == some_of_it.nonzero().squeeze(1).tolist() == chosen, name
        assert torch.equal(block.down_proj.bias, before.down_proj.bias)
    assert torch.equal(model.head.weight, base.head.weight)


def test_planted_hidden_units_are_found_by_their_joint_vector():
    torch.manual_seed(0)
    base = ShortCircuit()
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for p in tuned.parameters():
            p += 1e-3 * torch.randn(p.shape)
        tuned.blocks[0].gate_proj.weight[7] += 0.3 * torch.randn(6)
        tuned.blocks[1].down_proj.weight[:, 2] += 0.3 * torch.randn(6)
    wanted = {"blocks.0.down_proj.weight": [7], "blocks.1.down_proj.weight": [2]}
    for criterion in ("similarity", "change"):
        found = sensitive_neurons(base, tuned, fraction=0.1, unit="ffn", criterion=criterion)
        assert {name: index.tolist() for name, index in found.items()} == wanted
    vectors = [torch.cat([b.gate_proj.weight[7], b.up_proj.weight[7], b.down_proj.weight[:, 7]]) for b in
               (base.blocks[0], tuned.blocks[0])]  # fmt: skip
    distance = neuron_similarity(base, tuned, unit="ffn").distances["blocks.0.down_proj.weight"][7]
    assert float(distance) == pytest.approx(1 - nn.functional.cosine_similarity(*vectors, dim=0).item(), rel=1e-3)
    by_size = sensitive_neurons(base, tuned, fraction=0.1, unit="ffn", budget="parameters")
    assert {name: index.tolist() for name, index in by_size.items()} == wanted


def test_hidden_units_have_gradients_activations_and_files(tmp_path):
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(5, 4))
        model[2].weight[:, 0] = 0.0  # nothing of unit 0 reaches the loss
    task = torch.rand(50, 4) + torch.tensor([0.0, 0, 0, 9])
    chosen = activation_neurons(model, [task], [torch.rand(50, 4)], fraction=0.2, unit="ffn")
    assert {name: index.tolist() for name, index in chosen.items()} == {"2.weight": [3]}
    by_gradient = gradient_neurons(model, lambda: model(task)[:, 1].sum(), fraction=0.2, unit="ffn")
    assert {name: index.tolist() for name, index in by_gradient.items()} == {"2.weight": [3]}
    chosen.save(tmp_path / "units.pt")
    assert NeuronSet.load(tmp_path / "units.pt").unit == "ffn"
    result, units = neft(base := language_model(), train, fraction=0.1, probe_steps=3, unit="ffn")
    assert units.sizes == {f"layers.{i}.linear2.weight": 32 for i in range(2)}
    assert task_loss(result).item() < task_loss(base).item() - 0.02
    with pytest.raises(ValueError, match="no feed-forward network"):
        random_neurons(nn.Linear(3, 3), unit="ffn")
    with pytest.raises(ValueError, match="unit must be 'vector' or 'ffn'"):
        random_neurons(model, unit="row")
    with pytest.raises(ValueError, match="axis has no meaning"):
        random_neurons(model, unit="ffn", axis="input")
    half = Gated(4, 5)
    units = NeuronSet({"down_proj.weight": torch.tensor([1])}, {"down_proj.weight": 5}, unit="ffn")
    half.gate_proj = Integers(4)
    with pytest.raises(ValueError, match="does not end a feed-forward network"):
        NeuronFineTuning(half, units)
    with pytest.raises(ValueError, match="does not end a feed-forward network"):
        NeuronFineTuning(nn.Sequential(Integers(4), nn.ReLU(), Integers(5)), chosen)
