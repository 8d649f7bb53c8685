"""All probes of units where nothing may come from, or stay behind on, the wrong device."""

import copy

import pytest
import torch
from torch import nn

from neurarium.data import token_features
from neurarium.models import CausalTransformer
from neurarium.objectives import shift_maps
from neurarium.probes import (
    align_permutation,
    co_cluster,
    excess_correlation,
    explain_neurons,
    guided_inversion,
    head_deactivation,
    intervene,
    match_units,
    mine_rosetta,
    neuron_roles,
    neuron_statistics,
    path_ablation,
    sparse_mapping,
    unit_correlations,
)
from neurarium.testing import second_device

NAME = second_device.register()


def draw(result):
    from matplotlib.figure import Figure

    result.plot(Figure().add_subplot())
    assert result.summary()


def networks(device):
    torch.manual_seed(0)
    models = [
        nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(384, 5), nn.Tanh(), nn.Linear(5, 2)
        )
        for _ in range(2)
    ]
    x = torch.randn(40, 1, 8, 8)
    return *(copy.deepcopy(model).to(device) for model in models), x.to(device)


@pytest.mark.parametrize("control", [None, "shuffle", "rotation", "untrained"])
def test_correlations_equal_those_of_the_cpu(control):
    found = []
    for device in ("cpu", NAME):
        a, b, x = networks(device)
        tables = unit_correlations(a, b, x.split(20), ["1", "4"], control=control, positions=9)
        found.append([table.matrix.cpu() for table in tables])
        draw(tables)
        draw(tables[0])
    for one, other in zip(*found):
        assert torch.allclose(one, other, atol=1e-5)


def test_matching_mapping_clusters_and_alignment():
    a, b, x = networks(NAME)
    table = unit_correlations(a, b, x.split(20), ["4"])[0]
    matching = match_units(table)
    for result in (matching, sparse_mapping(table, held_out=table), co_cluster(table, 2)):
        draw(result)
    aligned = align_permutation(b, "3", matching.permutation, x)
    assert torch.allclose(aligned(x).cpu(), b(x).cpu(), atol=1e-5)


def test_rosetta_and_inversion():
    a, b, x = networks(NAME)
    found = mine_rosetta(a, {"b": b, "copy": copy.deepcopy(a)}, x.split(20), null_quantile=0.0)
    draw(found)
    generator = nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8)), nn.Tanh()).to(NAME)
    z = torch.randn(4, 3).to(NAME)
    with torch.no_grad():
        targets, valid = shift_maps(generator(z), 1, 1)
    draw(guided_inversion(generator, z, ["2"], [0], targets, valid=valid, images=x[:4], steps=3))


def test_neurons_of_decoders():
    torch.manual_seed(0)
    model = CausalTransformer(20, 16, 2, 2, 24, 12).to(NAME)
    sibling = CausalTransformer(20, 16, 2, 2, 24, 12).to(NAME)
    batches = [torch.randint(0, 20, (6, 12)).to(NAME) for _ in range(2)]
    draw(excess_correlation(model, [sibling, model], batches, exclude=[3]))
    draw(neuron_statistics(model, batches, exclude=[3]))
    draw(explain_neurons(model, batches, token_features([chr(97 + i) for i in range(20)], context=12), exclude=[3]))
    draw(neuron_roles(model))
    draw(intervene(model, {"layers.0.linear2:input": [1]}, batches, exclude=[3]))
    draw(head_deactivation(model, 2))
    draw(path_ablation(model, "layers.0.linear2:input", 1, "layers.1.self_attn", 0, batches))
