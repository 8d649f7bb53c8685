"""Groups of units in models of many kinds, and the smaller models that are cut along them."""

import pytest
import torch
from torch import nn

from neurarium.models import CausalTransformer, extract, sliced, take, trace_architecture


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class Joined(nn.Module):
    """Two branches and the input, concatenated; optionally added to a third branch."""

    def __init__(self, add=False):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 2), nn.Linear(4, 12)
        self.out = nn.Linear(12, 3)
        self.add = add

    def forward(self, x):
        joined = torch.cat([self.a(x), x, self.b(x)], 1)
        return self.out(joined + self.c(x) if self.add else joined)


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.back = nn.ConvTranspose1d(8, 6, 3)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.relu(self.back(torch.relu(self.conv(x)))).mean(-1))


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), Residual(16), nn.MaxPool2d(2), Residual(16), nn.Conv2d(16, 16, 3, groups=16),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def volume():
    return nn.Sequential(nn.Conv3d(1, 8, 2), nn.ReLU(), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 3)), (2, 8)),
    "resnet": (resnet, (2, 3, 8, 8)),
    "joined": (Joined, (2, 4)),
    "signal": (Signal, (2, 2, 9)),
    "volume": (volume, (2, 1, 3, 3, 3)),
    "transformer": (lambda: CausalTransformer(11, d_model=32, num_layers=2, context=8), None),
}


@pytest.mark.parametrize("name", MODELS)
def test_slices_and_extracted_models_give_equal_outputs_and_the_whole_comes_back(name):
    make, shape = MODELS[name]
    model = make().eval()
    x = torch.randint(0, 11, (2, 8)) if shape is None else torch.randn(shape)
    architecture = trace_architecture(model, x)
    units = architecture.counts(0.5)
    whole, attributes = model(x), [dict(m.__dict__) for m in model.modules()]
    with sliced(model, architecture, units):
        part = model(x)
    small = extract(model, architecture, units).eval()
    assert not torch.allclose(part, whole)
    torch.testing.assert_close(small(x), part, rtol=1e-5, atol=1e-6)
    assert torch.equal(model(x), whole)
    assert [dict(m.__dict__).keys() for m in model.modules()] == [a.keys() for a in attributes]
    assert sum(p.numel() for p in small.parameters()) < 0.8 * sum(p.numel() for p in model.parameters())
    assert not {p.data_ptr() for p in small.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_residual_adds_tie_the_layers_that_they_join():
    architecture = trace_architecture(resnet(), torch.randn(1, 3, 8, 8))
    assert [group.layers for group in architecture.groups.values()] == [
        ("0", "1.conv2", "3.conv2", "4"), ("1.conv1",), ("3.conv1",),
    ]  # fmt: skip
    assert architecture.group_of("4") is architecture.group_of("0")
    assert "output" in architecture.fixed["7"]


def test_a_flattened_map_is_cut_at_the_same_units_as_its_channels():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4 * 9, 2))
    architecture = trace_architecture(model, torch.randn(1, 1, 3, 3))
    small = extract(model, architecture, architecture.counts(0.5))
    assert torch.equal(small[2].weight, model[2].weight[:, : 2 * 9])


def test_concatenation_maps_each_branch_to_its_columns():
    model = Joined()
    architecture = trace_architecture(model, torch.randn(1, 4))
    small = extract(model, architecture, architecture.counts(0.5))
    columns = [0, 1, 2, 6, 7, 8, 9, 10]  # half of a, the whole input, half of b
    assert torch.equal(small.out.weight, model.out.weight[:, columns])


def test_weights_are_views_so_gradients_arrive_in_the_whole():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    architecture = trace_architecture(model, torch.randn(1, 4))
    with sliced(model, architecture, architecture.counts(0.25)):
        assert model[0].weight.shape == (2, 4)
        assert model[0].out_features == 2
        assert model[0].weight.data_ptr() == model._modules["0"].weight.data_ptr()
        assert model[0].weight._base is not None
        model(torch.randn(5, 4)).sum().backward()
    assert model[0].out_features == 8
    assert bool(model[0].weight.grad[:2].any())
    assert not bool(model[0].weight.grad[2:].any())


def test_attention_is_cut_by_whole_heads():
    model = CausalTransformer(11, d_model=32, nhead=4, num_layers=1, context=8)
    architecture = trace_architecture(model, torch.zeros(1, 8, dtype=torch.long))
    group = architecture.group_of("tokens")
    assert group.multiple == 8
    assert group.count(0.6) == 16
    with pytest.raises(ValueError, match="heads of 8"):
        group.count(0.01)
    small = extract(model, architecture, architecture.counts(0.5))
    assert small.layers[0].self_attn.num_heads == 2
    assert small.layers[0].self_attn.embed_dim == 16
    rows = [*range(16), *range(32, 48), *range(64, 80)]
    assert torch.equal(small.layers[0].self_attn.in_proj_weight, model.layers[0].self_attn.in_proj_weight[rows, :16])


def test_what_does_not_correspond_is_refused_by_name_unless_it_is_kept():
    with pytest.raises(ValueError, match=r"units of a, .*b with units of c"):
        trace_architecture(Joined(add=True), torch.randn(1, 4))
    with pytest.raises(ValueError, match=r"can be cut .*a: keep names it; b: keep names it"):
        trace_architecture(Joined(add=True), torch.randn(1, 4), keep=("a", "b", "c"))
    with pytest.raises(ValueError, match="has no such layer"):
        trace_architecture(Joined(), torch.randn(1, 4), keep=("d",))
    with pytest.raises(ValueError, match=r"no layer whose width can be cut .0: it is the model's output"):
        trace_architecture(nn.Sequential(nn.Linear(4, 3)), torch.randn(1, 4))


def test_what_is_not_understood_stays_whole():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.out(self.first(x).sort(-1).values) + self.out(self.second(x).view(-1, 6))

    model = Strange()
    with pytest.raises(ValueError, match="sort may depend on its size"):
        trace_architecture(model, torch.randn(2, 4))


def test_units_can_be_given_by_index():
    architecture = trace_architecture(model := Joined(), torch.randn(1, 4))
    units = {architecture.group_of("a").index: torch.tensor([5, 1])}
    kept = take(model.out.weight, architecture.axes["out.weight"], units)
    assert torch.equal(kept, model.out.weight[:, [5, 1, 6, 7, 8, 9, 10, 11]])
