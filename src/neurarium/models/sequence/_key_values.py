"""Keys and values of tokens that have been seen, so that a new token need not look at them twice."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class KeyValues:
    """Growing keys and values of one layer [batch, head, length, width]; room doubles when it is used up."""

    def __init__(self) -> None:
        self.length = 0
        self._room: Pair | None = None

    @property
    def bytes(self) -> int:
        """Of what is kept."""
        if self._room is None:
            return 0
        return sum(t[..., : self.length, :].numel() * t.element_size() for t in self._room)

    def append(self, keys: Tensor, values: Tensor) -> Pair:
        """All keys and values, the new ones last."""
        end = self.length + keys.shape[-2]
        if self._room is None:
            self._room = keys, values  # as they are: gradients flow, and nothing is copied
        else:
            if end > self._room[0].shape[-2]:
                self._room = self._wider(self._room[0], 2 * end), self._wider(self._room[1], 2 * end)
            for room, new in zip(self._room, (keys, values), strict=True):
                room[..., self.length : end, :] = new
        self.length = end
        return self._room[0][..., :end, :], self._room[1][..., :end, :]

    def _wider(self, room: Tensor, length: int) -> Tensor:
        wide = room.new_empty(*room.shape[:-2], length, room.shape[-1])
        wide[..., : self.length, :] = room[..., : self.length, :]
        return wide


@dataclass
class WindowCache:
    """What a decoder remembers between the tokens that it generates.

    Attributes:
        start: tokens in the history, which the tokens of the window see through ``memory`` only.
        memory: per layer the keys and values that stand for the history.
        window: per layer those of the tokens since.
        hits: calls that added to the window.
        misses: calls that computed the history anew.
    """

    start: int = 0
    memory: list[Pair] = field(default_factory=list)
    window: list[KeyValues] = field(default_factory=list)
    hits: int = 0
    misses: int = 0
    tokens: Int[Tensor, "batch length"] | None = None

    @property
    def bytes(self) -> int:
        """Of all keys and values kept."""
        history = sum(t.numel() * t.element_size() for pair in self.memory for t in pair)
        return history + sum(layer.bytes for layer in self.window)

    @property
    def length(self) -> int:
        """Tokens that are known."""
        return 0 if self.tokens is None else self.tokens.shape[1]

    def check(self, tokens: Int[Tensor, "batch length"]) -> None:
        """Refuse tokens that do not go on from those that the cache holds.

        Raises:
            ValueError: another batch, other tokens, or none beyond them.
        """
        if self.tokens is None:
            return
        held, batch = self.length, len(self.tokens)
        if len(tokens) != batch:
            raise ValueError(f"the cache holds a batch of {batch} sequences, not {len(tokens)}")
        if tokens.shape[1] <= held:
            raise ValueError(f"the cache holds {held} tokens; give those and at least one more, not {tokens.shape[1]}")
        if not tokens.is_meta and not torch.equal(tokens[:, :held], self.tokens):
            raise ValueError(f"the cache holds {held} tokens that differ from the first {held} given")
