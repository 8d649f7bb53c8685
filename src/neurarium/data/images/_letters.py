"""Printed letters, drawn here: something to pre-train on that needs no download."""

from __future__ import annotations

import functools
import string

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError
from neurarium.data.images._corruptions import corrupt

LETTERS = string.ascii_uppercase + string.ascii_lowercase


def printed_letters(train: int = 8_000, test: int = 1_000, seed: int = 0) -> Split:
    """The 52 letters of one font in several sizes and strokes, bent, turned and moved; white on black, 28 x 28.

    Digits do not occur, so that a network trained on these is new to them.

    Args:
        train: training examples.
        test: test examples.
        seed: of all draws.

    Raises:
        DataError: no examples asked for.
    """
    if train < 1 or test < 0:
        raise DataError(f"train must be at least 1 and test not negative, not {train} and {test}")
    generator = torch.Generator().manual_seed(seed)
    shapes = glyphs()
    variants = len(shapes) // len(LETTERS)
    label = torch.randint(len(LETTERS), (train + test,), generator=generator)
    x = shapes[label * variants + torch.randint(variants, (train + test,), generator=generator)]
    for kind, severity in (("elastic", 2), ("rotate", 2), ("translate", 2)):
        x = corrupt(x, kind, severity, generator)
    empty = Arrays(x[:0], label[:0])
    return Split(Arrays(x[:train], label[:train]), empty, Arrays(x[train:], label[train:]), tuple(LETTERS), "letters")


@functools.cache
def glyphs() -> Tensor:
    """Each letter in three sizes and three strokes, centred, [letters * 9, 28, 28] uint8, letter by letter."""
    drawn = []
    for letter in LETTERS:
        for size in (18, 22, 26):
            font = ImageFont.load_default(size)
            for stroke in (0.0, 0.5, 1.0):
                image = Image.new("L", (56, 56))
                ImageDraw.Draw(image).text((28, 28), letter, fill=255, font=font, anchor="mm", stroke_width=stroke)
                box = image.getbbox() or (0, 0, 56, 56)
                left, top = (box[0] + box[2]) // 2 - 14, (box[1] + box[3]) // 2 - 14
                drawn.append(np.asarray(image.crop((left, top, left + 28, top + 28))))
    return torch.from_numpy(np.stack(drawn))
