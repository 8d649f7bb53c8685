"""Embeddings of pictures and of bits, against distances of the pictures and what people see in them."""

from __future__ import annotations

import json
import string
import subprocess
import sys

import pytest
import torch

from neurarium.models import binary_embedding, visual_embedding
from neurarium.models.sequence._visual_embedding import ImageFont, default_font, picture

LETTERS = string.ascii_letters + string.digits


def distances(rows: torch.Tensor) -> torch.Tensor:
    return torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")


def test_rows_have_length_one_and_never_learn() -> None:
    embedding = visual_embedding(LETTERS, 24)
    assert torch.allclose(embedding.weight.norm(dim=1), torch.ones(62))
    assert not embedding.weight.requires_grad
    assert embedding(torch.tensor([[0, 61]])).shape == (1, 2, 24)
    assert torch.linalg.matrix_rank(embedding.weight.double()) <= 24


def test_with_room_for_all_the_distances_are_those_of_the_pictures() -> None:
    embedding = visual_embedding(LETTERS, 80)
    face = ImageFont.truetype(str(default_font()), 32, layout_engine=ImageFont.Layout.BASIC)
    bits = torch.stack([picture(letter, face, 32, True, True) for letter in LETTERS]).flatten(1).double()
    centred = bits - bits.mean(0)
    assert torch.allclose(
        distances(embedding.weight), distances(centred / centred.norm(dim=1, keepdim=True)), atol=1e-5
    )
    assert (embedding.weight[:, 61:] == 0).all()  # 62 pictures span 61 directions


def test_letters_that_look_alike_are_near() -> None:
    apart = distances(visual_embedding(LETTERS, 32).weight)
    o, q, i = (LETTERS.index(letter) for letter in "OQi")
    assert apart[o, q] < apart[o, i]


def test_homoglyphs_coincide_unless_they_are_told_apart() -> None:
    tokens = ["c", "с", "a", "а", "b", "the"]  # the second and fourth are Cyrillic
    embedding = visual_embedding(tokens, 16)
    assert embedding.collisions == (("c", "с"), ("a", "а"))
    assert torch.equal(embedding.weight[0], embedding.weight[1])
    told = visual_embedding(tokens, 16, separate=True)
    assert told.collisions == ()
    assert not torch.equal(told.weight[0], told.weight[1])
    assert torch.allclose(told.weight.norm(dim=1), torch.ones(6))


def test_what_has_no_ink_stands_as_its_code() -> None:
    embedding = visual_embedding([" ", "\n", "a", "\U0010fffe"], 8)
    assert embedding.missing == (" ", "\n", "\U0010fffe")
    assert embedding.collisions == ()


def test_every_process_draws_the_same() -> None:
    program = "from neurarium.models import visual_embedding as v; print(v('abc xyz', 4).weight.tolist())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(other) == visual_embedding("abc xyz", 4).weight.tolist()


def test_binary_rows_are_the_bits_of_the_number() -> None:
    weight = binary_embedding(300, 40).weight
    assert not weight.requires_grad
    for number in (0, 1, 5, 256, 299):
        bits = [number >> place & 1 for place in range(16)]
        assert weight[number].int().tolist() == (bits * 3)[:40]


def test_requests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens must not be empty"):
        visual_embedding(["a", ""], 4)
    with pytest.raises(ValueError, match=r"between 1 and 65,536"):
        binary_embedding(70_000, 16)
