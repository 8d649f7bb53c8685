"""A small language model of English characters, and a language to translate into, for the study of neuron-level
fine-tuning.

The English is the prose in the documentation of numpy, scipy and torch, as installed; nothing is fetched.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neurarium.data.known._cache import cache_folder, locked, make_folder
from neurarium.models import CausalTransformer
from neurarium.objectives import response_labels, response_loss

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,()-='>"
SOURCES = ("numpy", "scipy.stats", "scipy.signal", "scipy.optimize", "scipy.linalg", "torch", "torch.nn")
VERSIONS = "-".join(version(package) for package in ("numpy", "scipy", "torch"))
PROMPT, RESPONSE = 18, 22
LENGTH = PROMPT + RESPONSE


@dataclass(frozen=True)
class Base:
    """Size of the language model and length of its pre-training."""

    d_model: int = 64
    nhead: int = 4
    num_layers: int = 3
    context: int = 64
    steps: int = 1_200
    batch_size: int = 16
    lr: float = 3e-3


@functools.lru_cache(maxsize=1)
def english() -> str:
    """Prose of the installed documentation, in lower case; collected once and kept in the cache."""
    path = cache_folder() / "pretrained" / f"documentation-{VERSIONS}.txt"
    with locked("documentation"):
        if not path.is_file():
            _put(path, lambda part: part.write_text(collect()))
    return path.read_text()


def collect() -> str:
    """The paragraphs of the public functions' documentation that are prose."""
    found: dict[str, None] = {}
    for source in SOURCES:
        module = importlib.import_module(source)
        for name in sorted(dir(module)):
            text = getattr(getattr(module, name), "__doc__", None)
            for paragraph in (text if isinstance(text, str) else "").split("\n\n"):
                line = " ".join(paragraph.split()).lower()
                letters = sum(c.isalpha() or c == " " for c in line)
                if len(line) > 60 and letters > 0.93 * len(line) and ">>>" not in line:
                    found[line] = None
    return "".join(c for c in "\n".join(found) if c in ALPHABET)


def encode(text: str) -> Tensor:
    """Character numbers."""
    return torch.tensor([ALPHABET.index(c) for c in text])


