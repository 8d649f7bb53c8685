"""Whether a network tells a word from the same word said twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from neurarium.lab import Metrics, Run
from neurarium.layers import ConvolutionalGRU
from neurarium.theory import TuringTransformer, compile_transformer, machines


@dataclass(frozen=True)
class Repetition:
    """A network that may or may not tell w from ww."""

    network: Literal["positions", "no-position", "zero-padded", "ring"] = "no-position"
    words: int = 20
    longest: int = 6
    steps: int = 60


def repeat(settings: Repetition, run: Run) -> Metrics:
    """Whether a network does the same on w and on ww, and which words it thinks even."""
    generator = torch.Generator().manual_seed(run.seed)
    pairs = [
        "".join("ab"[i] for i in torch.randint(2, (1 + n % settings.longest,), generator=generator).tolist())
        for n in range(settings.words)
    ]
    if settings.network in ("zero-padded", "ring"):
        padding: Literal["zeros", "circular"] = "circular" if settings.network == "ring" else "zeros"
        return {"same_twice": share(recurrence_gap(word, padding) < 1e-9 for word in run.track(pairs, "words"))}
    positions = settings.network == "positions"
    names = ("even-length", "palindrome", "equal-abc")
    networks = {name: compile_transformer(machines[name], positions=positions) for name in names}
    same, right = [], []
    for word in run.track(pairs, "words"):
        for name, network in networks.items():
            once, twice = (outcome(network, w, settings.steps) for w in (word, 2 * word))
            same.append(once == twice)
            if name == "even-length":
                right += [once[0] == (len(word) % 2 == 0), twice[0] is True]
    return {
        "same_twice": share(same),
        "even_length_correct": share(right),
        "softmax_same_twice": share(softmax_gap(word, positions) < 1e-9 for word in pairs),
    }


def outcome(network: TuringTransformer, word: str, steps: int) -> tuple[bool, Any]:
    """Whether a word is accepted, and the run or how it failed."""
    try:
        trace = network.run(word, steps)
    except ValueError as fault:  # the head left the tape
        return False, str(fault)
    return trace.accepted, (trace.states, trace.symbols, trace.moves)


@torch.no_grad()
def recurrence_gap(word: str, padding: Literal["zeros", "circular"]) -> float:
    """How far a random Neural GPU's mean state after 10 steps is on w from what it is on ww."""
    unit = ConvolutionalGRU(6, padding_mode=padding).double()
    means = []
    for text in (word, 2 * word):
        state = torch.zeros(1, 6, 2, len(text), dtype=torch.float64)
        for place, symbol in enumerate(text):
            state[0, "ab".index(symbol), :, place] = 1.0
        for _ in range(10):
            state = unit(state)
        means.append(state.mean((2, 3)))
    return float((means[0] - means[1]).abs().max())


@torch.no_grad()
def softmax_gap(word: str, positions: bool) -> float:
    """How far torch's transformer, random and with softmax attention, is on w from what it is on ww."""
    network = nn.Transformer(8, 2, 2, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    symbols = torch.randn(2, 8, dtype=torch.float64)
    answers = []
    for text in (word, 2 * word):
        x = torch.stack([symbols["ab".index(symbol)] for symbol in text])
        if positions:
            x = x + torch.arange(len(text))[:, None] / 4
        answers.append(network(x[None], torch.ones(1, 1, 8, dtype=torch.float64)))
    return float((answers[0] - answers[1]).abs().max())


def share(values: Iterable[bool]) -> float:
    """The share of what is true."""
    listed = list(values)
    return sum(listed) / len(listed)
