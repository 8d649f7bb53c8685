"""TLinFormer against plain transformers, explicit loops over queries, Jacobians, and itself without a cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurarium.layers import DecoderLayer, PreNormParts, pre_norm_parts
from neurarium.models import CausalTransformer, RotaryDecoder, TLinFormer, TLinFormerBlock


def decoder(num_layers: int = 4, seed: int = 0) -> RotaryDecoder:
    torch.manual_seed(seed)
    return louder(RotaryDecoder(13, 16, 4, num_layers))


def louder(model: Any) -> Any:
    """Weights large enough that attention is far from even."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0.0, 0.4)
    return model


def tokens(length: int, batch: int = 2) -> Tensor:
    return torch.randint(13, (batch, length), generator=torch.Generator().manual_seed(1))


def test_a_text_within_the_window_passes_through_the_plain_decoder() -> None:
    plain = decoder().double()
    wired = TLinFormer(plain, 2, 3, 8)
    x = tokens(20)
    assert torch.allclose(wired(x)[:, :8], plain(x)[:, :8], atol=1e-10)
    assert not torch.allclose(wired(x)[:, 8:], plain(x)[:, 8:], atol=1e-2)


def test_torch_layers_with_learned_positions_are_wired_as_they_are() -> None:
    torch.manual_seed(0)
    plain = louder(CausalTransformer(13, 16, 4, 4, 32, 32)).eval()
    wired = TLinFormer(plain, 4, 5, 12)
    assert {id(p) for p in wired.parameters()} == {id(p) for p in plain.parameters()}
    x = tokens(24)
    assert torch.allclose(wired(x)[:, :12], plain(x)[:, :12], atol=1e-5)
    check_cache(wired, tokens(30))
    with pytest.raises(ValueError, match="33, but there are 32 learned positions"):
        wired(tokens(33))


def test_a_users_own_blocks_are_wired_by_their_names() -> None:
    class Gpt(nn.Module):  # the names of Hugging Face's GPT-2
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.Module()
            self.transformer.wte, self.transformer.wpe = nn.Embedding(13, 16), nn.Embedding(40, 16)
            self.transformer.h = nn.ModuleList(self.block() for _ in range(2))
            self.transformer.ln_f = nn.LayerNorm(16)
            self.lm_head = nn.Linear(16, 13)

        def block(self) -> nn.Module:
            block = nn.Module()
            block.ln_1, block.ln_2, block.attn = nn.LayerNorm(16), nn.LayerNorm(16), nn.Module()
            block.attn.c_attn, block.attn.c_proj = nn.Linear(16, 48), nn.Linear(16, 16)
            block.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))
            return block

    model = louder(Gpt())
    wired = TLinFormer(
        model, 2, 4, 6,
        names={"tokens": "transformer.wte", "positions": "transformer.wpe", "layers": "transformer.h",
               "norm": "transformer.ln_f", "head": "lm_head"},
        parts=lambda b: PreNormParts(b.ln_1, b.attn.c_attn, b.attn.c_proj, b.ln_2, b.mlp, 4),  # type: ignore[arg-type]
    )  # fmt: skip
    assert sum(p.numel() for p in wired.parameters()) == sum(p.numel() for p in model.parameters())
    check_cache(wired, tokens(15))


@pytest.mark.parametrize(
    ("history_window", "generation_window", "depth"), [(4, 4, 2), (3, 8, 4), (9, 2, 4), ("auto", 5, 2)]
)
def test_cached_logits_are_those_of_the_full_pass(history_window: Any, generation_window: int, depth: int) -> None:
    check_cache(TLinFormer(decoder(), depth, history_window, generation_window), tokens(3 * generation_window + 2))


