"""Converting networks: what is found, what is left, the way there and back."""

import pytest
import torch
from torch import nn

from neurarium.layers import (
    BroadResidual,
    ParallelResidual,
    PostNormResidual,
    Residual,
    ReZero,
    TruncatedResidual,
    parallelise,
    sequentialise,
)
from neurarium.learning import HighwayBackprop
from neurarium.models import WideResNet


def branch(width=4):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU())


def network():
    torch.manual_seed(0)
    blocks = [Residual(branch()), Residual(branch()), ReZero(branch(), nn.Parameter(torch.full((1,), 0.3)))]
    return nn.Sequential(nn.Linear(3, 4), *blocks, nn.ReLU(), Residual(branch()), Residual(branch()), nn.Linear(4, 2))


def test_every_run_becomes_one_block_and_comes_back():
    model, x = network(), torch.randn(5, 3)
    found = parallelise(model)
    assert found.runs == (("1", "2", "3"), ("5", "6"))
    assert set(found.changed) == {"1", "3"}
    h = model[0](x)
    h = h + model[1].branch(h) + model[2].branch(h) + 0.3 * model[3].branch(h)
    h = model[4](h)
    h = h + model[5].branch(h) + model[6].branch(h)
    torch.testing.assert_close(found.model(x), model[7](h))
    back = sequentialise(found.model).model
    assert list(back.state_dict()) == list(model.state_dict())
    assert torch.equal(back(x), model(x))


def test_fused_scaled_and_second_order():
    model, x = network(), torch.randn(5, 3)
    model[3] = Residual(branch())
    plain, broad = (parallelise(model, fuse=fuse).model for fuse in (False, True))
    assert isinstance(broad[1], BroadResidual)
    torch.testing.assert_close(broad(x), plain(x))
    torch.testing.assert_close(sequentialise(broad).model(x), model(x))
    scaled = parallelise(model, scale=0.5).model
    again = sequentialise(scaled).model
    assert [block.alpha.item() for block in again[1:4]] == [0.5] * 3
    torch.testing.assert_close(parallelise(again).model(x), scaled(x))
    second = parallelise(model, order=2).model
    assert isinstance(second[1], TruncatedResidual)
    error = [float((m(x) - model(x)).norm()) for m in (plain, second)]
    assert error[1] < error[0]


def test_share_or_copy():
    model = network()
    shared, copied = parallelise(model, share=True).model, parallelise(model).model
    ours = {id(p) for p in model.parameters()}
    assert {id(p) for p in shared.parameters()} == ours
    assert not ours & {id(p) for p in copied.parameters()}
    assert isinstance(model[1], Residual), "the user's own network keeps its blocks"
    sums = [sum(p.numel() for p in m.parameters()) for m in (model, shared, copied)]
    assert sums[0] == sums[1] == sums[2]


def test_transformer_layers_and_blocks_of_other_kinds():
    torch.manual_seed(0)
    layers = [nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True) for _ in range(3)]
    x = torch.randn(2, 5, 8)
    added = sum(layer(x) - x for layer in layers)
    torch.testing.assert_close(parallelise(nn.Sequential(*layers)).model(x), x + added)
    wide = WideResNet(16, 1).eval()
    found = parallelise(wide, ["blocks.1", "blocks.3"] + [f"blocks.{i}" for i in (0,)])
    assert found.runs == (("blocks.0", "blocks.1"),)
    assert "stands alone" in found.skipped["blocks.3"]
    assert found.model(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    with pytest.raises(ValueError, match="a block maps"):
        parallelise(wide, "blocks.*").model(torch.randn(2, 3, 8, 8))


def test_a_module_list_is_called_with_what_its_layers_take():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Residual(Two()) for _ in range(3))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x, shift=1.0)
            return x

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x, shift):
            return self.linear(x) + shift

    model, x = Stack(), torch.randn(2, 4)
    expected = x + sum(layer.branch(x, 1.0) for layer in model.layers)
    found = parallelise(model).model
    torch.testing.assert_close(found(x), expected)
    assert len(found.layers) == 1
    torch.testing.assert_close(sequentialise(found).model(x), model(x))


def test_what_is_left_is_named():
    stages = nn.Sequential(Residual(branch(), relu=True), PostNormResidual(nn.Linear(4, 4), 4), Residual(branch()))
    with pytest.raises(ValueError, match=r"nothing to run in parallel.*0: has a norm or a ReLU.*2: stands alone"):
        parallelise(stages)
    both = parallelise(stages, ["0", "1"])
    x = torch.randn(3, 4)
    expected = stages[2](stages[0](x) + stages[1](x) - x)
    torch.testing.assert_close(both.model(x), expected)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, norm_first=True), 2, enable_nested_tensor=False
    )
    with pytest.raises(ValueError, match="reads its layers' attention"):
        parallelise(encoder)
    free = nn.ModuleDict({"a": Residual(branch()), "b": Residual(branch())})
    with pytest.raises(ValueError, match="which may call its parts in any order"):
        parallelise(free)
    with pytest.raises(ValueError, match="fuse makes one wide layer"):
        parallelise(network(), fuse=True, order=2)
    with pytest.raises(ValueError, match="nothing to take apart"):
        sequentialise(network())


def test_hooks_and_modes_are_kept():
    model = network()
    seen = []
    model[1].register_forward_hook(lambda *_: seen.append(1))
    found = parallelise(model.eval(), share=True).model
    found(torch.randn(2, 3))
    assert seen == [1]
    assert not any(m.training for m in found.modules())


def test_a_whole_parallel_block_comes_apart():
    block, x = ParallelResidual(branch(), branch()), torch.randn(2, 4)
    apart = sequentialise(block).model
    assert [type(b) for b in apart] == [Residual, Residual]
    h = x + block.branches[0](x)
    torch.testing.assert_close(apart(x), h + block.branches[1](h))


def test_learning_rules_see_one_block():
    model = nn.Sequential(nn.Linear(3, 4), *[Residual(branch()) for _ in range(4)], nn.Linear(4, 2))
    rule = HighwayBackprop(parallelise(model).model, nn.functional.cross_entropy, iterations=1)
    x, y = torch.randn(6, 3), torch.randint(2, (6,))
    orders = rule.gradients_by_order(x, y)
    assert len(orders) == 2, "the paths cross no block or one"