@functools.lru_cache(maxsize=1)
def words() -> tuple[str, ...]:
    """Words of 3 to 7 letters, most frequent first."""
    counted = Counter(re.findall(r"\b[a-z]{3,7}\b", english()))
    return tuple(word for word, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def corpus(held_out: bool) -> Tensor:
    """Characters of the English text; the last twentieth is held out."""
    text = english()
    cut = len(text) * 19 // 20
    return encode(text[cut:] if held_out else text[:cut])


def windows(text: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Random pieces of a text, [count, length]."""
    start = torch.randint(len(text) - length, (count, 1), generator=generator)
    return text[start + torch.arange(length)]


def glossary(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Lines of words that are repeated ("tree=tree"): a small model learns to copy from them, as large ones do."""
    known = words()
    picks = torch.randint(len(known), (count, length // 4), generator=generator)
    rows = ["".join(f"{known[i]}={known[i]}\n" for i in row)[:length] for row in picks.tolist()]
    return torch.stack([encode(row) for row in rows])


def next_character_loss(model: CausalTransformer, text: Tensor) -> Tensor:
    """Mean cross-entropy of every character given those before it."""
    return cross_entropy(model(text)[:, :-1].flatten(0, 1), text[:, 1:].flatten())


def pretrain(base: Base) -> CausalTransformer:
    """The language model, trained on English and a quarter of glossary lines."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CausalTransformer(
            len(ALPHABET), base.d_model, base.nhead, base.num_layers, 4 * base.d_model, base.context
        )
    optimizer = torch.optim.AdamW(model.parameters(), base.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, base.lr, total_steps=base.steps)
    text, quarter = corpus(held_out=False), base.batch_size // 4
    for _ in range(base.steps):
        batch = torch.cat([
            windows(text, base.batch_size - quarter, base.context, generator),
            glossary(quarter, base.context, generator),
        ])  # fmt: skip
        optimizer.zero_grad()
        next_character_loss(model, batch).backward()
        optimizer.step()
        schedule.step()
    return model


def language_model(base: Base) -> CausalTransformer:
    """The pre-trained model, from the cache or trained now: every trial starts from the same one."""
    mark = hashlib.sha256(f"{base} {VERSIONS}".encode()).hexdigest()[:12]
    path = cache_folder() / "pretrained" / f"characters-{mark}.pt"
    with locked(f"characters-{mark}"):
        if not path.is_file():
            _put(path, lambda part: torch.save(pretrain(base).state_dict(), part))
    model = CausalTransformer(len(ALPHABET), base.d_model, base.nhead, base.num_layers, 4 * base.d_model, base.context)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def _put(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=make_folder(path.parent)) as temporary:
        write(Path(temporary, path.name))
        os.replace(Path(temporary, path.name), path)


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations as characters, [pairs, length], and where each translation ends."""

    tokens: Tensor
    ends: Tensor

    @property
    def labels(self) -> Tensor:
        """The translations; the sentences are masked out."""
        return response_labels(self.tokens, PROMPT, self.ends)

    def __getitem__(self, index: Tensor | slice) -> Pairs:
        return Pairs(self.tokens[index], self.ends[index])


def translated(word: str, vocabulary: dict[str, str]) -> str:
    """A frequent word has a name of its own; of any other the first letter goes to the end, and "ay" follows."""
    return vocabulary.get(word) or f"{word[1:]}{word[0]}ay"


def pairs(train: int, test: int, generator: torch.Generator) -> tuple[Pairs, Pairs]:
    """Phrases of one of 300 frequent words and one other; no other word of the test set is in the training set.

    Args:
        train: training phrases.
        test: test phrases.
        generator: of the names of the frequent words, and of the phrases.
    """
    frequent, others = words()[:300], words()[300:]
    names = [frequent[i] for i in torch.randperm(len(frequent), generator=generator).tolist()]
    vocabulary = dict(zip(frequent, names, strict=True))
    order = torch.randperm(len(others), generator=generator).tolist()
    cut = len(order) * 3 // 4

    def draw(count: int, among: list[int]) -> Pairs:
        first = torch.randint(len(frequent), (count,), generator=generator).tolist()
        second = torch.randint(len(among), (count,), generator=generator).tolist()
        rows, ends = [], []
        for i, j in zip(first, second, strict=True):
            phrase = (frequent[i], others[among[j]])
            response = " ".join(translated(word, vocabulary) for word in phrase) + "\n"
            rows.append(encode((" ".join(phrase) + ">").rjust(PROMPT, "\n") + response.ljust(RESPONSE, "\n")))
            ends.append(PROMPT + len(response))
        return Pairs(torch.stack(rows), torch.tensor(ends))

    return draw(train, order[:cut]), draw(test, order[cut:])


def fine_tune(model: CausalTransformer, optimizer: torch.optim.Optimizer, batch: Pairs, device: str) -> float:
    """One step; its loss."""
    optimizer.zero_grad()
    loss = response_loss(model(batch.tokens.to(device)), batch.labels.to(device))
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def score(model: CausalTransformer, test: Pairs, device: str) -> dict[str, float]:
    """Loss, and the shares of characters, of words and of whole phrases that are right.

    A word is right if every character up to the space or the end behind it is.
    """
    tokens, labels = test.tokens.to(device), test.labels.to(device)
    logits = model(tokens)
    real = labels[:, 1:] >= 0
    right: Tensor = logits[:, :-1].argmax(-1) == labels[:, 1:]
    whole = (right | ~real).all(1)  # every character the most probable one: what greedy decoding gives
    ends = (labels[:, 1:] == ALPHABET.index(" ")) | (labels[:, 1:] == ALPHABET.index("\n"))
    word = ends.cumsum(1) - ends.long()  # the number of the word that a character belongs to
    by_word = torch.stack([(right | ~real | (word != number)).all(1) for number in range(2)])
    return {
        "test_loss": float(response_loss(logits, labels)), "token_accuracy": float(right[real].double().mean()),
        "words_right": float(by_word.double().mean()), "exact_match": float(whole.double().mean()),
    }  # fmt: skip
