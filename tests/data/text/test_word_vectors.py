"""Word vectors in the formats of word2vec, GloVe and fastText."""

import numpy as np
import pytest
import torch

from neurarium.data import DataError, Vocabulary, load_word_vectors

WORDS = ["in", "King", "naïve", "queen"]
NUMBERS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def binary(words=WORDS, numbers=NUMBERS, header=None, newline=b"\n"):
    body = b"".join(word.encode() + b" " + row.tobytes() + newline for word, row in zip(words, numbers))
    return (header or f"{len(words)} {numbers.shape[1]}".encode()) + b"\n" + body


def written(words=WORDS, numbers=NUMBERS):
    return "".join(f"{word} {' '.join(map(repr, map(float, row)))}\n" for word, row in zip(words, numbers))


FORMATS = {
    "v.bin": binary(),
    "without newlines.bin": binary(newline=b""),
    "glove.txt": written().encode(),
    "fasttext.vec": ("4 3\n" + written()).encode(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name, tmp_path):
    (tmp_path / name).write_bytes(FORMATS[name])
    found = load_word_vectors(tmp_path / name)
    assert found.vocabulary.words == tuple(WORDS)
    assert torch.equal(found.vectors[2:], torch.from_numpy(NUMBERS))
    assert not found.vectors[0].any()
    assert torch.allclose(found.vectors[1], torch.from_numpy(NUMBERS.mean(0)))
    assert torch.equal(found["naïve"], torch.from_numpy(NUMBERS[2]))
    assert torch.equal(found["dragon"], found.vectors[1])


REFUSED = {
    "text.bin": (b"hello", "does not begin with the number of words"),
    "short.bin": (binary()[:-5], "has 75 bytes only|ends at word 4 of 4|bytes only"),
    "claims.bin": (binary(header=b"999999 300"), "claims 999,999 words of 300 numbers"),
    "nan.bin": (binary(numbers=np.full((4, 3), np.nan, np.float32)), "the vector of 'in' is not finite"),
    "twice.bin": (binary(["a", "b", "a", "c"]), "the word 'a' is in the vocabulary twice"),
    "ragged.txt": (b"a 1 2\nb 1\n", "word 2 is not followed by 2 numbers"),
    "words.txt": (b"a b\n", "word 1 is not followed by"),
    "empty.txt": (b"", "holds no words"),
    "latin.txt": (b"\xfc 1 2\n", "not a readable text file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_of_vectors_is_refused(name, tmp_path):
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as refusal:
        load_word_vectors(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_names(no_network):
    with pytest.raises(DataError, match="there is 'google-news-26k'"):
        load_word_vectors("glove")
    with pytest.raises(DataError, match="NEURARIUM_OFFLINE forbids fetching"):
        load_word_vectors()


def test_texts_as_numbers():
    vocabulary = Vocabulary(["the", "king", "'s", "hat", "!"])
    ids, lengths = vocabulary.encode(["The king!", "hat, the", "", "the the the the"])
    assert ids.tolist() == [[2, 3, 6, 0], [5, 1, 2, 0], [1, 0, 0, 0], [2, 2, 2, 2]]
    assert lengths.tolist() == [3, 3, 1, 4]
    ids, lengths = vocabulary.encode(["the king!", "the"], length=2)
    assert ids.tolist() == [[2, 3], [2, 0]]
    assert lengths.tolist() == [2, 1]
    with pytest.raises(DataError, match="at least one text"):
        vocabulary.encode([])
