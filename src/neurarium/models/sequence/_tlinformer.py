"""TLinFormer: exact attention to a long history through its last positions (Tang, 2025, arXiv 2508.20407)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.layers import PreNormParts, pre_norm_parts
from neurarium.models.sequence._generation import continue_tokens
from neurarium.models.sequence._key_values import KeyValues, Pair, WindowCache

Parts = Callable[[nn.Module], PreNormParts]
HistoryWindow = int | Literal["auto"]
NAMES = {"tokens": "tokens", "positions": "positions", "layers": "layers", "norm": "norm", "head": "head"}


class TLinFormerBlock(nn.Module):
    """Two or more pre-norm layers in the paper's wiring, with weights of their own and none besides.

    The first layer lets the last positions of the history (``Z``) attend to all of it; the layers between let ``Z``
    attend to itself; the last gives what ``Z`` holds back to the whole history. The window attends causally to itself
    in every layer, and besides to the whole history in the first and to ``Z`` in the others: two softmaxes, whose
    outcomes are added.

    Args:
        layers: the layers, used where they are.
        history_window: positions of ``Z``; "auto" for 12 ln(length of the history), rounded up to a multiple of 8.
        parts: how a layer is cut into its parts.

    Raises:
        ValueError: fewer than two layers, or a window below 1.
    """

    def __init__(
        self, layers: Sequence[nn.Module], history_window: HistoryWindow = 32, parts: Parts = pre_norm_parts
    ) -> None:
        super().__init__()
        if len(layers) < 2:
            raise ValueError(
                f"a block needs at least two layers, one to compress and one to restore, not {len(layers)}"
            )
        if history_window != "auto" and history_window < 1:
            raise ValueError(f"history_window must be at least 1, not {history_window}")
        for layer in layers:
            parts(layer)  # says now what it would say in the first pass
        self.layers = nn.ModuleList(layers)
        self.history_window = history_window
        self.parts = parts

    def summaries(self, length: int) -> int:
        """Positions of Z for a history of ``length``."""
        if self.history_window == "auto":
            return min(length, -(-math.ceil(12 * math.log(length)) // 8) * 8) if length > 1 else length
        return min(length, self.history_window)

    def forward(
        self, history: Float[Tensor, "batch past d_model"], window: Float[Tensor, "batch length d_model"]
    ) -> tuple[Float[Tensor, "batch past d_model"], Float[Tensor, "batch length d_model"]]:
        """Both after the block; with an empty history the window passes through plain causal layers."""
        memory, restored = self.remember(history)
        return restored, self.read(window, history.shape[1], memory)

    def remember(
        self, history: Float[Tensor, "batch past d_model"], restore: bool = True
    ) -> tuple[list[Pair], Float[Tensor, "batch past d_model"]]:
        """What the window will attend to, keys and values per layer, and the history after the block.

        Args:
            history: the history before the block.
            restore: compute the history after the block, which the last block of a model need not.
        """
        length = history.shape[1]
        if length == 0:
            return [], history
        first = length - self.summaries(length)
        compress, *hidden, final = [self.parts(layer) for layer in self.layers]
        asked, k, v = compress.project(history)
        memory = [(k, v)]
        z = compress.finish(history[:, first:], compress.attend(asked[..., first:, :], k, v))
        for parts in hidden:
            q, k, v = parts.project(z, first)
            memory.append((k, v))
            z = parts.finish(z, parts.attend(q, k, v))
        _, k, v = final.project(z, first)
        memory.append((k, v))
        return memory, final.finish(history, final.attend(asked, k, v)) if restore else history

    def read(
        self,
        window: Float[Tensor, "batch length d_model"],
        start: int,
        memory: Sequence[Pair],
        seen: Sequence[KeyValues] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Tokens of the window after the block.

        Args:
            window: tokens that come after ``seen``.
            start: place of the first of them.
            memory: what `remember` gave; empty for no history.
            seen: per layer the keys and values of the window's earlier tokens, to which the new ones are added; none
                by default.
        """
        x = window
        seen = seen or [KeyValues() for _ in self.layers]
        for i, layer in enumerate(self.layers):
            parts = self.parts(layer)
            q, k, v = parts.project(x, start)
            mixed = parts.attend(q, *seen[i].append(k, v), causal=True)
            if memory:
                mixed = mixed + parts.attend(q, *memory[i])
            x = parts.finish(x, mixed)
        return x


