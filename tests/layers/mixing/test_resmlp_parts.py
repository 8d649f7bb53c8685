"""Affine maps, layers across patches and the block of both, against sums written out; folding; what is refused."""

import pytest
import torch
from torch import nn

from neurarium.layers import Affine, CrossPatch, ResMLPBlock, StochasticDepth, TokenMean, fold_affine
from neurarium.models import ResMLP


def test_patches_are_mixed_alike_for_every_channel():
    layer, x = CrossPatch(6), torch.randn(3, 6, 4)
    nn.init.normal_(layer.bias)
    expected = torch.einsum("ij,bjc->bic", layer.weight, x) + layer.bias[:, None]
    torch.testing.assert_close(layer(x), expected)
    short = torch.einsum("ij,bjc->bic", layer.weight[:4, :4], x[:, :4]) + layer.bias[:4, None]
    torch.testing.assert_close(layer(x[:, :4]), short)
    with pytest.raises(ValueError, match="at most 6 patches, not 7"):
        layer(torch.randn(1, 7, 4))


def test_causal_layers_do_not_see_what_follows():
    layer, x = CrossPatch(6, causal=True), torch.randn(2, 6, 4)
    later = x.clone()
    later[:, 3:] += 1
    assert torch.equal(layer(x)[:, :3], layer(later)[:, :3])
    layer(x).square().sum().backward()
    assert bool((layer.weight.grad.triu(1) == 0).all())
    assert bool((layer.weight.grad.tril().abs() > 0).any())


def test_a_block_is_two_residual_branches_written_out():
    torch.manual_seed(0)
    block, x = ResMLPBlock(8, 5, init_scale=0.3, post="affine").eval(), torch.randn(2, 5, 8)
    for p in block.parameters():
        p.data += 0.1 * torch.randn_like(p)
    (aff1, cross, gamma1, _), (aff2, up, _, down, gamma2, _) = block[0].branch, block[1].branch
    z = torch.einsum("ij,bjc->bic", cross.weight, x * aff1.weight + aff1.bias) + cross.bias[:, None]
    z = x + z * gamma1.weight + gamma1.bias
    h = nn.functional.gelu((z * aff2.weight + aff2.bias) @ up.weight.T + up.bias) @ down.weight.T + down.bias
    torch.testing.assert_close(block(x), z + h * gamma2.weight + gamma2.bias)


def test_stochastic_depth_drops_whole_branches_and_keeps_the_mean():
    layer, x = StochasticDepth(0.25), torch.ones(4000, 3)
    made = layer(x)
    assert sorted(set(made.flatten().tolist())) == [0.0, pytest.approx(4 / 3)]
    assert bool((made == made[:, :1]).all())
    assert float(made.mean()) == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match="p must be"):
        StochasticDepth(1.0)


def shaken(model):
    for p in model.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return model.eval()


def test_a_folded_network_computes_the_same_without_affine_maps():
    torch.manual_seed(0)
    model, x = shaken(ResMLP(12, 4, 3, 5, 8, 2, init_std=None)), torch.randn(4, 3, 12, 12)
    found = fold_affine(model, x[:2])
    assert not found.skipped
    assert len(found.changed) == 9
    assert not any(isinstance(m, Affine) for m in found.model.modules())
    torch.testing.assert_close(found.model(x), model(x), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in found.model.parameters()) < sum(p.numel() for p in model.parameters()) + 2 * 9 * 8


def test_maps_that_cannot_be_folded_are_named():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.seen = Affine(8), Affine(8)
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            y = self.shared(x)
            z = self.seen(torch.relu(self.a(y) + self.b(y)))
            return self.c(z) + z.sum(-1, keepdim=True)

    model = shaken(Two())
    with pytest.raises(ValueError, match="shared: is read by a and b; seen: something else reads"):
        fold_affine(model, torch.randn(4, 8))
    chain = shaken(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Affine(8), TokenMean(), nn.Linear(8, 3)))
    x = torch.randn(4, 5, 8)
    torch.testing.assert_close(fold_affine(chain, x).model(x), chain(x), rtol=1e-4, atol=1e-5)
    before = shaken(nn.Sequential(nn.Linear(8, 8, bias=False), Affine(8), nn.ReLU()))
    torch.testing.assert_close(fold_affine(before, x).model(x), before(x), rtol=1e-4, atol=1e-5)


@pytest.mark.untyped
def test_unknown_mixing_is_refused():
    with pytest.raises(ValueError, match="mixing must be"):
        ResMLPBlock(8, 5, mixing="attention")
