"""Growing a network: what is frozen stays bit for bit, and the first stage is plain training of a shallow network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, LayerGrowth
from neurarium.models import RotaryDecoder
from neurarium.training import fit


class Net(nn.Module):
    """Residual blocks with batch norm, whose statistics betray a block that is not frozen."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Tanh()) for _ in range(depth))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 4, generator=generator), torch.arange(6) % 3) for _ in range(4)]


def net(depth: int = 3) -> Net:
    torch.manual_seed(0)
    return Net(depth)


def train(model: nn.Module, parameters: Any) -> None:
    fit(Backprop(model, cross_entropy), data(), torch.optim.AdamW(parameters, 1e-2))


def test_frozen_blocks_stay_bit_for_bit_and_the_optimizer_holds_none_of_them() -> None:
    model = net()
    growth = LayerGrowth(model, heads=["head"])
    train(model, growth.parameters())
    growth.grow()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(growth.parameters(), 1e-2)
    growth.check(optimizer)
    fit(Backprop(model, cross_entropy), data(), optimizer)
    for name, tensor in model.state_dict().items():
        stays = name.startswith(("embed", "layers.0"))
        assert torch.equal(tensor, before[name]) == stays, name
    assert all(p.grad is None for p in (*model.embed.parameters(), *model.layers[0].parameters()))
    assert len(optimizer.state) == len(list(model.layers[1].parameters())) + 2
    assert growth.trainable_count == (2 * 8 + 8 * 8 + 8) + (8 * 3 + 3)


def test_the_first_stage_is_plain_training_of_a_shallow_network() -> None:
    grown, plain = net(), net(1)
    plain.load_state_dict({k: v for k, v in grown.state_dict().items() if k in plain.state_dict()})
    train(grown, LayerGrowth(grown, heads=["head"]).parameters())
    train(plain, plain.parameters())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, grown.state_dict()[name]), name


def test_growing_appends_one_block_and_a_block_that_is_the_identity_changes_nothing() -> None:
    model = net().eval()
    first, second = model.layers[0], model.layers[1]
    growth = LayerGrowth(model, heads=["head"])
    assert list(model.layers) == [first]
    nn.init.zeros_(second[1].weight), nn.init.zeros_(second[1].bias)  # type: ignore[index]
    before = model(data()[0][0])
    growth.grow()
    assert list(model.layers) == [first, second]
    assert torch.equal(model(data()[0][0]), before)
    growth.grow()
    with pytest.raises(ValueError, match="stage 3 is the last"):
        growth.grow()


def test_low_rank_terms_are_trained_on_all_earlier_blocks() -> None:
    model = RotaryDecoder(11, 8, 2, 3)
    growth = LayerGrowth(model, low_rank_from=2, rank=2, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(11, (2, 5))
    growth.grow()
    terms = 2 * (4 * 8 + 2 * 8 + (8 + 48) + (24 + 8))  # in_proj, out_proj, linear1, linear2 of rows + columns
    block = sum(p.numel() for p in model.layers[1].parameters())
    assert growth.trainable_count == terms + block + 2 * 8 + 8 * 11
    growth.grow()
    assert growth.trainable_count == 2 * terms + block + 2 * 8 + 8 * 11
    original = model.layers[0].in_proj.parametrizations.weight.original  # type: ignore[index, union-attr]
    kept = original.detach().clone()
    loss = lambda output, y: cross_entropy(output.flatten(0, 1), y.flatten())  # noqa: E731
    fit(Backprop(model, loss), [(tokens, tokens)] * 3, torch.optim.AdamW(growth.parameters(), 1e-2))
    assert torch.equal(original, kept)
    assert not torch.equal(model.layers[0].in_proj.weight, kept)


def test_a_growth_goes_on_where_it_was() -> None:
    model = net()
    growth = LayerGrowth(model, heads=["head"])
    growth.grow()
    train(model, growth.parameters())
    other = net()
    resumed = LayerGrowth(other, heads=["head"])
    resumed.load_state_dict(growth.state_dict())
    other.load_state_dict(model.state_dict())
    assert resumed.stage == 2
    assert torch.equal(other.eval()(data()[0][0]), model.eval()(data()[0][0]))
    assert resumed.trainable_count == growth.trainable_count
    with pytest.raises(ValueError, match="saved stage is 1, but this is at stage 2 of 3"):
        resumed.load_state_dict({"stage": 1})


def test_requests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="layer"):
        LayerGrowth(net(), "blocks")
    with pytest.raises(ValueError, match="'head' is Linear"):
        LayerGrowth(net(), "head")
    with pytest.raises(ValueError, match="per_stage must be between 1 and 2"):
        LayerGrowth(net(), per_stage=3, heads=["head"])
    model = net()
    growth = LayerGrowth(model, heads=["head"])
    optimizer = torch.optim.AdamW(growth.parameters())
    growth.grow()
    with pytest.raises(ValueError, match=r"optimizer holds 6 frozen parameters \(embed.weight"):
        growth.check(optimizer)
