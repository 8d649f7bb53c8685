"""The models on which the paper analyses training: each maps a row of input symbols to frame scores.

All but the BLSTM start at zero, so at uniform posteriors.
Input is ``x`` [batch, frames] of symbol numbers, output log-posteriors [frames, batch, labels].
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Symbols = Int[Tensor, "batch frames"]
FrameScores = Float[Tensor, "frames batch labels"]


class BiasModel(nn.Module):
    """One distribution over labels, shared by all frames: it sees nothing.

    Args:
        num_labels: labels, blank included.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_labels))

    def forward(self, x: Symbols) -> FrameScores:
        return self.bias.log_softmax(-1).expand(x.shape[1], x.shape[0], -1)


class MemoryModel(nn.Module):
    """A free distribution for each frame number: it can hold any alignment of sequences of one length.

    Args:
        frames: number of frames.
        num_labels: labels, blank included.
        bias: add logits shared by all frames.
    """

    def __init__(self, frames: int, num_labels: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(frames, num_labels))
        self.bias = nn.Parameter(torch.zeros(num_labels)) if bias else None

    def forward(self, x: Symbols) -> FrameScores:
        logits = self.weight[: x.shape[1]]
        if self.bias is not None:
            logits = logits + self.bias
        return logits.log_softmax(-1)[:, None].expand(-1, len(x), -1)


class SymbolModel(nn.Module):
    """The paper's feed-forward net: logits = W onehot(x_t) (+ b).

    Args:
        num_symbols: input symbols.
        num_labels: labels, blank included.
        bias: add logits shared by all symbols.
    """

    def __init__(self, num_symbols: int, num_labels: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_symbols, num_labels))
        self.bias = nn.Parameter(torch.zeros(num_labels)) if bias else None

    def forward(self, x: Symbols) -> FrameScores:
        logits = self.weight[x.t()]
        return (logits if self.bias is None else logits + self.bias).log_softmax(-1)


class SymbolOddsModel(nn.Module):
    """The paper's model-free case for one label: the log-odds of label 1 against blank 0, one number for each symbol.

    Args:
        num_symbols: input symbols.
    """

    def __init__(self, num_symbols: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_symbols))

    def forward(self, x: Symbols) -> FrameScores:
        odds = self.weight[x.t()]
        return torch.stack([torch.zeros_like(odds), odds], dim=-1).log_softmax(-1)


class SymbolLikelihood(nn.Module):
    """The generative table log p(x | label), normalised over symbols, for `GenerativeFullSumLoss`.

    Args:
        num_symbols: input symbols.
        num_labels: labels, blank included.
    """

    def __init__(self, num_symbols: int, num_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_symbols, num_labels))

    def forward(self, x: Symbols) -> FrameScores:
        return self.weight.log_softmax(0)[x.t()]


class BlstmModel(nn.Module):
    """One bidirectional LSTM layer over one-hot symbols and a linear layer; parameters uniform in +-0.01.

    Args:
        num_symbols: input symbols.
        num_labels: labels, blank included.
        hidden_size: units of each direction.
        generator: of the initial parameters.
    """

    def __init__(
        self, num_symbols: int, num_labels: int, hidden_size: int = 64, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.num_symbols = num_symbols
        self.lstm = nn.LSTM(num_symbols, hidden_size, bidirectional=True)
        self.out = nn.Linear(2 * hidden_size, num_labels)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01, generator=generator)

    def forward(self, x: Symbols) -> FrameScores:
        symbols = nn.functional.one_hot(x.t(), self.num_symbols).to(self.out.weight)
        return self.out(self.lstm(symbols)[0]).log_softmax(-1)
