"""Token embeddings without meaning that never learn: pictures of the characters, or bits (Bochkov, 2025)."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor, nn

TURNED = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN")
NOTHING = "\U0010ffff"  # a code point that no font draws


class VisualEmbedding(nn.Embedding):
    """A frozen embedding made from pictures; see `visual_embedding`.

    Attributes:
        collisions: groups of tokens with equal rows.
        missing: tokens that the font could not draw; they stand as their code in a frame.
    """

    collisions: tuple[tuple[str, ...], ...] = ()
    missing: tuple[str, ...] = ()


def visual_embedding(
    tokens: Sequence[str],
    dim: int,
    font: str | Path | None = None,
    cell: int = 32,
    distort: bool = True,
    separate: bool = False,
) -> VisualEmbedding:
    """An embedding whose rows are principal components of the tokens' pictures, each of length 1.

    The same in every process. It is frozen: ``requires_grad`` is off.

    Args:
        tokens: the vocabulary in order, each of one character or more, drawn side by side.
        dim: width. Beyond the number of tokens less one there is nothing left to say, and features are 0.
        font: a font file; DejaVu Sans Mono of matplotlib by default. GNU Unifont draws nearly everything.
        cell: height and width of a picture.
        distort: turn, move and soil alphabetic scripts, each token alike, and soil others a little, as the paper does.
        separate: give tokens of equal pictures (Latin and Cyrillic "a") different rows, by a code of their number.

    Raises:
        ValueError: no tokens or an empty one, a size below 1, or no font.
    """
    if not tokens or not all(tokens) or min(dim, cell) < 1:
        raise ValueError("tokens must not be empty, nor any of them, and dim and cell be at least 1")
    face = ImageFont.truetype(str(font or default_font()), cell, layout_engine=ImageFont.Layout.BASIC)
    missing = tuple(token for token in tokens if not drawable(token, face))
    bits = torch.stack([picture(token, face, cell, distort, token not in missing) for token in tokens])
    weight = principal_components(bits.flatten(1).double(), dim)
    groups = defaultdict(list)
    for number, row in enumerate(bits.flatten(1).numpy()):
        groups[row.tobytes()].append(number)
    equal = [group for group in groups.values() if len(group) > 1]
    if separate and equal:
        code = binary_codes(len(tokens), dim).double()
        for group in equal:
            weight[group] += 0.1 * nn.functional.normalize(code[group] - 0.5)
    embedding = VisualEmbedding(
        len(tokens), dim, _weight=nn.functional.normalize(weight).to(torch.get_default_dtype()), _freeze=True
    )
    embedding.collisions = () if separate else tuple(tuple(tokens[i] for i in group) for group in equal)
    embedding.missing = missing
    return embedding


def binary_embedding(num_tokens: int, dim: int) -> nn.Embedding:
    """A frozen embedding whose rows are the bits of the tokens' numbers, over and over.

    Args:
        num_tokens: at most 65,536.
        dim: width; at least the number of bits of the largest number, or tokens coincide.

    Raises:
        ValueError: ``num_tokens`` or ``dim`` out of range.
    """
    if not 1 <= num_tokens <= 2**16 or dim < 1:
        raise ValueError(f"num_tokens must be between 1 and 65,536 and dim at least 1, not {num_tokens} and {dim}")
    return nn.Embedding(num_tokens, dim, _weight=binary_codes(num_tokens, dim), _freeze=True)


def binary_codes(num_tokens: int, dim: int) -> Float[Tensor, "num_tokens dim"]:
    """Bits of 0, 1, 2 ..., the lowest first, 16 of them repeated to the width."""
    places = torch.arange(dim) % 16
    return (torch.arange(num_tokens)[:, None] >> places & 1).to(torch.get_default_dtype())


def picture(
    token: str, face: ImageFont.FreeTypeFont, cell: int, distort: bool, known: bool
) -> Bool[Tensor, "cell cell"]:
    """Ink of a token, its characters in cells side by side, pressed into one cell."""
    width = cell * (len(token) if known else 1)
    image = Image.new("L", (width, cell))
    draw = ImageDraw.Draw(image)
    if known:
        for place, character in enumerate(token):
            draw.text(((place + 0.5) * cell, cell / 2), character, fill=255, font=face, anchor="mm")
    else:
        draw.rectangle((0, 0, width - 1, cell - 1), outline=255)
        code = " ".join(f"{ord(character):04X}" for character in token)
        small = ImageFont.load_default(max(6, cell // 3))
        draw.text((width / 2, cell / 2), code, fill=255, font=small, anchor="mm")
    if distort:
        image = soiled(image, unicodedata.name(token[0], "").startswith(TURNED))
    image = image.point([0] * 128 + [255] * 128).resize((cell, cell), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image) >= 128)


def soiled(image: Image.Image, turned: bool) -> Image.Image:
    """The picture turned, moved, with single pixels blackened and blurred, by the same draws for every token."""
    draws = np.random.default_rng(42)
    angle, (right, down) = draws.uniform(-7, 7), draws.integers(-3, 4, 2)
    share = 0.03 if turned else 0.001
    if turned:
        image = image.rotate(angle, Image.Resampling.BILINEAR, translate=(int(right), int(down)))
    pixels = np.array(image)
    pixels[draws.random(pixels.shape) < share] = 0
    image = Image.fromarray(pixels)
    return image.filter(ImageFilter.GaussianBlur(0.5)) if turned else image


def drawable(token: str, face: ImageFont.FreeTypeFont) -> bool:
    """Whether every character has a picture of its own in the font, with ink."""
    none = bytes(face.getmask(NOTHING))
    masks = [face.getmask(c) for c in token if not unicodedata.category(c).startswith("C")]
    return len(masks) == len(token) and all(m.getbbox() is not None and bytes(m) != none for m in masks)


def principal_components(x: Float[Tensor, "rows features"], dim: int) -> Float[Tensor, "rows dim"]:
    """Rows in their ``dim`` directions of greatest variance, the rest 0; the largest entry of each is positive."""
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = s > 1e-9 * s.max().clamp_min(1e-30)
    scores = (u * s)[:, kept][:, :dim]
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    return nn.functional.pad(scores * largest.sign(), (0, dim - scores.shape[1]))


def default_font() -> Path:
    """DejaVu Sans Mono where matplotlib keeps it.

    Raises:
        ValueError: matplotlib is not installed.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise ValueError("give font=, a font file: the default one comes with matplotlib, which is not installed")
    return Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / "DejaVuSansMono.ttf"
