"""``neurarium generate``: a small language model of characters, trained on a text, goes on from a beginning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurarium.data import DataError, characters
from neurarium.data._files import replacing
from neurarium.data._saved import read_saved
from neurarium.lab.errors import RequestError
from neurarium.lab.study import closest
from neurarium.models import RotaryDecoder, SignalFlowLanguageModel, TLinFormer
from neurarium.studies.models._texts import batches, kept, learn, read

LENGTH, BATCH = 64, 16
MODELS: dict[str, tuple[Callable[[int], nn.Module], float]] = {
    "transformer": (lambda size: RotaryDecoder(size, 64, 4, 4), 3e-3),
    "tlinformer": (lambda size: TLinFormer(RotaryDecoder(size, 64, 4, 4), 4, 32, 32), 3e-3),
    "brillm": (lambda size: SignalFlowLanguageModel(size, 16, positions=None), 1e-2),
}
"""How each is built for a number of characters, and its learning rate."""


def train_text(text: str, model: str, steps: int, symbols: int, seed: int) -> dict[str, Any]:
    """Train a model on the commonest characters of a corpus or a file; what `generate_text` takes.

    Raises:
        RequestError: no such model, a number below 1, or a text that is too short.
    """
    closest(model, MODELS, "model")
    if min(steps, symbols) < 1:
        raise RequestError(f"--steps and --symbols must be at least 1, not {steps} and {symbols}")
    whole = read(text)
    alphabet = "".join(sorted(symbol for symbol, _ in Counter(whole).most_common(symbols)))
    tokens, _ = characters(kept(whole, alphabet), alphabet)
    if len(tokens) <= LENGTH * BATCH or len(alphabet) < 2:
        raise RequestError(f"{text} must have more than {LENGTH * BATCH} characters, of two kinds or more")
    build, rate = MODELS[model]
    torch.manual_seed(seed)
    network = build(len(alphabet))
    learn(network, batches(tokens, LENGTH, BATCH, steps, seed), steps, rate, min(10, steps))
    return {"model": model, "alphabet": alphabet, "state": network.state_dict()}


def generate_text(trained: dict[str, Any], prompt: str, count: int, seed: int) -> str:
    """The prompt and what the model adds to it.

    Raises:
        RequestError: an empty prompt, or characters in it that the model does not know.
    """
    try:
        start, alphabet = characters(prompt, trained["alphabet"])
    except DataError as error:
        raise RequestError(f"--prompt: {error}") from None
    network: Any = MODELS[trained["model"]][0](len(alphabet))
    network.load_state_dict(trained["state"])
    longer = network.eval().generate(start[None], count, generator=torch.Generator().manual_seed(seed))
    return "".join(alphabet[i] for i in longer[0].tolist())


def save(trained: dict[str, Any], file: Path) -> None:
    """Write a trained model; the file appears whole or not at all."""
    with replacing(file) as partial:
        torch.save(trained, partial)


def load(file: Path) -> dict[str, Any]:
    """A model that `save` wrote.

    Raises:
        RequestError: no such file, or another kind of file.
    """
    try:
        return read_saved(file, "neurarium generate --out", ("model", "alphabet", "state"))
    except DataError as error:
        raise RequestError(f"--weights: {error}") from None
