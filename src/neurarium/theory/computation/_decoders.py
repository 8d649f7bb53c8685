"""A compiled transformer's decoder, one position after another: in floating point, or exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from neurarium.theory.computation._rational import Matrix, Memory, Rational

if TYPE_CHECKING:
    from neurarium.theory.computation._turing_transformer import TuringTransformer


class FloatingDecoder:
    """The decoder in floating point, with its keys and values kept."""

    def __init__(self, network: TuringTransformer, cells: list[str], dtype: torch.dtype) -> None:
        self.network, self.dtype, self.count = network, dtype, 0
        self.device = network.get_buffer("output").device
        index = torch.tensor([network.symbols.index(c) for c in cells], device=self.device)
        self.word = nn.functional.one_hot(index, len(network.symbols)).to(dtype)
        self.kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next vector, and the symbol written, one-hot."""
        net = self.network
        given = torch.from_numpy(y).to(self.device, self.dtype)[None]
        stream, keys, values = net.embed(given, self.word, self.count)
        stream = net.first_layer(stream, keys, values)
        moves = stream @ net.weight("mean_value", stream).T
        total = self.kept.get("moves", torch.zeros_like(moves)) + moves
        self.kept["moves"] = total
        self.count += 1
        stream = stream + (total / self.count) @ net.weight("mean_put", stream).T
        for name in ("visit", "given"):
            query, key, value = (stream @ net.weight(f"{name}_{part}", stream).T for part in ("query", "key", "value"))
            found = net.attention(query, self._keep(f"{name} key", key), self._keep(f"{name} value", value))
            stream = stream + found @ net.weight(f"{name}_put", stream).T
        written = stream[0, net.slots["written"]]
        following = net.last_layer(stream)[0].cpu().double().round().numpy().astype(np.int64)
        return following, written.cpu().double().numpy()

    def _keep(self, name: str, row: Tensor) -> Tensor:
        store = self.kept.get(name)
        if store is None or self.count > len(store):
            more = row.new_zeros(max(len(store) if store is not None else 0, 64), row.shape[1])
            store = more if store is None else torch.cat([store, more])
            self.kept[name] = store
        store[self.count - 1] = row[0]
        return store[: self.count]


class ExactDecoder:
    """The decoder in rationals, with the same weights."""

    def __init__(self, network: TuringTransformer, cells: list[str]) -> None:
        self.network, self.count = network, 0
        self.weights = {name: Matrix(w.cpu().numpy()) for name, w in network.named_buffers()}
        self.encoder = Memory(2, len(network.symbols) + 1)
        for place, symbol in enumerate(cells, start=1):
            number = place if network.positions else 1
            value = np.zeros(len(network.symbols) + 1, np.int64)
            value[network.symbols.index(symbol)], value[-1] = 1, number
            self.encoder.add(Rational(np.array([1, number])), Rational(value))
        sizes = {"visit": (3, len(network.symbols) + 1), "given": (2, len(network.symbols))}
        self.decoder = {name: Memory(*size) for name, size in sizes.items()}
        self.moves = np.zeros(2, np.int64)

    def step(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next vector, and the symbol written, one-hot."""
        net, w = self.network, self.weights
        cubed, linear, unit = net.features(self.count)
        below = linear**2
        stream = Rational(np.zeros(net.width, np.int64), below)
        numbers = stream.numerators
        numbers[: len(y)] = y * below
        for name, value in (("one", below), ("next", cubed), ("rate", linear), ("square", unit)):
            numbers[net.slots[name]] = value
        found = self.encoder.nearest(stream.apply(w["cross_query"]))
        stream = stream.plus(found.apply(w["cross_put"]))
        stream = stream.plus(stream.apply(w["rule_in"]).saturated().apply(w["rule_out"]))
        self.count += 1
        self.moves = self.moves + stream.apply(w["mean_value"]).numerators
        stream = stream.plus(Rational(self.moves, self.count).reduced().apply(w["mean_put"]))
        for name, memory in self.decoder.items():
            memory.add(stream.apply(w[f"{name}_key"]), stream.apply(w[f"{name}_value"]))
            stream = stream.plus(memory.nearest(stream.apply(w[f"{name}_query"])).apply(w[f"{name}_put"]))
        written = stream.numerators[net.slots["written"]]
        stream = stream.plus(stream.apply(w["select_in"]).saturated().apply(w["select_out"]))
        out = stream.apply(w["output"])
        return out.numerators if out.denominator == 1 else out.floats(), written
