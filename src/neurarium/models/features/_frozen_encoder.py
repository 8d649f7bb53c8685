"""Features of a model that does not train: of a layer of choice, pooled, computed in batches, remembered."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.data import Split
from neurarium.training import call, count_rows, rows_of

POOLING = ("flatten", "mean", "max", "first")
_SWITCHING = threading.Lock()


class FrozenEncoder(nn.Module):
    """``encoder(x) -> [batch, features]`` without gradients, in evaluation mode, whatever is around it.

    Your encoder is in evaluation mode while it runs here; between calls it is in the mode that you gave it.

    To learn on frozen features, compute them once: ``[encoder.encode(task) for task in stream]``.

    Args:
        encoder: a module (its parameters no longer require gradients); or a function, or an object with a method
            ``encode`` as sentence-transformers have it, from inputs to an array or tensor; None for inputs that are
            features.
        layer: name of the submodule whose output is taken; the module's own output by default.
        pooling: of outputs with more than two dimensions: ``"flatten"``; ``"mean"`` or ``"max"`` over all but batch and
            features; ``"first"``: the first token of [batch, tokens, features]. Maps [batch, channels, ...] keep their
            channels.
        batch_size: inputs per pass.
        cache: results of this many latest calls are kept and given again for equal tensors or lists of strings.

    Raises:
        TypeError: the encoder cannot be called.
        ValueError: an argument out of range, or no such layer.
    """

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Any] | Any | None = None,
        *,
        layer: str | None = None,
        pooling: str = "flatten",
        batch_size: int = 512,
        cache: int = 0,
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"pooling must be one of {', '.join(POOLING)}, not {pooling!r}")
        if batch_size < 1 or cache < 0:
            raise ValueError(f"batch_size must be at least 1 and cache not negative, not {batch_size} and {cache}")
        self.encoder = nn.Identity() if encoder is None else encoder
        if isinstance(self.encoder, nn.Module):
            self.encoder.requires_grad_(False)
        elif not callable(encoder) and not hasattr(encoder, "encode"):
            raise TypeError(f"encoder must be a module, a function or have encode(), not {type(encoder).__name__}")
        names = dict(self.encoder.named_modules()) if isinstance(self.encoder, nn.Module) else {}
        if layer is not None and layer not in names:
            raise ValueError(f"the encoder has no layer {layer!r}; there are: {', '.join(n for n in names if n)}")
        self.layer, self.pooling, self.batch_size, self.cache = layer, pooling, batch_size, cache
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._running = 0
        self._modes: list[tuple[nn.Module, bool]] = []

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Sets this module's flag alone; the encoder runs in evaluation mode in any case."""
        self.training = mode
        return self

    @torch.no_grad()
    def forward(self, x: Any) -> Float[Tensor, "batch features"]:
        """Features of inputs: a tensor, or a sequence that can be sliced; on the device of the encoder's parameters.

        Raises:
            ValueError: there are no inputs, or the output cannot be pooled.
        """
        examples = count_rows(x)
        if examples == 0:
            raise ValueError("there are no inputs to encode")
        key = digest(x) if self.cache else None
        if key is not None and key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if isinstance(self.encoder, nn.Identity):
            return self._pool(x)
        with self._evaluating():
            parts = [
                self._pool(self._call(rows_of(x, slice(i, i + self.batch_size))))
                for i in range(0, examples, self.batch_size)
            ]
        features = parts[0] if len(parts) == 1 else torch.cat(parts)
        if key is not None:
            self._kept[key] = features
            while len(self._kept) > self.cache:
                self._kept.popitem(last=False)
        return features

    def encode(self, split: Split) -> Split:
        """The split with features for inputs."""
        return split.map_inputs(lambda x: self(x) if len(x) else x.new_empty(0))

    def forget(self) -> None:
        """Empty the cache; needed where the encoder's weights were changed from outside."""
        self._kept.clear()

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The encoder in evaluation mode; the last of several threads that run it puts its modes back."""
        if not isinstance(self.encoder, nn.Module):
            yield
            return
        with _SWITCHING:
            if not self._running:
                self._modes = [(module, module.training) for module in self.encoder.modules()]
                self.encoder.eval()
            self._running += 1
        try:
            yield
        finally:
            with _SWITCHING:
                self._running -= 1
                if not self._running:
                    for module, mode in self._modes:
                        module.training = mode
                    self._modes = []

    def _call(self, x: Any) -> Tensor:
        if not isinstance(self.encoder, nn.Module) or hasattr(self.encoder, "encode"):
            function = getattr(self.encoder, "encode", self.encoder)
            return torch.as_tensor(function(x))
        device = next((tensor.device for tensor in self.encoder.parameters()), None)
        if isinstance(x, Tensor) and device is not None:
            x = x.to(device)
        if self.layer is None:
            return call(self.encoder, x)
        found: list[Tensor] = []
        handle = self.encoder.get_submodule(self.layer).register_forward_hook(lambda m, a, output: found.append(output))
        try:
            call(self.encoder, x)
        finally:
            handle.remove()
        return found[-1]

    def _pool(self, output: Tensor) -> Tensor:
        if output.dim() < 2:
            raise ValueError(f"the encoder must give at least [batch, features], not {tuple(output.shape)}")
        if not output.is_floating_point():
            output = output.float()
        if output.dim() == 2 or self.pooling == "flatten":
            return output.flatten(1)
        if self.pooling == "first":
            return output[:, 0].flatten(1)
        tokens = output.movedim(1, -1).flatten(1, -2) if output.dim() > 3 else output
        return tokens.mean(1) if self.pooling == "mean" else tokens.amax(1)


def digest(x: Any) -> bytes | None:
    """A fingerprint of a tensor's or of a list of strings' contents; None for anything else."""
    if isinstance(x, Tensor):
        head = f"{x.dtype}{tuple(x.shape)}{x.device}".encode()
        return hashlib.blake2b(
            head + x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        ).digest()
    if isinstance(x, Sequence) and all(isinstance(item, str) for item in x):
        return hashlib.blake2b("\0".join(x).encode()).digest()
    return None
