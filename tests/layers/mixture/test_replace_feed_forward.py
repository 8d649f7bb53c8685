"""Feed-forward networks of transformers that exist are found, and nothing around them changes."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from neurarium.layers import MLPKAN, MixtureOfExperts, replace_feed_forward


class Same(nn.Module):
    """Gives what the old feed-forward network gave."""

    def __init__(self, old) -> None:
        super().__init__()
        self.old = old

    def forward(self, x):
        return self.old(x)


class Nought(nn.Module):
    """Adds nothing."""

    def forward(self, x):
        return torch.zeros_like(x)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("mode", [True, False])
def test_torchs_layers_call_the_new_module_alone(norm_first: bool, mode: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(mode)
    x = torch.randn(3, 5, 8)
    feeds = [nn.Sequential(a.linear1, nn.ReLU(), a.linear2) for a in model.layers]
    found = replace_feed_forward(model, lambda width: Same(feeds.pop(0)))
    assert len(found.changed) == 2
    torch.testing.assert_close(found.model(x), model(x), rtol=0, atol=1e-6)
    with torch.no_grad():
        empty = replace_feed_forward(model, lambda width: Nought()).model
        first = empty.layers[0]
        if norm_first:
            n = first.norm1(x)
            torch.testing.assert_close(first(x), x + first.self_attn(n, n, n)[0], rtol=0, atol=1e-6)


def test_decoders_and_blocks_with_an_mlp_are_found() -> None:
    decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    found = replace_feed_forward(decoder, MLPKAN).model
    assert found(torch.randn(2, 3, 8), torch.randn(2, 4, 8)).shape == (2, 3, 8)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mlp = nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))

        def forward(self, x):
            return x + self.mlp(self.norm(x))

    changed = replace_feed_forward(nn.Sequential(Block(), Block()), lambda width: MLPKAN(width, 2, 2))
    assert list(changed.changed) == ["0.mlp", "1.mlp"]
    assert "2 changed" in changed.summary()
    assert changed.model(torch.randn(4, 8)).shape == (4, 8)


def test_hugging_face_blocks_are_found() -> None:
    bert = BertForSequenceClassification(
        BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    ).eval()
    ids = torch.randint(20, (2, 5))
    feeds = [nn.Sequential(b.intermediate, b.output.dense) for b in bert.bert.encoder.layer]
    same = replace_feed_forward(bert, lambda width: Same(feeds.pop(0)))
    assert len(same.changed) == 2
    torch.testing.assert_close(same.model(input_ids=ids).logits, bert(input_ids=ids).logits)
    mixed = replace_feed_forward(bert, MLPKAN).model
    mixed(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
    gpt = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=20, n_positions=10))
    found = replace_feed_forward(gpt, MLPKAN)
    assert len(found.changed) == 2
    assert found.model(input_ids=ids).logits.shape == (2, 5, 20)
    with pytest.raises(ValueError, match="GPT2Block is causal"):
        replace_feed_forward(gpt, lambda width: MLPKAN(width, router="soft"))


def test_finding_nothing_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to convert in Sequential: looked for torch's transformer layers"):
        replace_feed_forward(nn.Sequential(nn.Linear(3, 3)), MLPKAN)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    whole = nn.ModuleDict({"a": layer, "mlp": nn.Identity()})
    found = replace_feed_forward(whole, MLPKAN)
    assert "no linear layer" in found.skipped["mlp"]
    assert isinstance(found.model["a"].linear1, MixtureOfExperts)
