"""Mining, its null level, map alignment, edits and inversion against numpy, hand-made tables and identities."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from neurarium.objectives import map_alignment_loss, paste_maps, shift_maps, zoom_maps
from neurarium.probes import guided_inversion, mine_rosetta
from neurarium.probes.similarity._maps import Maps
from neurarium.probes.similarity._rosetta import _Table, concepts, mutual_neighbours


def net(seed=0, channels=6, stride=1):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.Tanh(), nn.Conv2d(channels, 8, 3, stride=stride, padding=1), nn.Tanh()
    ).eval()  # fmt: skip


def images(count=60, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return interpolate(torch.randn(count, 1, size // 2, size // 2, generator=generator), (size, size), mode="bilinear")


def test_mutual_neighbours_by_hand():
    table = torch.tensor([[0.9, 0.1, 0, 0], [0.8, 0.2, 0, 0], [0, 0, 0.7, 0.6], [0, 0, 0.65, 0.9]])
    assert mutual_neighbours(table, 1, 1).tolist() == [[0, 0], [2, 2], [3, 3]]
    assert mutual_neighbours(table, 1, 2).tolist() == [[0, 0], [1, 0], [2, 2], [3, 3]]


def shuffled(model):
    other, order = copy.deepcopy(model), torch.randperm(6)
    with torch.no_grad():
        other[0].weight.copy_(other[0].weight[order])
        other[0].bias.copy_(other[0].bias[order])
        other[2].weight.copy_(other[2].weight[:, order])
    return other, order


def test_a_shuffled_copy_is_found_unit_by_unit():
    model = net()
    other, order = shuffled(model)
    found = mine_rosetta(model, {"copy": other}, images().split(20))
    assert len(found.units) == 14
    wanted = torch.cat([order.argsort(), torch.arange(8) + 6])
    assert torch.equal(found.partners[:, 0], wanted[found.units])
    assert torch.allclose(found.scores, torch.ones(14, 1).double(), atol=1e-5)
    entry = found.entries()[0]
    assert entry["places"]["anchor"][0] in ("1", "3")
    assert found.concepts <= 14


def test_positive_affine_changes_of_units_change_nothing_and_negation_breaks_the_match():
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.inner, self.factor, self.last = net(), factor, nn.Identity()

        def forward(self, x):
            return self.last(self.factor * self.inner(x) + 2)

    data = images().split(30)
    places = {"anchor": ["3"], "other": ["last"]}
    same = mine_rosetta(net(), {"other": Scaled(3.0)}, data, places)
    assert len(same.units) == 8
    assert torch.allclose(same.scores, torch.ones(8, 1).double(), atol=1e-5)
    negated = mine_rosetta(net(), {"other": Scaled(-1.0)}, data, places)
    assert not bool((negated.partners[:, 0] == negated.units).any())


@pytest.mark.parametrize("size", [7, 60])
def test_scores_equal_numpys_over_upsampled_maps(size):
    a, b = net(1), net(2, 5, stride=2)
    table, readers = _Table(torch.float64), [Maps(m, ["1", "3"]) for m in (a, b)]
    with torch.no_grad():
        for batch in images().split(size):
            table.update(*(reader.read(batch) for reader in readers))
        columns = []
        for model in (a, b):
            maps = [model[:2](images()), model(images())]
            large = [interpolate(m, (8, 8), mode="bilinear") for m in maps]
            columns.append(torch.cat([m.permute(1, 0, 2, 3).flatten(1) for m in large]).double().numpy())
    whole = np.corrcoef(*columns)[:14, 14:]
    assert np.allclose(table.matrix(), whole, atol=1e-5)


def test_a_map_and_its_double_agree_and_constants_stay_constant():
    low = torch.randn(20, 3, 4, 4)
    table = _Table(torch.float64)
    table.update({"a": low}, {"b": interpolate(low, (8, 8), mode="bilinear")})
    assert torch.allclose(table.matrix().diagonal(), torch.ones(3).double(), atol=1e-6)


def test_shuffled_images_give_nothing_and_chance_is_calibrated():
    model = net()
    data = images(80).split(40)
    both = {"self": model, "other": net(1)}
    assert len(mine_rosetta(model, both, data, shuffle=True).units) <= 1 < len(mine_rosetta(model, both, data).units)

    class Noise(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.generator, self.last = torch.Generator().manual_seed(seed), nn.Identity()

        def forward(self, x):
            return self.last(torch.randn(len(x), 60, 4, 4, generator=self.generator))

    places = {"anchor": ["last"], "b": ["last"]}
    found = mine_rosetta(Noise(1), {"b": Noise(2)}, images(100).split(50), places, mutual=False, null_quantile=0.95)
    assert len(found.units) <= 12  # about 5 % of 60


def test_tokens_become_maps():
    class Tokens(nn.Module):
        def __init__(self, extra):
            super().__init__()
            self.extra, self.last = extra, nn.Identity()

        def forward(self, x):
            maps = x.flatten(2).transpose(1, 2)
            return self.last(torch.cat([torch.full_like(maps[:, : self.extra], 9.0), maps], 1))

    x = torch.randn(2, 3, 4, 4)
    for extra in (0, 1):
        assert torch.equal(Maps(Tokens(extra), ["last"]).read(x)["last"], x)
    wide = torch.randn(2, 3, 2, 6)
    with pytest.raises(ValueError, match="no square"):
        Maps(Tokens(1), ["last"]).read(wide)
    assert torch.equal(Maps(Tokens(1), ["last"], grid=(2, 6)).read(wide)["last"], wide)


def test_units_of_one_concept_are_joined():
    c = torch.tensor([[1, 0.9, 0.1], [0.9, 1, 0.0], [0.1, 0.0, 1]])
    assert concepts(c, 0.5).unique(return_counts=True)[1].sort().values.tolist() == [1, 2]
    assert len(concepts(c, 0.95).unique()) == 3


def test_alignment_is_minus_the_correlation():
    maps, targets = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 8, 8)
    pairs = zip(maps.flatten(0, 1), targets.flatten(0, 1))
    each = [np.corrcoef(a.detach().flatten(), b.flatten())[0, 1] for a, b in pairs]
    loss = map_alignment_loss(maps, targets)
    assert float(loss.detach()) == pytest.approx(-np.mean(each), abs=1e-5)
    assert float(map_alignment_loss(3 * targets + 1, targets)) == pytest.approx(-1, abs=1e-5)
    loss.backward()
    assert float(maps.grad.abs().max()) > 0
    moved, valid = shift_maps(targets, 0, 3)
    other = moved.clone()
    other[~valid] = 77.0
    assert float(map_alignment_loss(other, moved, valid)) == pytest.approx(-1, abs=1e-5)


def test_edits_of_maps():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    moved, valid = shift_maps(maps, 1, -2)
    assert moved[0, 0].tolist() == [[0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0], [10, 11, 0, 0]]
    assert valid[0, 0].int().sum() == 6
    same, all_valid = zoom_maps(maps, 1.0)
    assert torch.allclose(same, maps, atol=1e-5)
    assert bool(all_valid.all())
    shrunk, inside = zoom_maps(maps, 0.5)
    assert int(inside.sum()) == 4
    assert shrunk.shape == maps.shape
    pasted = paste_maps(maps, torch.full((1, 1, 2, 2), -1.0), 2, 2)
    assert float(pasted.sum()) == float(maps.sum()) - (10 + 11 + 14 + 15) - 4
    with pytest.raises(ValueError, match="does not fit"):
        paste_maps(maps, torch.zeros(1, 1, 2, 2), 3, 3)


class Painter(nn.Module):
    """Draws a blob at the place that the latent names."""

    def __init__(self):
        super().__init__()
        self.last = nn.Identity()

    def forward(self, z):
        at = torch.linspace(-1, 1, 12)
        blob = (-((at[:, None] - z[:, 0, None, None]) ** 2 + (at - z[:, 1, None, None]) ** 2) / 0.1).exp()
        return self.last(blob[:, None])


def test_inversion_reproduces_images_and_follows_maps():
    generator = Painter()
    true = torch.tensor([[0.3, -0.2], [-0.4, 0.1]])
    goal = generator(true)
    plain = guided_inversion(generator, torch.zeros(2, 2), images=goal, steps=200, lr=0.03)
    assert torch.allclose(plain.latents, true, atol=0.02)
    follow = guided_inversion(generator, torch.zeros(2, 2), ["last"], [0], 5 * goal + 1, steps=200, lr=0.03)
    assert torch.allclose(follow.latents, true, atol=0.02)
    assert float(follow.alignment[-1]) > 0.99
    moved, valid = shift_maps(goal, 2, 0)
    shifted = guided_inversion(generator, true, ["last"], [0], moved, valid=valid, steps=200, lr=0.03)
    assert torch.allclose(shifted.latents - true, torch.tensor([2 * 2 / 11, 0.0]).expand(2, 2), atol=0.05)
    with pytest.raises(ValueError, match="give images"):
        guided_inversion(generator, torch.zeros(2, 2))


def test_a_generator_can_be_the_anchor_and_the_result_is_drawn(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (4, 4, 4)), nn.Tanh(), nn.ConvTranspose2d(4, 1, 2, 2))
    latents = torch.randn(60, 4).split(30)
    weights = copy.deepcopy(generator.state_dict())
    found = mine_rosetta(
        generator, {"a": net(), "b": net(1)}, latents, generator=True, prepare={"a": lambda x: 2 * x}, null_quantile=0.0
    )
    assert "networks" in found.summary()
    for index in range(min(2, len(found.units))):
        figure, ax = pyplot.subplots()
        assert found.plot(ax, index) is ax
        figure.canvas.draw()
        pyplot.close(figure)
    assert all(torch.equal(v, weights[k]) for k, v in generator.state_dict().items())
    with pytest.raises(ValueError, match="at least one network"):
        mine_rosetta(generator, {}, latents)
    with pytest.raises(ValueError, match="no batches"):
        mine_rosetta(net(), {"a": net(1)}, [])
