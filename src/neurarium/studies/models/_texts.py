"""Texts of few symbols, and the training that language models of several studies share."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, characters, load_corpus, text_windows
from neurarium.learning import Backprop
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Text:
    """A text as numbers, its last part kept for tests, and its alphabet."""

    train: Tensor
    test: Tensor
    alphabet: str


def read(corpus: str) -> str:
    """A corpus by name, the documentation of torch's functions for ``"torch"``, or a text file of the user's."""
    if corpus == "torch":  # installed, and enough for a smoke run
        return "\n\n".join(str(getattr(nn.functional, name).__doc__) for name in sorted(dir(nn.functional)))
    return Path(corpus).read_text(encoding="utf-8") if Path(corpus).is_file() else load_corpus(corpus)


def small_text(corpus: str, symbols: int, test: float = 0.05) -> Text:
    """A corpus in lower case, of its commonest symbols alone."""
    text = read(corpus).lower()
    alphabet = "".join(sorted(symbol for symbol, _ in Counter(text).most_common(symbols)))
    return split_text(kept(text, alphabet), alphabet, test)


def kept(text: str, alphabet: str) -> str:
    """The text without symbols that the alphabet lacks."""
    return text.translate({ord(symbol): None for symbol in set(text) - set(alphabet)})


def split_text(text: str, alphabet: str, test: float = 0.05) -> Text:
    """A text whose last part is for tests."""
    tokens, _ = characters(text, alphabet)
    cut = int(len(tokens) * (1 - test))
    return Text(tokens[:cut], tokens[cut:], alphabet)


def batches(tokens: Tensor, length: int, batch_size: int, steps: int, seed: int) -> Iterable[tuple[Tensor, Tensor]]:
    """As many random batches of windows."""
    loader = Batches(text_windows(tokens, length), batch_size, shuffle=True, drop_last=True, seed=seed)
    return itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps)


def windows(tokens: Tensor, length: int, count: int) -> Arrays:
    """As many windows, spread evenly."""
    found = text_windows(tokens, length)
    return found[torch.linspace(0, len(found) - 1, min(count, len(found))).long()]


def token_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy in nats, the mean over all tokens whose target is not -100."""
    return cross_entropy(logits.flatten(0, 1), y.flatten())


def loss_on(model: nn.Module, data: Arrays, batch_size: int = 64) -> float:
    """Mean loss on windows, in nats a token."""
    return evaluate(model, Batches(data, batch_size), token_loss)


def learn(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    lr: float,
    warm_up: int = 0,
    decay: float = 0.01,
    watch: Callable[[int], object] | None = None,
) -> None:
    """AdamW with clipped gradients, a warm-up and a cosine down to nothing; ``watch(step)`` after every step."""
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr, (0.9, 0.95), weight_decay=decay
    )
    optimizer.register_step_pre_hook(lambda o, *_: clip(o))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: rate(s, steps, warm_up))

    def after(step: int, _: float) -> None:
        schedule.step()
        if watch:
            watch(step)

    fit(Backprop(model, token_loss), loader, optimizer, callbacks=[after])


def clip(optimizer: torch.optim.Optimizer) -> None:
    """Gradients to a norm of 1 at most."""
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)


def rate(step: int, steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step."""
    if step < warm_up:
        return (step + 1) / warm_up
    return float(0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * (step - warm_up) / max(1, steps - warm_up))))
