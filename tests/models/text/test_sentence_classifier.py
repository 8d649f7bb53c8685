"""Sentences by hand: pooling over the words that are there, padding, frozen vectors, new words, folds, gradients."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import TextSplit, Vocabulary, WordVectors, fold_text, with_unknown_words
from neurarium.layers import DenseRecurrent
from neurarium.models import SentenceClassifier
from neurarium.probes import gradient_flow


class Same(nn.Module):
    """Gives the words' vectors."""

    def forward(self, x, lengths):
        return x


VECTORS = torch.tensor([[0.0, 0.0], [9.0, 9.0], [1.0, -2.0], [3.0, 4.0], [-5.0, 6.0]])
IDS = torch.tensor([[2, 3, 4, 0, 0], [3, 0, 0, 0, 0]])


def test_pooling_is_over_the_words_that_are_there() -> None:
    def pooled(how):
        model = SentenceClassifier(VECTORS, Same(), 2, how).eval()
        return model.pool(model.embedding(IDS), torch.tensor([3, 1]))

    torch.testing.assert_close(pooled("mean"), torch.tensor([[-1 / 3, 8 / 3], [3.0, 4.0]]))
    torch.testing.assert_close(pooled("max"), torch.tensor([[3.0, 6.0], [3.0, 4.0]]))
    torch.testing.assert_close(pooled("last"), torch.tensor([[-5.0, 6.0], [3.0, 4.0]]))


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_padding_and_company_change_nothing(pooling) -> None:
    torch.manual_seed(0)
    model = SentenceClassifier(VECTORS, DenseRecurrent(2, 3, 2, 4), 3, pooling).eval()
    both = model(IDS)
    torch.testing.assert_close(model(IDS, torch.tensor([3, 1])), both)
    torch.testing.assert_close(model(IDS[1:, :1]), both[1:])
    torch.testing.assert_close(model(torch.cat([IDS, IDS * 0], 1)), both)


def test_vectors_are_frozen_unless_they_are_not() -> None:
    frozen = SentenceClassifier(VECTORS, DenseRecurrent(2, 3), 3)
    free = SentenceClassifier(VECTORS, DenseRecurrent(2, 3), 3, freeze=False)
    for model in (frozen, free):
        cross_entropy(model(IDS), torch.tensor([0, 1])).backward()
    assert frozen.embedding.weight.grad is None
    assert free.embedding.weight.grad[2:].any()
    assert not free.embedding.weight.grad[0].any(), "padding has no gradient"
    assert VECTORS.data_ptr() != free.embedding.weight.data_ptr()


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="refuses vectors of width 2"):
        SentenceClassifier(VECTORS, DenseRecurrent(3, 3), 3)
    with pytest.raises(ValueError, match="pooling must be one of"):
        SentenceClassifier(VECTORS, Same(), 3, "sum")
    with pytest.raises(ValueError, match="sentence 1 has no words"):
        SentenceClassifier(VECTORS, Same(), 3)(torch.tensor([[2, 3], [0, 0]]))


def test_words_without_a_vector_get_one() -> None:
    known = WordVectors(Vocabulary(["the", "cat"]), torch.ones(4, 3))
    texts = ["the dog, the Cat", "dog eats"]
    found = with_unknown_words(known, texts, 0.1, generator=torch.Generator().manual_seed(0))
    assert found.vocabulary.words == ("the", "cat", "dog", ",", "eats")
    torch.testing.assert_close(found.vectors[:4], known.vectors)
    assert 0 < float(found.vectors[4:].abs().max()) <= 0.1
    assert not torch.equal(found["dog"], found["eats"])
    assert found.vocabulary["zebra"] == 1
    assert with_unknown_words(known, texts, least=2).vocabulary.words == ("the", "cat", "dog")


def test_every_text_is_tested_in_one_fold() -> None:
    rows = [(f"text {i}", i % 3) for i in range(32)]
    split = TextSplit(rows[:20], rows[20:25], rows[25:], ("a", "b", "c"))
    folds = [fold_text(split, fold, 5) for fold in range(5)]
    assert sorted(row for fold in folds for row in fold.test) == sorted(rows)
    for fold in folds:
        assert sorted(fold.train + fold.test) == sorted(rows)
        counts = [sum(label == c for _, label in fold.test) for c in range(3)]
        assert all(count in (2, 3) for count in counts), "classes are dealt out evenly"
    with pytest.raises(ValueError, match="class 'c' has 10 texts, fewer than 11"):
        fold_text(split, 0, 11)
    with pytest.raises(ValueError, match="fold must be between 0 and 4, not 5"):
        fold_text(split, 5, 5)


def test_gradient_flow_is_the_gradient_of_a_backward_pass() -> None:
    torch.manual_seed(0)
    model = SentenceClassifier(VECTORS, DenseRecurrent(2, 3, 2, 4), 3).eval()
    y = torch.tensor([0, 1])
    found = gradient_flow(model, (IDS, y), outputs=["embedding"])
    assert found.layers == ("encoder.layers.0", "encoder.layers.1", "encoder.layers.2", "head")
    assert all(p.grad is None for p in model.parameters())
    words = model.embedding(IDS).requires_grad_()
    encoded = model.encoder(words, torch.tensor([3, 1]))[0]
    cross_entropy(model.head(model.pool(encoded, torch.tensor([3, 1]))), y).backward()
    for name, norm, size in zip(found.layers, found.norms, found.sizes, strict=True):
        grads = torch.cat([p.grad.flatten() for p in model.get_submodule(name).parameters()])
        assert norm == pytest.approx(float(grads.norm()), rel=1e-5)
        assert size == pytest.approx(float(grads.square().mean().sqrt()), rel=1e-5)
    assert found.outputs["embedding"] == pytest.approx(float(words.grad.norm()), rel=1e-5)
    assert "output of embedding" in found.summary()
    with pytest.raises(ValueError, match="embeding"):
        gradient_flow(model, (IDS, y), outputs=["embeding"])
