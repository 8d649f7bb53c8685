"""Networks of the study of highway backpropagation (residual MLP, small transformer, GRU), and the speed of the GRU."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.layers import Residual
from neurarium.learning import Backprop, HighwayBackprop, LearningRule


def residual_mlp(in_features: int, blocks: int, width: int) -> nn.Sequential:
    """Pre-normalised residual blocks of two linear layers between a linear inlet and outlet."""

    def branch() -> nn.Module:
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    stack = (Residual(branch()) for _ in range(blocks))
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, width), *stack, nn.LayerNorm(width), nn.Linear(width, 10))


def transformer(blocks: int, width: int, context: int) -> nn.Sequential:
    """A pre-norm transformer over bytes; attention and feed-forward networks are blocks of their own."""

    def branch(block: int) -> nn.Module:
        if block % 2 == 0:
            return nn.Sequential(nn.LayerNorm(width), CausalAttention(width))
        wide = nn.Linear(width, 4 * width)
        return nn.Sequential(nn.LayerNorm(width), wide, nn.GELU(), nn.Linear(4 * width, width))

    stack = (Residual(branch(block)) for block in range(blocks))
    return nn.Sequential(Embed(width, context), *stack, nn.LayerNorm(width), nn.Linear(width, 256))


class Reader(nn.Module):
    """A GRU and a linear readout of its last state; update gates remember between 1 and ``steps`` steps."""

    def __init__(self, in_features: int, width: int, steps: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(in_features, width, batch_first=True)
        self.readout = nn.Linear(width, 10)
        with torch.no_grad():
            gate_bias = torch.log(torch.empty(width).uniform_(1, max(steps, 3) - 1))
            self.rnn.get_parameter("bias_ih_l0")[width : 2 * width] = gate_bias
            self.rnn.get_parameter("bias_hh_l0")[width : 2 * width] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """[batch, steps, features] to scores."""
        scores: Tensor = self.readout(self.rnn(x)[0][:, -1])
        return scores


class CellLoop(nn.Module):
    """The same as a Python loop over `nn.GRUCell`: what a network with a cell of its own pays."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.cell = nn.GRUCell(reader.rnn.input_size, reader.rnn.hidden_size)
        self.readout = reader.readout

    def forward(self, x: Tensor) -> Tensor:
        """[batch, steps, features] to scores."""
        h = x.new_zeros(len(x), self.cell.hidden_size)
        for part in x.unbind(1):
            h = self.cell(part, h)
        scores: Tensor = self.readout(h)
        return scores


class Embed(nn.Module):
    """Bytes and their positions."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(256, width)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, length] to [batch, length, width]."""
        embedded: Tensor = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        return embedded


class CausalAttention(nn.Module):
    """Four heads that see what came before."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to the same."""
        q, k, v = self.inward(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        output: Tensor = self.outward(mixed.transpose(1, 2).flatten(2))
        return output


def token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy per token, in nats."""
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def speedups(
    steps: int, batch_size: int, width: int, repetitions: int, device: torch.device | str
) -> dict[tuple[str, int], float]:
    """Time of a GRU's training step by backpropagation over that of k rounds, by peer and k.

    Medians over interleaved repetitions; the peers are `nn.GRU` and a loop over `nn.GRUCell`.
    """
    x = torch.randn(batch_size, steps, 4, device=device)
    y = torch.randint(10, (batch_size,), device=device)
    model = Reader(4, width, steps).to(device)
    loss = F.cross_entropy
    rules: dict[str | int, LearningRule] = {
        "nn.GRU": Backprop(model, loss),
        "nn.GRUCell": Backprop(CellLoop(model).to(device), loss),
        **{k: HighwayBackprop(model, loss, iterations=k) for k in (0, 5, 10)},
    }
    taken: dict[str | int, list[float]] = {name: [] for name in rules}
    for _ in range(repetitions):
        for name, rule in rules.items():
            rule.zero_grad()
            start = time.perf_counter()
            rule.assign_credit(x, y)
            taken[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    return {(peer, k): seconds[peer] / seconds[k] for peer in ("nn.GRU", "nn.GRUCell") for k in (0, 5, 10)}
