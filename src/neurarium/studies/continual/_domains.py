"""Three small streams of real or simulated items: texts, images, sounds, as frozen features with classes."""

from __future__ import annotations

import ast
import gc
import importlib.util
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from neurarium.data import Arrays, Split, printed_letters
from neurarium.lab import Run
from neurarium.models import FrozenEncoder, LogMelStatistics, feature_extractor
from neurarium.studies.continual._frozen import digit_images, pre_train, small_encoder

LIBRARIES = ("torch", "numpy", "scipy", "sklearn", "sympy", "networkx", "pyarrow", "PIL")
VOWELS = {"a": (730, 1090), "e": (530, 1840), "i": (270, 2290), "o": (570, 840), "u": (300, 870)}
WORDS = ("ai", "au", "ei", "eo", "ia", "io", "oa", "oe", "ue", "ui")


@cache
def documentation(library: str, wanted: int) -> tuple[str, ...]:
    """Documentation strings of 25 words or more of an installed library, its name left out, from files as drawn."""
    spec = importlib.util.find_spec(library)
    found: dict[str, None] = {}
    root = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path()
    files = [path for path in sorted(root.rglob("*.py")) if "tests" not in path.parts]
    with without_collection():
        for path in random.Random(0).sample(files, len(files)):  # not the first folders only
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                    text = (ast.get_docstring(node) or "").lower().replace(library.lower(), " ")
                    if len(text.split()) >= 25:
                        found[" ".join(text.split()[:200])] = None
            if len(found) >= 1.5 * wanted:
                break
    return tuple(found)


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for cycles of objects: among the many of syntax trees, which have none, it takes half the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def texts(train: int, test: int, seed: int, extractor: str = "text-hash") -> Split:
    """Which of eight libraries a documentation string is from: [items, 384] by an extractor of texts."""
    encode = feature_extractor(extractor)
    parts: list[tuple[Tensor, Tensor]] = []
    generator = torch.Generator().manual_seed(seed)
    for texts_of in (documentation(library, train + test) for library in LIBRARIES):
        order = torch.randperm(len(texts_of), generator=generator)[: train + test].tolist()
        z = encode([texts_of[i] for i in order])
        cut = min(train, len(z) * 5 // 6)
        parts.append((z[:cut], z[cut : cut + test]))
    return joined(parts, LIBRARIES, "documentation")


def images(train: int, test: int, run: Run, letters: int, epochs: int) -> Split:
    """MNIST digits under convolutions that know letters only, projected to 512 tanh features."""
    body = small_encoder()
    pre_train(body, printed_letters(letters, 0, seed=run.seed), epochs, run)
    projection = nn.Linear(1024, 512, bias=False)
    nn.init.normal_(projection.weight, std=2 / 1024**0.5)
    encoder = FrozenEncoder(nn.Sequential(*body, projection, nn.Tanh()).to(run.device))
    return encoder.encode(digit_images("mnist-small", 10 * train, max(10 * test, 200), run.seed))


def sounds(train: int, test: int, seed: int) -> Split:
    """Ten simulated words of two vowels by voices of all pitches: log mel statistics, standardised, [items, 160]."""
    extractor, generator = LogMelStatistics(), torch.Generator().manual_seed(seed)
    parts = []
    for word in WORDS:
        z = extractor(spoken(word, train + test, generator))
        parts.append((z[:train], z[train:]))
    other = extractor(torch.cat([spoken(w, 20, generator) for w in ("aa", "ii", "uo", "ee", "oi", "ae")]))
    mean, std = other.mean(0), other.std(0) + 1e-6  # of words that do not occur
    return joined([((a - mean) / std, (b - mean) / std) for a, b in parts], WORDS, "words")


def spoken(word: str, count: int, generator: torch.Generator, rate: int = 8_000) -> Tensor:
    """A quarter of a second of a voice that goes from one vowel to another, [count, samples]."""
    time = torch.arange(rate // 4) / rate
    pitch = 80 + 170 * torch.rand(count, 1, 1, generator=generator)
    tract = 1 + 0.3 * (torch.rand(count, 1, 1, generator=generator) - 0.5)
    middle = 0.35 + 0.3 * torch.rand(count, 1, generator=generator)
    blend = torch.sigmoid((time / time[-1] - middle) / 0.06)[:, None]
    phase = 2 * math.pi * torch.rand(count, 30, 1, generator=generator)
    first, second = (torch.tensor(VOWELS[vowel])[:, None] for vowel in word)
    formants = (first + (second - first) * blend) * tract  # [count, 2, samples]
    harmonic = torch.arange(1, 31)[:, None]
    wave = torch.empty(count, len(time))
    for i in range(count):  # voice by voice: what all of them need at once fits no cache
        hertz = harmonic * pitch[i]
        level = ((hertz - formants[i][:, None]) / 120).square_().neg_().exp_().sum(0)
        wave[i] = (level * (hertz < rate / 2) * torch.sin(2 * math.pi * hertz * time + phase[i])).sum(0)
    return wave + 0.3 * torch.randn(wave.shape, generator=generator)


def joined(parts: list[tuple[Tensor, Tensor]], classes: tuple[str, ...], name: str) -> Split:
    """One split of the classes' examples."""
    whole = []
    for which in (0, 1):
        x = torch.cat([part[which] for part in parts])
        y = torch.cat([torch.full((len(part[which]),), c) for c, part in enumerate(parts)])
        whole.append(Arrays(x, y))
    return Split(whole[0], whole[0][:0], whole[1], classes, name)
