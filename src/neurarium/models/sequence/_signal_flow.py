"""BriLLM: a signal flows from token to token, and the next token is where it arrives with the greatest energy.

Zhao et al., 2025 (arXiv 2503.11299). Tokens are the nodes of a graph, ordered pairs of them its edges, each with a
matrix; there is no embedding, no read-out and no attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

from neurarium.layers import EdgeMatrices, SharedEdges, sinusoidal_positions

Memory = Literal["chain", "mixture"]
Places = Literal["sinusoidal", "released"]


@dataclass(frozen=True)
class SignalState:
    """Where a signal is, and what it remembers.

    Args:
        signals: one vector for each example ("chain"), or all of them so far ("mixture").
        token: the node where it is.
        place: of that token.
    """

    signals: Float[Tensor, "batch kept width"]
    token: Int[Tensor, " batch"]
    place: int


class SignalFlowLanguageModel(nn.Module):
    """Energies of all next tokens, as logits.

    At token u the signal e goes to every v: ``E_v = gelu(e W_uv + b_uv + PE)``; its energy ||E_v|| is the logit of v,
    and E of the token that follows is the signal that flows on. It starts as ``gelu(1/width + n_u + PE_0)``.

    Args:
        num_tokens: size of the vocabulary; there are its square of edges.
        width: of the signal.
        memory: what flows on: the last signal ("chain", as in the paper's equations) or the mean of all so far,
            weighted by a softmax over learned weights of their places ("mixture", as in the released code).
        positions: sines and cosines added at every step; "released" with the exponents of the released code, whose sign
            is reversed; None for no positions.
        edges: which edges have a matrix of their own; all by default.
        negatives: in training, the tokens that compete with the true one: that many drawn at random, or a table
            [num_tokens, k] of those for each token; others have a logit of -inf then. All by default and in evaluation.
        max_length: longest sequence where positions or the mixture need one.

    Raises:
        ValueError: fewer than 2 tokens, a size below 1, an odd width with positions, an unknown memory or positions, or
            ``negatives`` out of range.
    """

    def __init__(
        self,
        num_tokens: int,
        width: int = 32,
        *,
        memory: Memory = "chain",
        positions: Places | None = "sinusoidal",
        edges: SharedEdges | None = None,
        negatives: int | Int[Tensor, "num_tokens k"] | None = None,
        max_length: int = 512,
    ) -> None:
        super().__init__()
        if num_tokens < 2 or min(width, max_length) < 1:
            raise ValueError("num_tokens must be at least 2, width and max_length at least 1")
        if memory not in get_args(Memory):
            raise ValueError(f"memory must be one of {', '.join(get_args(Memory))}, not {memory!r}")
        if positions is not None and positions not in get_args(Places):
            raise ValueError(f"positions must be None or one of {', '.join(get_args(Places))}, not {positions!r}")
        if positions is not None and width % 2:
            raise ValueError(f"width must be even where there are positions, not {width}")
        if isinstance(negatives, int) and not 1 <= negatives < num_tokens:
            raise ValueError(f"negatives must be between 1 and {num_tokens - 1}, not {negatives}")
        if isinstance(negatives, Tensor) and (negatives.dim() != 2 or len(negatives) != num_tokens):
            raise ValueError(f"negatives must have a row for each of {num_tokens} tokens, not {list(negatives.shape)}")
        self.width, self.memory, self.positions, self.max_length = width, memory, positions, max_length
        self.edges = EdgeMatrices(num_tokens, width, edges)
        self.nodes = nn.Parameter(torch.empty(num_tokens, width).uniform_(-0.5, 0.5))
        if memory == "mixture":
            self.place_weights = nn.Parameter(torch.ones(max_length))
        self.negatives = negatives if isinstance(negatives, int) else None
        self.register_buffer("rivals", negatives if isinstance(negatives, Tensor) else None)
        self.rivals: Tensor | None

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary."""
        return self.edges.nodes

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length num_tokens"]:
        """Energies of the next token at each position."""
        length = tokens.shape[1]
        self._check(length)
        waves, block = self._waves(length + 1), None
        competing = self.training and (self.negatives is not None or self.rivals is not None)
        if not competing:
            block = self.edges.block_matrix()
        signals = [self._start(tokens[:, 0], waves)]
        logits = []
        for i in range(length):
            source, following = tokens[:, i], tokens[:, i + 1] if i + 1 < length else None
            candidates = self._candidates(source, following) if competing and following is not None else None
            sent = self.edges(self._remembered(signals), source, candidates, block)
            arrived = gelu(sent + waves[i + 1] if waves is not None else sent)
            energy = arrived.norm(dim=-1)
            if candidates is not None and following is not None:
                place = candidates.clone()
                place[:, 1:][candidates[:, 1:] == following[:, None]] = self.num_tokens  # there already: cut off
                empty = energy.new_full((len(tokens), self.num_tokens + 1), -torch.inf)
                energy = empty.scatter(1, place, energy)[:, :-1]
                signals.append(arrived[:, 0])
            elif following is not None:
                signals.append(arrived[torch.arange(len(tokens), device=tokens.device), following])
            logits.append(energy)
        return torch.stack(logits, 1)

    def advance(
        self, token: Int[Tensor, " batch"], state: SignalState | None = None
    ) -> tuple[Float[Tensor, "batch num_tokens"], SignalState]:
        """Energies of the tokens after ``token``, and the state there; a chain's state does not grow.

        Args:
            token: the next token of each sequence.
            state: what the step before gave; None for the first token.
        """
        place = 0 if state is None else state.place + 1
        self._check(place + 1)
        waves = self._waves(place + 2)
        if state is None:
            signals = [self._start(token, waves)]
        else:
            signals = list(state.signals.unbind(1))
            sent = self.edges(self._remembered(signals), state.token, token[:, None])[:, 0]
            new = gelu(sent + waves[place] if waves is not None else sent)
            signals = [*signals, new] if self.memory == "mixture" else [new]
        sent = self.edges(self._remembered(signals), token)
        energies = gelu(sent + waves[place + 1] if waves is not None else sent).norm(dim=-1)
        return energies, SignalState(torch.stack(signals, 1), token, place)

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "batch length"],
        count: int,
        *,
        generator: torch.Generator | None = None,
        self_loops: bool = True,
    ) -> Int[Tensor, "batch longer"]:
        """Continue sequences by ``count`` tokens, drawn by the softmax of the energies.

        Args:
            tokens: at least one token in each.
            count: tokens to add.
            generator: source of the draws.
            self_loops: let a token follow itself, which the released decoder never does.

        Raises:
            ValueError: there is no token to go on from.
        """
        if tokens.shape[1] < 1:
            raise ValueError("give at least one token to go on from")
        state: SignalState | None = None
        for token in tokens.unbind(1):
            energies, state = self.advance(token, state)
        for _ in range(count):
            if not self_loops:
                energies = energies.scatter(1, tokens[:, -1:], -torch.inf)
            token = torch.multinomial(energies.softmax(-1), 1, generator=generator)[:, 0]
            tokens = torch.cat([tokens, token[:, None]], 1)
            energies, state = self.advance(token, state)
        return tokens

    def log_probability(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Of each sequence, given its first token."""
        said = self(tokens[:, :-1]).log_softmax(-1)
        return said.gather(-1, tokens[:, 1:, None])[..., 0].sum(-1)

    def add_tokens(self, count: int, generator: torch.Generator | None = None) -> None:
        """Append tokens to the vocabulary; edges and nodes that are there stay as they are. Make optimizers anew.

        Args:
            count: tokens to add.
            generator: of the new numbers.

        Raises:
            ValueError: ``count`` is below 1, or there is a table of negatives.
        """
        if self.rivals is not None:
            raise ValueError("the table of negatives knows no new tokens; make the model with a number of them")
        self.edges.add_nodes(count, generator)
        new = torch.rand(count, self.width, generator=generator) - 0.5
        self.nodes = nn.Parameter(torch.cat([self.nodes.detach(), new.to(self.nodes)]), self.nodes.requires_grad)

    def _check(self, length: int) -> None:
        if length > self.max_length and (self.positions is not None or self.memory == "mixture"):
            raise ValueError(f"tokens have length {length}, but max_length is {self.max_length}")

    def _start(self, token: Tensor, waves: Tensor | None) -> Tensor:
        begin = self.nodes[token] + 1 / self.width
        return gelu(begin + waves[0] if waves is not None else begin)

    def _remembered(self, signals: list[Tensor]) -> Tensor:
        """The signal that flows on."""
        if self.memory == "chain" or len(signals) == 1:
            return signals[-1]
        shares = self.place_weights[: len(signals)].softmax(0)
        return (torch.stack(signals, -1) * shares).sum(-1)

    def _waves(self, length: int) -> Tensor | None:
        if self.positions is None:
            return None
        longest = 10_000.0 if self.positions == "sinusoidal" else 1e-4
        wide = torch.promote_types(self.nodes.dtype, torch.float32)
        places = torch.arange(length, device=self.nodes.device, dtype=wide)
        return sinusoidal_positions(places, self.width, longest).to(self.nodes.dtype)

    def _candidates(self, source: Tensor, following: Tensor) -> Tensor:
        """The true token, and those that compete with it (the true one may be among them again)."""
        if self.rivals is not None:
            others = self.rivals[source]
        else:
            luck = torch.rand(len(source), self.num_tokens, device=source.device)
            others = luck.scatter(1, following[:, None], -1.0).topk(self.negatives or 1, -1).indices
        return torch.cat([following[:, None], others], 1)


def edge_counts(tokens: Int[Tensor, " tokens"], num_tokens: int) -> Int[Tensor, "num_tokens num_tokens"]:
    """How often each token (column) follows each token (row) in a text.

    Args:
        tokens: the text.
        num_tokens: size of the vocabulary.

    Raises:
        ValueError: a token lies outside the vocabulary.
    """
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < num_tokens:
        raise ValueError(f"tokens must lie between 0 and {num_tokens - 1}")
    pairs = tokens[:-1] * num_tokens + tokens[1:]
    return torch.bincount(pairs, minlength=num_tokens**2).view(num_tokens, num_tokens)


def frequent_successors(counts: Int[Tensor, "num_tokens num_tokens"], k: int) -> Int[Tensor, "num_tokens k"]:
    """The ``k`` tokens that follow each token most often, for `SignalFlowLanguageModel`'s ``negatives``."""
    return counts.topk(k, -1).indices
