"""Batches and outputs in the forms that real loaders and models give them."""

from collections import UserDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from neurarium.training import accuracy, call, evaluate, fit, prediction, unpack

X, Y = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 1])
PAIR = namedtuple("PAIR", "image label")


class Tokens(nn.Module):
    """A network in the manner of Hugging Face: keyword arguments in, an object with logits out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        mask = attention_mask[..., None].float()
        pooled = (self.embedding(input_ids) * mask).sum(1) / mask.sum(1)
        return SimpleNamespace(loss=None, logits=self.head(pooled))


class Ruled(nn.Module):
    """A learning rule around any model."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return call(self.model, x)

    def assign_credit(self, x, y):
        loss = cross_entropy(call(self.model, x), y)
        loss.backward()
        return loss.detach()


@pytest.fixture
def tokens():
    ids = torch.randint(10, (40, 5), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": (ids[:, 0] > 4).long()}


@pytest.mark.parametrize(
    "batch",
    [(X, Y), [X, Y], (X, Y, torch.ones(3)), (X, Y, 0, "task"), PAIR(X, Y), {"x": X, "y": Y}, UserDict(x=X, label=Y)],
    ids=["pair", "list", "triple", "four", "namedtuple", "dict", "BatchEncoding"],
)
def test_every_form_gives_the_same_pair(batch):
    x, y = unpack(batch)
    assert x is X
    assert y is Y


def test_several_inputs_stay_together(tokens):
    x, y = unpack(tokens)
    assert set(x) == {"input_ids", "attention_mask"}
    assert y is tokens["labels"]
    assert "labels" in tokens
    assert unpack(((X, X), Y))[0] == (X, X)
    assert unpack({"pixel_values": X, "labels": Y})[0] == {"pixel_values": X}


@pytest.mark.parametrize("batch", [X, (X,), {"x": X}, {"labels": Y}, None, "text"])
def test_what_is_no_batch_is_refused(batch):
    with pytest.raises(ValueError, match=r"must (give|have)") as refusal:
        unpack(batch)
    assert "\n" not in str(refusal.value)


def test_inputs_reach_the_model_as_it_takes_them(tokens):
    model, x = Tokens(), unpack(tokens)[0]
    wanted = model(**x).logits
    assert torch.equal(call(model, x), wanted)
    assert torch.equal(call(Ruled(model), x), wanted)  # a rule takes the dictionary whole
    assert torch.equal(call(torch.compile(model, backend="eager"), x), wanted)

    class Whole(nn.Module):
        def forward(self, batch):
            return batch["a"] + 1

    class Two(nn.Module):
        def forward(self, a, b):
            return a + b

    assert torch.equal(call(Whole(), {"a": X}), X + 1)
    assert torch.equal(call(Two(), (X, X)), 2 * X)
    assert torch.equal(call(Ruled(Two()), (X, X)), 2 * X)


def test_the_prediction_is_found_in_every_form_of_output():
    for output in (X, (X, Y), {"logits": X, "loss": 0}, SimpleNamespace(logits=X)):
        assert prediction(output) is X
    with pytest.raises(ValueError, match="not a dict with 'last_hidden_state'"):
        prediction({"last_hidden_state": X})
    with pytest.raises(ValueError, match="not a NoneType"):
        prediction(None)


def test_fit_and_evaluate_train_on_dictionaries_and_triples(tokens):
    torch.manual_seed(0)
    rule = Ruled(Tokens())
    rows = [{name: value[i] for name, value in tokens.items()} for i in range(40)]
    loader = DataLoader(rows, batch_size=8)
    losses = fit(rule, loader, torch.optim.Adam(rule.parameters(), 0.05), epochs=30)
    assert losses[-1] < 0.8 * losses[0]
    assert evaluate(rule, loader) == evaluate(rule.model, loader) > 0.7
    triples = DataLoader(TensorDataset(X, Y, torch.arange(3)), 2)
    assert evaluate(nn.Linear(2, 2), triples, accuracy) <= 1
    fit(Ruled(nn.Linear(2, 2)), triples, torch.optim.SGD(rule.parameters(), 0.1))


def test_a_transformers_classifier():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config).eval()
    ids = torch.randint(20, (4, 6))
    batch = transformers.BatchEncoding(
        {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.zeros(4, dtype=torch.long)}
    )
    x, _ = unpack(batch)
    assert call(model, x).shape == (4, 3)
    assert torch.equal(call(model, x), model(**x).logits)
    assert 0 <= evaluate(model, [batch]) <= 1
    losses = fit(Ruled(model), [batch], torch.optim.Adam(model.parameters(), 0.01), epochs=10)
    assert losses[-1] < losses[0]