def check_cache(model: Any, x: Tensor) -> None:
    """Token by token, and several at a time, in double precision: in single the last digit is the processor's."""
    model = model.double()
    full, window = model(x), model.generation_window
    cache = model.empty_cache()
    for n in range(1, x.shape[1] + 1):
        assert torch.allclose(model.next_logits(x[:, :n], cache), full[:, n - 1], atol=1e-10)
    assert cache.misses == -(-x.shape[1] // window)
    assert cache.hits == x.shape[1] - cache.misses
    cache = model.empty_cache()
    for n in (2, 5, 6, x.shape[1]):
        assert torch.allclose(model.next_logits(x[:, :n], cache), full[:, n - 1], atol=1e-10)


def test_the_plain_decoder_and_its_cache_agree() -> None:
    model, x = decoder(), tokens(17)
    cache, full = model.empty_cache(), model(x)
    for n in (1, 2, 5, 6, 17):
        assert torch.allclose(model.next_logits(x[:, :n], cache), full[:, n - 1], atol=1e-5)
    assert cache.bytes == 2 * 4 * 17 * 16 * 2 * 4  # keys and values, layers, tokens, width, batch, bytes


def test_generation_is_the_same_with_and_without_a_cache() -> None:
    for model in (decoder(), TLinFormer(decoder(), 2, 3, 4)):
        first, second = (
            model.generate(tokens(3), 13, cache=cache, generator=torch.Generator().manual_seed(0))
            for cache in (True, False)
        )
        assert torch.equal(first, second)
        assert first.shape == (2, 16)


def test_nothing_sees_the_future_and_everything_sees_the_past() -> None:
    model = TLinFormer(decoder(), 4, 2, 4)
    x = tokens(14, 1)
    embedded = model.tokens(x).detach().requires_grad_()
    model._embed = lambda tokens, start=0: embedded  # type: ignore[method-assign]
    logits = model(x)[0]
    for place in range(14):
        (reached,) = torch.autograd.grad(logits[place].square().sum(), embedded, retain_graph=True)
        norms = reached[0].norm(dim=-1)
        assert (norms[: place + 1] > 1e-7).all()
        assert (norms[place + 1 :] == 0).all()


def test_a_block_is_what_a_loop_over_queries_with_their_keys_gives() -> None:
    torch.manual_seed(0)
    layers = louder(nn.ModuleList(DecoderLayer(8, 2) for _ in range(4)))
    block = TLinFormerBlock(list(layers), 3)
    history, window = torch.randn(1, 7, 8), torch.randn(1, 5, 8)
    c = {i: history[0, i] for i in range(7)}
    z = {i: c[i] for i in range(4, 7)}
    x = {7 + i: window[0, i] for i in range(5)}
    for n, layer in enumerate(layers):
        past = c if n == 0 else z
        new_x = {}
        for i, v in x.items():
            own = {j: x[j] for j in x if j <= i}
            new_x[i] = finish(layer, v, heads(layer, i, v, own) + heads(layer, i, v, past))
        if n == 3:
            c = {i: finish(layer, v, heads(layer, i, v, z, asker=layers[0])) for i, v in c.items()}
        z = {i: finish(layer, v, heads(layer, i, v, past)) for i, v in z.items()}
        x = new_x
    restored, read = block(history, window)
    assert torch.allclose(restored[0], torch.stack(list(c.values())), atol=1e-5)
    assert torch.allclose(read[0], torch.stack(list(x.values())), atol=1e-5)


def heads(layer: Any, place: int, query: Tensor, keys: dict[int, Tensor], asker: Any = None) -> Tensor:
    """What the two heads of width 4 mix for one query at a place, spelled out."""
    asker = asker or layer
    q = (asker.in_proj.weight[:8] @ asker.norm1(query)).view(2, 4)
    mixed = []
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        k = {i: turned(layer.in_proj.weight[8:16][rows] @ layer.norm1(key), i) for i, key in keys.items()}
        v = {i: layer.in_proj.weight[16:][rows] @ layer.norm1(key) for i, key in keys.items()}
        scores = {i: turned(q[head], place) @ key / math.sqrt(4) for i, key in k.items()}
        total = sum(s.exp() for s in scores.values())
        mixed.append(sum(s.exp() / total * v[i] for i, s in scores.items()))
    return torch.cat(mixed)  # type: ignore[arg-type]


def turned(x: Tensor, place: int) -> Tensor:
    """Pairs of features turned by 1 and by 1/100 radian a place."""
    a, b, c, d = x
    fast, slow = float(place), place / 100
    return torch.stack(
        [a * math.cos(fast) - b * math.sin(fast), b * math.cos(fast) + a * math.sin(fast),
         c * math.cos(slow) - d * math.sin(slow), d * math.cos(slow) + c * math.sin(slow)]
    )  # fmt: skip


def finish(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
    x = x + layer.out_proj.weight @ mixed
    gate, value = (layer.linear1.weight @ layer.norm2(x)).chunk(2)
    return x + layer.linear2.weight @ (gate * gate.sigmoid() * value)


def test_a_window_over_the_whole_history_and_no_hidden_layers_is_two_full_attentions() -> None:
    torch.manual_seed(0)
    first, last = louder(nn.ModuleList(DecoderLayer(8, 2) for _ in range(2)))
    history, window = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
    restored, _ = TLinFormerBlock([first, last], 10)(history, window)
    a, b = first.parts(), last.parts()
    q, k, v = a.project(history)
    z = a.finish(history, a.attend(q, k, v))
    _, k, v = b.project(z)
    assert torch.allclose(restored, b.finish(history, b.attend(q, k, v)), atol=1e-6)


def test_the_automatic_window_follows_the_length() -> None:
    block = TLinFormerBlock([DecoderLayer(8, 2), DecoderLayer(8, 2)], "auto")
    assert [block.summaries(n) for n in (0, 1, 20, 512, 1024)] == [
        0,
        1,
        20,
        80,
        88,
    ]  # 12 ln 512 = 74.9, 12 ln 1024 = 83.2


def test_places_beyond_what_sixteen_bits_can_count_are_told_apart() -> None:
    layer = DecoderLayer(8, 2).bfloat16()
    q, _, _ = layer.parts().project(torch.ones(1, 2, 8, dtype=torch.bfloat16) * torch.arange(8), 300)
    assert not torch.equal(q[..., 0, :], q[..., 1, :])


def test_requests_that_make_no_sense_are_refused() -> None:
    plain = decoder()
    with pytest.raises(ValueError, match="divide the 4 layers of decoder, not 3"):
        TLinFormer(plain, 3)
    with pytest.raises(ValueError, match="history_window must be at least 1, not 0"):
        TLinFormer(plain, 2, 0)
    with pytest.raises(ValueError, match="generation_window must be at least 1, not 0"):
        TLinFormer(plain, 2, 1, 0)
    with pytest.raises(ValueError, match="norms after the sums"):
        TLinFormer(CausalTransformer(13, block="post-norm"), 4)
    with pytest.raises(TypeError, match="parts of a ReZeroTransformerEncoderLayer are not known"):
        TLinFormer(CausalTransformer(13, block="rezero"), 4)
    with pytest.raises(TypeError, match="decoder has no module for 'head'"):
        TLinFormer(plain, 2, names={"head": "readout"})
    with pytest.raises(ValueError, match="even width, but d_model / nhead is 3"):
        DecoderLayer(6, 2)
    with pytest.raises(ValueError, match="at least one token"):
        plain.generate(tokens(0), 3)
    cache, x = plain.empty_cache(), tokens(6)
    plain.next_logits(x[:, :5], cache)
    with pytest.raises(ValueError, match="cache holds 5 tokens that differ"):
        plain.next_logits((x + 1) % 13, cache)
    with pytest.raises(ValueError, match="batch of 2 sequences, not 1"):
        plain.next_logits(x[:1], cache)
    with pytest.raises(ValueError, match="and at least one more, not 5"):
        plain.next_logits(x[:, :5], cache)


def test_torch_layers_put_together_from_their_parts_are_themselves() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
    x, parts = torch.randn(2, 5, 8), pre_norm_parts(layer)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    expected = layer(x, src_mask=mask, is_causal=True)
    assert torch.allclose(parts.finish(x, parts.attend(*parts.project(x), causal=True)), expected, atol=1e-6)
