"""The score of the study's translations: characters, words and whole phrases, counted by hand."""

import torch
from torch import nn
from torch.nn.functional import one_hot

from neurarium.studies.compression._translation import ALPHABET, PROMPT, Pairs, encode, score


class Says(nn.Module):
    """Predicts given characters, whatever it reads."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def forward(self, tokens):
        return 50.0 * one_hot(self.said, len(ALPHABET)).float()


def phrase(response):
    return encode("x y>".rjust(PROMPT, "\n") + response.ljust(22, "\n"))


def test_a_word_is_right_up_to_the_space_or_the_end_behind_it():
    truth = ["ab cde\n", "fgh i\n"]
    said = ["ab cdx\n", "fgh i\n"]
    tokens = torch.stack([phrase(text) for text in truth])
    ends = torch.tensor([PROMPT + len(text) for text in truth])
    guesses = torch.stack([phrase(text) for text in said]).roll(-1, 1)  # said one place before it is due
    found = score(Says(guesses), Pairs(tokens, ends), "cpu")
    assert found["token_accuracy"] == 12 / 13
    assert found["words_right"] == 3 / 4
    assert found["exact_match"] == 1 / 2
    early = [text.replace(" ", "z") for text in truth]  # both first words run on
    guesses = torch.stack([phrase(text) for text in early]).roll(-1, 1)
    assert score(Says(guesses), Pairs(tokens, ends), "cpu")["words_right"] == 1 / 2
