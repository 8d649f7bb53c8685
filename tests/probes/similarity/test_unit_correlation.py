"""The streamed correlations against numpy, identities and controls."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.probes import UnitCorrelation, unit_correlations
from neurarium.probes.similarity._correlation_table import random_rotation


def network(*widths, seed=0):
    torch.manual_seed(seed)
    layers = [part for i, o in itertools.pairwise(widths) for part in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def conv(seed=0, channels=6, stride=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, channels, 3, stride=stride, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def batches(x, size):
    return [(part, None) for part in x.split(size)]


@pytest.mark.parametrize("size", [7, 64, 500])
def test_streaming_equals_numpy_whatever_the_batches(size):
    a = torch.randn(500, 5).double() * 3 + 1000  # a mean far above the deviation
    b = torch.randn(500, 4).double() + a[:, :4] * 0.1
    total = UnitCorrelation()
    for x, y in zip(a.split(size), b.split(size)):
        total.update(x, y)
    table = total.table()
    whole = np.corrcoef(a.numpy().T, b.numpy().T)
    assert np.allclose(table.matrix, whole[:5, 5:], atol=1e-10)
    assert np.allclose(table.within_a, whole[:5, :5], atol=1e-10)
    assert np.allclose(table.within_b, whole[5:, 5:], atol=1e-10)
    assert np.allclose(table.mean_a, a.mean(0), rtol=1e-12)
    assert np.allclose(table.std_b, b.std(0, correction=0), rtol=1e-10)


def test_float32_products_keep_six_digits_far_from_zero():
    a = (torch.randn(4000, 6) + 1e4).float()
    total = UnitCorrelation(precision=torch.float32)
    for x in a.split(300):
        total.update(x)
    assert np.allclose(total.table().matrix, np.corrcoef(a.double().numpy().T), atol=2e-6)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scales_do_not_matter(scale):
    x = torch.randn(200, 4)
    total = UnitCorrelation()
    total.update(x * scale, x)
    assert torch.allclose(total.table().matrix.diagonal(), torch.ones(4).double())
    assert total.table().dead_a == ()


def test_models_of_convolutions_equal_numpy_over_inputs_and_positions():
    a, b = conv(1), conv(2, channels=4)
    x = torch.randn(40, 1, 8, 8)
    a(x), b(x)
    table = unit_correlations(a, b, batches(x, 7), ["1"], ["1"])[0]
    with torch.no_grad():
        maps = [m[:2](x).permute(1, 0, 2, 3).flatten(1).double().numpy() for m in (a, b)]
    assert np.allclose(table.matrix, np.corrcoef(*maps)[:6, 6:], atol=1e-6)
    assert table.samples == 40 * 64
    mean = unit_correlations(a, b, batches(x, 7), ["1"], ["1"], reduce="mean")[0]
    with torch.no_grad():
        means = [m[:2](x).mean((2, 3)).T.double().numpy() for m in (a, b)]
    assert np.allclose(mean.matrix, np.corrcoef(*means)[:6, 6:], atol=1e-6)


def test_smaller_maps_are_resized_to_the_larger():
    a, b = conv(1), conv(2, channels=4, stride=2)
    x = torch.randn(20, 1, 8, 8)
    a(x), b(x)
    table = unit_correlations(a, b, batches(x, 7), ["1"], ["1"])[0]
    with torch.no_grad():
        large = nn.functional.interpolate(b[:2](x), (8, 8), mode="bilinear")
        maps = [m.permute(1, 0, 2, 3).flatten(1).double().numpy() for m in (a[:2](x), large)]
    assert np.allclose(table.matrix, np.corrcoef(*maps)[:6, 6:], atol=1e-5)


def test_a_model_against_itself_runs_once_and_a_positive_scale_changes_nothing():
    model = network(4, 8, 8, 2)
    x = torch.randn(300, 4)
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    own = unit_correlations(model, model, batches(x, 100))
    assert len(calls) == 3
    live = [i for i in range(8) if i not in own[0].dead_a]
    assert torch.allclose(own[0].matrix.diagonal()[live], torch.ones(len(live)).double())
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight *= 3
        other[0].bias *= 3
    scaled = unit_correlations(model, other, batches(x, 100))
    assert torch.allclose(scaled[0].matrix, own[0].matrix, atol=1e-6)
    total = UnitCorrelation()
    total.update(x, -2 * x)
    assert torch.allclose(total.table().matrix.diagonal(), -torch.ones(4).double())


def test_all_pairs_of_layers_equal_each_pair_alone():
    a, b = network(4, 6, 7, 2), network(4, 5, 3, 2, seed=1)
    x = torch.randn(90, 4)
    every = unit_correlations(a, b, batches(x, 30), pairs="all")
    assert list(every.tables) == [("1", "1"), ("1", "3"), ("3", "1"), ("3", "3")]
    alone = unit_correlations(a, b, batches(x, 90), ["3"], ["1"])[0]
    assert torch.allclose(every["3", "1"].matrix, alone.matrix, atol=1e-10)


def test_the_rotated_table_is_that_of_rotated_units():
    a, b = torch.randn(400, 5).double(), torch.randn(400, 4).double() + 2
    rotation = random_rotation(4, seed=3)
    assert torch.allclose(rotation @ rotation.T, torch.eye(4).double(), atol=1e-12)
    plain, turned = UnitCorrelation(), UnitCorrelation()
    plain.update(a, b)
    turned.update(a, b @ rotation.T)
    found, true = plain.table().rotated(rotation), turned.table()
    for name in ("matrix", "within_b", "mean_b", "std_b"):
        assert torch.allclose(getattr(found, name), getattr(true, name), atol=1e-10), name


def test_controls_destroy_what_they_should():
    model = network(6, 16, 16, 2)
    x = torch.randn(600, 6)

    def best(control):
        return float(unit_correlations(model, model, batches(x, 200), ["2"], control=control)[0].matrix.amax(1).mean())

    assert best(None) == pytest.approx(1, abs=1e-6)
    assert best("shuffle") < 0.2
    assert best("shuffle") < best("untrained") < 0.9
    assert 0.2 < best("rotation") < 0.95
    assert best("rotation") == best("rotation")


def test_positions_and_excluded_tokens():
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 5), nn.ReLU())
    tokens = torch.randint(1, 11, (8, 12))
    padded = torch.cat([tokens, torch.zeros(8, 5, dtype=torch.long)], 1)
    plain = unit_correlations(model, model, [tokens])[0]
    without = unit_correlations(model, model, [padded], exclude=[0])[0]
    assert plain.samples == without.samples == 96
    assert torch.allclose(plain.matrix, without.matrix, atol=1e-10)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, input_ids, attention_mask):
            return {"logits": self.inner(input_ids)}

    batch = {"input_ids": padded, "attention_mask": (padded > 0).long(), "labels": padded}
    named = unit_correlations(Named(), Named(), [batch])[0]
    assert torch.allclose(plain.matrix, named.matrix, atol=1e-10)
    few = unit_correlations(model, model, [tokens], positions=3)[0]
    assert few.samples == 24
    assert unit_correlations(model, model, [batch["input_ids"]], exclude=[0], reduce="mean")[0].samples == 8


def test_inputs_of_layers_can_be_named():
    model = network(4, 8, 2)
    x = torch.randn(50, 4)
    a = unit_correlations(model, model, [x], ["2:input"])[0]
    b = unit_correlations(model, model, [x], ["1"])[0]
    assert torch.equal(a.matrix, b.matrix)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)).train()
    model[1].eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    unit_correlations(model, model, [torch.randn(9, 4)], control="untrained")
    unit_correlations(model, model, [torch.zeros(9, 4).normal_(generator=torch.Generator().manual_seed(0))])
    assert [m.training for m in model] == [True, False, True, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    torch.set_rng_state(random)


def test_dead_units_are_listed_and_count_as_uncorrelated():
    model = network(4, 6, 2)
    with torch.no_grad():
        model[0].weight[2] = 0
        model[0].bias[2] = 0.7
    table = unit_correlations(model, model, [torch.randn(80, 4)])[0]
    assert 2 in table.dead_a
    assert float(table.matrix[2].abs().max()) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layers_a": ["11"]}, "no layer '11'"),
        ({"layers_a": ["1", "1"]}, "twice"),
        ({"layers_a": ["1", "3"], "layers_b": ["1"]}, "cannot be paired"),
        ({"control": "rotation", "within": False}, "within=True"),
    ],
)
def test_bad_arguments_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        unit_correlations(network(4, 6, 6, 2), network(4, 6, 6, 2), [torch.randn(8, 4)], **arguments)


def test_bad_data_is_named():
    model = network(4, 6, 2)
    x = torch.randn(8, 4)
    x[3, 1] = float("nan")
    with pytest.raises(ValueError, match=r"layers '1' and '1': unit \d of a has an activation that is not finite"):
        unit_correlations(model, model, [x])
    with pytest.raises(ValueError, match="at least 2 samples"):
        unit_correlations(model, model, [])
    with pytest.raises(ValueError, match="batches of at least 2"):
        unit_correlations(model, model, [x[:1].nan_to_num()], control="shuffle")
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    with pytest.raises(ValueError, match="all 6 units of the layer '1' are dead"):
        unit_correlations(model, model, [torch.randn(8, 4)])
    total = UnitCorrelation()
    with pytest.raises(ValueError, match="a has 3 samples, b has 4"):
        total.update(torch.randn(3, 2), torch.randn(4, 2))


def test_half_precision_models():
    model = network(4, 8, 2)
    x = torch.randn(64, 4)
    full = unit_correlations(model, model, [x])[0].matrix
    half = copy.deepcopy(model).bfloat16()
    assert torch.allclose(unit_correlations(half, half, [x.bfloat16()])[0].matrix, full, atol=0.05)
