"""The similarity, overlap and rank shift of neurons against cases that can be worked out by hand."""

import copy

import pytest
import torch
from torch import nn

from neurarium.models import CausalTransformer
from neurarium.probes import neuron_output_similarity, neuron_overlap, neuron_rank_shift, neuron_similarity


def pair():
    base = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        base.weight.copy_(torch.eye(4) * torch.tensor([1.0, 2.0, 3.0, 4.0]))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned.weight[1] *= 2  # longer: cos = 1
        tuned.weight[2, 0] = 3.0  # plus an orthogonal vector of equal length: cos = 0.7071
        tuned.weight[3, 0] = 4e-3  # cos = 1 - 5e-7: lost to rounding if it were subtracted
    return base, tuned


def test_cosine_of_single_rows():
    base, tuned = pair()
    found = neuron_similarity(base, tuned)
    distance = found.distances["weight"]
    assert float(distance[0]) == float(distance[1]) == 0.0
    assert float(distance[2]) == pytest.approx(1 - 0.5**0.5, rel=1e-6)
    assert float(distance[3]) == pytest.approx(5e-7, rel=1e-4)
    assert found.norms["weight"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert torch.equal(neuron_similarity(base, tuned.state_dict()).distances["weight"], distance)


def test_columns_are_rows_of_the_transpose():
    base, tuned = pair()
    columns = neuron_similarity(base, tuned, axis="input").distances["weight"]
    for layer in (base, tuned):
        layer.weight.data = layer.weight.data.T.contiguous()
    assert torch.equal(neuron_similarity(base, tuned).distances["weight"], columns)


def test_equal_steps_turn_short_rows_most():
    torch.manual_seed(0)
    base = nn.Linear(50, 40, bias=False)
    with torch.no_grad():
        base.weight *= torch.logspace(0, 2, 40)[:, None]
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned.weight += 1e-3 * torch.randn(40, 50).sign()
    assert neuron_similarity(base, tuned).norm_correlation > 0.99


def test_overlap_and_chance():
    a = {"w": torch.tensor([0, 1, 2]), "v": torch.tensor([5])}
    b = {"w": torch.tensor([2, 3]), "v": torch.tensor([5])}
    found = neuron_overlap(a, b, {"w": 10, "v": 10})
    assert found.jaccard == 2 / 5
    assert found.by_weight == {"w": 1 / 4, "v": 1.0}
    shared = 4 * 3 / 20
    assert found.chance == pytest.approx(shared / (7 - shared))
    with pytest.raises(ValueError, match="empty"):
        neuron_overlap({}, {}, {"w": 10})


def test_rank_shift_names_the_groups():
    base = nn.Linear(3, 4, bias=False)
    full, partial = copy.deepcopy(base), copy.deepcopy(base)
    with torch.no_grad():
        for row, amount in ((0, 0.3), (1, 0.2), (2, 0.1)):  # most changed: 0, then 1, then 2
            full.weight[row, 0] += amount * 3
        for row in (0, 2):  # trained: 0 and 2
            partial.weight[row, 0] += 0.3
    shift = neuron_rank_shift(
        neuron_similarity(base, full), neuron_similarity(base, partial), {"weight": torch.tensor([0, 2])}
    )
    order = neuron_similarity(base, full).distances["weight"].argsort(descending=True).tolist()
    most = set(order[:2])
    assert shift.strongly_affected == len(most & {0, 2})
    assert shift.suppressed == len(most - {0, 2})
    moved = shift.shift["weight"]
    assert float(moved.sum()) == 0.0
    assert float(moved[1]) < 0 < float(moved[2])


def chain():
    """y = x, then z_0 = y_0 and z_1 = y_0 + y_1."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    return model


def test_outputs_turn_by_the_cosine_over_all_inputs():
    base, tuned = chain(), chain()
    with torch.no_grad():
        tuned[0].weight[1] = torch.tensor([1.0, 0.0])  # unit 1 now gives what unit 0 gives
    inputs = torch.tensor([[1.0, 2.0], [3.0, 1.0], [1.0, -1.0]])
    found = neuron_output_similarity(base, tuned, inputs.split(1))  # batch by batch, or at once
    together = neuron_output_similarity(base, tuned, [inputs])
    a, b = inputs.double().T  # before: b, then a + b; after: a, then 2 a
    expected = [1 - float(x @ y / x.norm() / y.norm()) for x, y in ((b, a), (a + b, 2 * a))]
    for part in (found, together):
        assert part.distances["0.weight"].tolist() == pytest.approx([0, expected[0]], rel=1e-6)
        assert part.distances["1.weight"].tolist() == pytest.approx([0, expected[1]], rel=1e-6)
        assert float(part.norms["1.weight"][1]) == pytest.approx(float((a + b).norm()), rel=1e-6)


def test_neurons_that_were_kept_are_affected_through_those_before_them():
    base, full, partial = chain(), chain(), chain()
    with torch.no_grad():
        full[0].weight[1, 0] = 0.5
        full[1].weight[0, 1] = 0.1
        partial[0].weight[1, 0] = 1.0
    inputs = [torch.randn(20, 2, generator=torch.Generator().manual_seed(0))]
    similar = neuron_similarity(base, full), neuron_similarity(base, partial)
    one = {"0.weight": torch.tensor([1])}
    outputs = neuron_output_similarity(base, partial, inputs)
    assert neuron_rank_shift(*similar, one).indirectly_affected is None
    assert neuron_rank_shift(*similar, one, outputs).indirectly_affected == 0  # it changed most itself
    two = {"0.weight": torch.tensor([1]), "1.weight": torch.tensor([0])}  # the second learned nothing, nor does it see
    found = neuron_rank_shift(*similar, two, outputs)
    assert (found.strongly_affected, found.suppressed, found.indirectly_affected) == (2, 0, 1)
    assert "1 indirectly affected" in found.summary()
    with pytest.raises(ValueError, match="same weights"):
        neuron_rank_shift(*similar, one, neuron_output_similarity(base, partial, inputs, modules=["0"]))


def test_outputs_of_attention_are_seen_and_modes_are_left():
    torch.manual_seed(0)
    base = CausalTransformer(7, d_model=8, nhead=2, num_layers=2, dim_feedforward=16, context=6)
    tuned = copy.deepcopy(base)
    attention = tuned.layers[1].self_attn
    with torch.no_grad():
        attention.in_proj_weight[20] *= -1.0
        attention.out_proj.weight[3] *= -1.0
    base.eval()
    tokens = torch.randint(7, (4, 6))
    assert list(neuron_output_similarity(base, base, [tokens]).distances) == list(
        neuron_similarity(base, base).distances
    )
    found = neuron_output_similarity(base, tuned, [tokens]).distances
    assert all(float(d.max()) < 1e-12 for name, d in found.items() if name.startswith("layers.0"))
    stacked = found["layers.1.self_attn.in_proj_weight"]
    assert (stacked > 1e-3).nonzero().squeeze(1).tolist() == [20]  # a value: what it sees is as before
    assert float(found["layers.1.self_attn.out_proj.weight"][3]) > 1
    assert float(found["layers.1.linear1.weight"].min()) > 0  # kept, but downstream
    assert not base.training
    assert tuned.training
    assert tuned.layers[1].training
    with pytest.raises(ValueError, match="give batches"):
        neuron_output_similarity(base, tuned, [])


def test_models_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"differ in architecture: weight has shape \(3, 2\), not \(2, 2\)"):
        neuron_similarity(nn.Linear(2, 2), nn.Linear(2, 3))
    with pytest.raises(ValueError, match="bias is missing"):
        neuron_similarity(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