class TLinFormer(nn.Module):
    """A decoder whose layers are wired anew: the cost of a token grows linearly with the text, and it sees all of it.

    The text before the last multiple of ``generation_window`` is the history; the tokens since see it through
    `TLinFormerBlock`. The layers and all other weights stay those of the decoder, so a trained one can be tuned on.

    Args:
        decoder: a `RotaryDecoder`, a pre-norm `CausalTransformer`, or any decoder whose parts ``names`` tells.
        depth: layers of a block; divides the number of layers. H + 2 in the paper, which has 4.
        history_window: positions that stand for the history between the first and last layer of a block; or "auto".
        generation_window: tokens after which the history grows by as many.
        names: where the decoder keeps its embedding ("tokens"), learned positions ("positions", a parameter or an
            embedding, if any), list of "layers", last "norm" and read-out ("head"), as dotted names; those of a
            `CausalTransformer` by default.
        parts: how a layer is cut into its parts.

    Raises:
        ValueError: a window below 1, a depth below 2 or one that does not divide the number of layers, layers with
            norms after the sums.
        TypeError: a name without a module, layers of an unknown kind.
    """

    def __init__(
        self,
        decoder: nn.Module,
        depth: int = 4,
        history_window: HistoryWindow = 32,
        generation_window: int = 32,
        names: Mapping[str, str] | None = None,
        parts: Parts = pre_norm_parts,
    ) -> None:
        super().__init__()
        where = {**NAMES, **(names or {})}
        layers: list[nn.Module] = list(_module(decoder, where, "layers"))  # type: ignore[call-overload]
        if generation_window < 1:
            raise ValueError(f"generation_window must be at least 1, not {generation_window}")
        if depth < 2 or len(layers) % depth:
            raise ValueError(f"depth must be at least 2 and divide the {len(layers)} layers of decoder, not {depth}")
        self.generation_window = generation_window
        self.tokens, self.norm, self.head = (_module(decoder, where, part) for part in ("tokens", "norm", "head"))
        self.positions = _find(decoder, where["positions"])
        self.blocks: Sequence[TLinFormerBlock] = nn.ModuleList(  # type: ignore[assignment]
            TLinFormerBlock(layers[i : i + depth], history_window, parts) for i in range(0, len(layers), depth)
        )

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length num_tokens"]:
        """Logits of the next token at each position, window by window."""
        x, size = self._embed(tokens), self.generation_window
        windows = []
        for start in range(0, x.shape[1], size):
            window, memories = x[:, start : start + size], self._remember(x[:, :start])
            for block, memory in zip(self.blocks, memories, strict=True):
                window = block.read(window, start, memory)
            windows.append(window)
        return self.head(self.norm(torch.cat(windows, 1)))

    def empty_cache(self) -> WindowCache:
        """A cache for `next_logits`."""
        return WindowCache()

    @torch.no_grad()
    def next_logits(
        self, tokens: Int[Tensor, "batch length"], cache: WindowCache | None = None
    ) -> Float[Tensor, "batch num_tokens"]:
        """Logits of the token after the last one.

        Args:
            tokens: all tokens so far.
            cache: what earlier calls left. While the history is as it was (a hit) new tokens alone are computed; once
                every ``generation_window`` tokens (a miss) the history is, too.

        Raises:
            ValueError: the cache holds other tokens.
        """
        cache = cache if cache is not None else self.empty_cache()
        cache.check(tokens)
        length = tokens.shape[1]
        start = (length - 1) // self.generation_window * self.generation_window
        if cache.tokens is None or start != cache.start:
            cache.misses += 1
            cache.start = start
            cache.memory = [pair for memory in self._remember(self._embed(tokens[:, :start])) for pair in memory]
            cache.window = [KeyValues() for block in self.blocks for _ in block.layers]
            first = start
        else:
            cache.hits += 1
            first = cache.length
        x, done = self._embed(tokens[:, first:], first), 0
        for block in self.blocks:
            layers = slice(done, done := done + len(block.layers))
            x = block.read(x, first, cache.memory[layers], cache.window[layers])
        cache.tokens = tokens
        return self.head(self.norm(x[:, -1]))

    def generate(
        self,
        tokens: Int[Tensor, "batch length"],
        count: int,
        *,
        cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch longer"]:
        """Continue sequences by sampling ``count`` tokens; without ``cache`` all is computed anew for each."""
        known = self.empty_cache() if cache else None
        return continue_tokens(lambda t: self.next_logits(t, known), tokens, count, generator)

    def _embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        x, end = self.tokens(tokens), start + tokens.shape[1]
        if self.positions is None:
            return x
        table: Any = self.positions.weight if isinstance(self.positions, nn.Embedding) else self.positions
        if end > len(table):
            raise ValueError(f"tokens have length {end}, but there are {len(table)} learned positions")
        return x + table[start:end]

    def _remember(self, history: Tensor) -> list[list[Pair]]:
        """Per block what the window attends to."""
        memories = []
        for i, block in enumerate(self.blocks, 1):
            memory, history = block.remember(history, restore=i < len(self.blocks))
            memories.append(memory)
        return memories


def _module(model: nn.Module, names: Mapping[str, str], part: str) -> nn.Module:
    found = _find(model, names[part])
    if not isinstance(found, nn.Module):
        raise TypeError(f"decoder has no module for {part!r}: say its name by names={{{part!r}: ...}}")
    return found


def _find(model: nn.Module, name: str) -> nn.Module | nn.Parameter | None:
    """The module or parameter of a dotted name, if there is one."""
    place: object = model
    for word in name.split("."):
        place = getattr(place, word, None)
    return place if isinstance(place, nn.Module | nn.Parameter) else None
