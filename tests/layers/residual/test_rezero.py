"""ReZero blocks, transformer layers and the conversion, against closed forms and torch's own layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, relu, softmax

from neurarium.layers import (
    ReZero,
    ReZeroTransformerDecoderLayer,
    ReZeroTransformerEncoderLayer,
    alphas,
    parameter_groups,
    rezero_,
)


def branch(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class Pair(nn.Module):
    def forward(self, x, scale, *, shift=0.0):
        return x * scale + shift, "kept", 3


class Swish(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.fc2(nn.functional.silu(self.fc1(x)))


class BasicBlock(nn.Module):
    """Wired as in the usual ResNet."""

    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = None if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y + skip)


def resnet():
    return nn.Sequential(nn.Conv2d(3, 4, 3), BasicBlock(4, 4), BasicBlock(4, 8, 2), nn.Flatten(), nn.Linear(8 * 9, 2))


def attention(mha, q, kv, forbidden=None):
    """Multi-head attention written out."""
    wq, wk, wv = mha.in_proj_weight.chunk(3)
    bq, bk, bv = mha.in_proj_bias.chunk(3)
    heads = mha.num_heads

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    q, k, v = split(linear(q, wq, bq)), split(linear(kv, wk, bk)), split(linear(kv, wv, bv))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if forbidden is not None:
        scores = scores.masked_fill(forbidden, float("-inf"))
    return mha.out_proj((softmax(scores, -1) @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("make", [branch, lambda: nn.Linear(8, 8), lambda: nn.LayerNorm(8), lambda: nn.GRU(8, 8)])
def test_at_the_start_the_block_is_the_identity_and_only_alpha_has_a_gradient(make):
    torch.manual_seed(0)
    block = ReZero(make()).double()
    x, target = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    y = block(x)
    y = y[0] if isinstance(y, tuple) else y
    assert torch.equal(y, x)
    y.retain_grad()
    (y - target).pow(2).sum().backward()
    f = block.branch(x)
    f = f[0] if isinstance(f, tuple) else f
    torch.testing.assert_close(block.alpha.grad, (y.grad * f).sum().reshape(1))
    assert all(p.grad.abs().max() == 0 for p in block.branch.parameters())


def test_alpha_one_is_the_ordinary_residual_block_bit_for_bit():
    torch.manual_seed(1)
    f = branch()
    block = ReZero(f, nn.Parameter(torch.ones(1), requires_grad=False))
    x = torch.randn(64, 8)
    assert torch.equal(block(x), x + f(x))


def test_gradient_of_a_shared_alpha_is_the_sum_over_branches():
    torch.manual_seed(2)
    first, second = branch().double(), branch().double()
    alpha = nn.Parameter(torch.tensor([0.3], dtype=torch.float64))
    shared = nn.Sequential(ReZero(first, alpha), ReZero(second, alpha))
    apart = nn.Sequential(
        ReZero(first, nn.Parameter(alpha.detach().clone())), ReZero(second, nn.Parameter(alpha.detach().clone()))
    )
    x = torch.randn(5, 8, dtype=torch.float64)
    for net in (shared, apart):
        net(x).sin().sum().backward()
    torch.testing.assert_close(alpha.grad, apart[0].alpha.grad + apart[1].alpha.grad)
    assert len(alphas(shared)) == 1
    assert len(alphas(apart)) == 2


def test_further_arguments_and_outputs_pass_through():
    block = ReZero(Pair(), nn.Parameter(torch.tensor([0.5])))
    y, word, number = block(torch.ones(2, 3), 4.0, shift=2.0)
    assert torch.equal(y, torch.full((2, 3), 4.0))
    assert (word, number) == ("kept", 3)


def test_a_branch_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"branch maps \(2, 8\) to \(2, 4\): a residual branch must keep the shape"):
        ReZero(nn.Linear(8, 4))(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="one element"):
        ReZero(branch(), nn.Parameter(torch.zeros(3)))


def test_copies_state_and_mixed_precision():
    block = ReZero(branch()).double()
    assert block.alpha.dtype == torch.float64
    twin = copy.deepcopy(block)
    twin.alpha.data.fill_(2.0)
    block.load_state_dict(twin.state_dict())
    assert block.alpha.item() == 2.0
    low = ReZero(branch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = low(torch.randn(3, 8))
    assert y.dtype == torch.float32


def test_parameter_groups_put_alpha_apart_and_decay_spares_it():
    torch.manual_seed(3)
    model = nn.Sequential(ReZero(branch()), ReZero(branch()))
    rest, scalars = parameter_groups(model, lr=0.01, lr_scale=10.0)
    assert len(scalars["params"]) == 2
    assert scalars["lr"] == pytest.approx(0.1)
    assert sum(p.numel() for g in (rest, scalars) for p in g["params"]) == sum(p.numel() for p in model.parameters())
    for alpha in alphas(model).values():
        alpha.data.fill_(0.7)
    optimizer = torch.optim.SGD([rest, scalars], lr=0.01, weight_decay=0.5)
    before = model[0].branch[0].weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(torch.equal(a, torch.full((1,), 0.7)) for a in alphas(model).values())
    torch.testing.assert_close(model[0].branch[0].weight, before * (1 - 0.01 * 0.5))
    with pytest.raises(ValueError, match="no ReZero module"):
        parameter_groups(branch(), lr=0.1)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_at_alpha_one_is_attention_plus_feed_forward(activation):
    torch.manual_seed(4)
    layer = ReZeroTransformerEncoderLayer(12, 3, 20, dropout=0.0, activation=activation, batch_first=True).double()
    layer.alpha.data.fill_(1.0)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    y = x + attention(layer.self_attn, x, x, causal)
    y = y + layer.linear2(getattr(nn.functional, activation)(layer.linear1(y)))
    torch.testing.assert_close(layer(x, src_mask=causal, is_causal=True), y)
    torch.testing.assert_close(layer(x, src_mask=causal), y)


def test_decoder_layer_at_any_alpha_is_the_formula():
    torch.manual_seed(5)
    layer = ReZeroTransformerDecoderLayer(12, 3, 20, dropout=0.0, batch_first=True).double()
    layer.alpha.data.fill_(0.4)
    x, memory = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(2, 7, 12, dtype=torch.float64)
    y = x + 0.4 * attention(layer.self_attn, x, x)
    y = y + 0.4 * attention(layer.multihead_attn, y, memory)
    y = y + 0.4 * layer.linear2(relu(layer.linear1(y)))
    torch.testing.assert_close(layer(x, memory), y)


def test_masked_tokens_do_not_reach_the_others():
    torch.manual_seed(6)
    layer = ReZeroTransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    layer.alpha.data.fill_(0.8)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1.0
    padding = torch.tensor([[False] * 4 + [True] * 2])
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    for arguments in ({"src_key_padding_mask": padding}, {"mask": causal, "is_causal": True}, {"mask": causal}):
        a, b = encoder(x, **arguments), encoder(changed, **arguments)
        torch.testing.assert_close(a[:, :4], b[:, :4])
    assert not torch.allclose(encoder(x)[:, :4], encoder(changed)[:, :4])


def test_query_key_value_and_output_projections_are_xavier():
    torch.manual_seed(7)
    layer = ReZeroTransformerEncoderLayer(64, 4)
    bound = (6 / 128) ** 0.5
    for weight in (*layer.self_attn.in_proj_weight.chunk(3), layer.self_attn.out_proj.weight):
        assert 0.98 * bound < float(weight.detach().abs().max()) <= bound
    with pytest.raises(ValueError, match="nhead must divide"):
        ReZeroTransformerEncoderLayer(10, 3)
    with pytest.raises(ValueError, match="activation must be"):
        ReZeroTransformerEncoderLayer(8, 2, activation="tanh")


def test_conversion_of_pre_norm_layers_counts_exactly_and_keeps_weights():
    torch.manual_seed(8)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    before = sum(p.numel() for p in model.parameters())
    original = copy.deepcopy(model)
    report = rezero_(model, remove_norms=True)
    assert sum(p.numel() for p in model.parameters()) == before - 3 * 2 * 2 * 16 + 3
    assert list(report.changed) == ["layers.0", "layers.1", "layers.2"]
    assert len(report.removed) == 6
    assert "6 norms removed" in str(report)
    x = torch.randn(2, 5, 16)
    assert torch.equal(model(x), x)
    for old, new in zip(original.layers, model.layers):
        assert torch.equal(old.linear2.weight, new.linear2.weight)
    with pytest.raises(ValueError, match="nothing to convert"):
        rezero_(model)


@pytest.mark.parametrize("training", [True, False])
def test_converted_with_norms_at_alpha_one_computes_what_it_did(training):
    torch.manual_seed(9)
    model = nn.Transformer(16, 4, 2, 2, 32, dropout=0.0, batch_first=True, norm_first=True).train(training)
    x, y = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    expected = model(x, y)
    rezero_(model)
    assert all(m.training is training for m in model.modules())
    for alpha in alphas(model).values():
        alpha.data.fill_(1.0)
    torch.testing.assert_close(model(x, y), expected)


def test_post_norm_layers_are_reported_unless_their_norms_may_go():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), Swish(8))
    report = rezero_(model, blocks={Swish: "fc2"})
    assert list(report.changed) == ["1"]
    assert "post-norm" in report.skipped["0"]
    assert "not changed: 0" in str(report)
    assert list(rezero_(model, remove_norms=True).changed) == ["0"]
    x = torch.randn(4, 2, 8)
    assert torch.equal(model(x), x)


def test_resnet_blocks_become_their_skip_path():
    torch.manual_seed(10)
    model = resnet().eval()
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    report = rezero_(model)
    assert list(report.changed) == ["1", "2"]
    assert report.removed == ()
    stem = model[0](x)
    assert torch.equal(model[1](stem), relu(stem))
    assert torch.equal(model[2](stem), relu(model[2].downsample(stem)))
    for alpha in alphas(model).values():
        alpha.data.fill_(1.0)
    torch.testing.assert_close(model(x), expected)
    bare = resnet()
    assert len(rezero_(bare, remove_norms=True).removed) == 4
    assert not any(isinstance(m, nn.BatchNorm2d) for m in bare.modules())


def test_conversion_refuses_what_it_cannot_find():
    with pytest.raises(ValueError, match=r"looked for .*TransformerEncoderLayer.*BasicBlock"):
        rezero_(branch())
    with pytest.raises(ValueError, match="no submodule 'fc9'"):
        rezero_(nn.Sequential(Swish(4)), blocks={Swish: "fc9"})
    with pytest.raises(ValueError, match="has no 'nowhere'"):
        rezero_(nn.Sequential(Swish(4)), blocks={"nowhere": "fc2"})


def test_blocks_of_small_alpha_can_be_cut():
    torch.manual_seed(11)
    model = nn.Sequential(*(ReZero(branch()) for _ in range(4)))
    for alpha, number in zip(alphas(model).values(), (0.5, 0.0, 0.3, 0.0)):
        alpha.data.fill_(number)
    small = {name.removesuffix(".alpha") for name, alpha in alphas(model).items() if alpha.abs() < 1e-3}
    cut = nn.Sequential(*(block for name, block in model.named_children() if name not in small))
    x = torch.randn(3, 8)
    assert len(cut) == 2
    assert torch.equal(cut(x), model(x))
