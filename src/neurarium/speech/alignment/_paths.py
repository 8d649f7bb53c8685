"""Single alignments from the lattice: the best one, random ones, and how short one can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.speech._inputs import within
from neurarium.speech.alignment._graph import AlignmentGraph
from neurarium.speech.alignment._lattice import emitted, frame_lengths, sweep, total_score

PAD = -1


class Paths(NamedTuple):
    """Alignments of a batch; the leading dimension ``n`` of `sample` is missing from `viterbi`.

    Args:
        labels: emitted label of each frame [n, batch, frames], -1 after an utterance's end.
        states: state of the graph in each frame [n, batch, frames], -1 after an utterance's end.
        scores: log score of each alignment [n, batch]: frame scores and arc weights.
    """

    labels: Int[Tensor, "*n batch frames"]
    states: Int[Tensor, "*n batch frames"]
    scores: Float[Tensor, "*n batch"]


@torch.no_grad()
def viterbi(
    log_probs: Float[Tensor, "frames batch labels"],
    graph: AlignmentGraph,
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
) -> Paths:
    """The best alignment of each utterance. Ties go to the arc that was listed first (staying, in CTC).

    Its labels, states and score (-inf, with arbitrary labels, where no alignment has mass). Arguments as in
    `neurarium.speech.full_sum`.
    """
    lengths = frame_lengths(log_probs, graph, lengths)
    graph = graph.to(log_probs)
    scores = emitted(log_probs, graph)
    arrived = sweep(scores, graph, torch.maximum)
    paths = _trace(arrived, scores, graph, lengths, 1, lambda logits: logits.argmax(-1))
    return Paths(*(part[0] for part in paths))


@torch.no_grad()
def sample(
    log_probs: Float[Tensor, "frames batch labels"],
    graph: AlignmentGraph,
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
    n: int = 1,
    generator: torch.Generator | None = None,
) -> Paths:
    """``n`` independent alignments of each utterance, each drawn with its share of the mass.

    Args:
        log_probs: score of each label in each frame; see `neurarium.speech.full_sum`.
        graph: the alignments that count.
        lengths: frames of each utterance; all by default.
        n: alignments for each utterance.
        generator: of the draws, which are made on its device; torch's own, on that of ``log_probs``, by default.

    Raises:
        ValueError: an utterance has no alignment (named), or ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    lengths = frame_lengths(log_probs, graph, lengths)
    graph = graph.to(log_probs)
    scores = emitted(log_probs, graph)
    arrived = sweep(scores, graph)
    impossible = total_score(arrived, scores, graph, lengths)[0].isinf()
    if bool(impossible.any()):
        raise ValueError(f"utterance {int(impossible.nonzero()[0])} has no alignment to sample")

    def draw(logits: Tensor) -> Tensor:
        share = logits.masked_fill(logits.isneginf().all(-1, keepdim=True), 0.0).softmax(-1)  # padded frames
        place = share.device if generator is None else generator.device
        drawn = torch.multinomial(share.flatten(0, -2).to(place), 1, generator=generator)
        return drawn.to(share.device).view(logits.shape[:-1])

    return _trace(arrived, scores, graph, lengths, n, draw)


def _trace(
    arrived: Tensor,
    scores: Tensor,
    graph: AlignmentGraph,
    lengths: Tensor,
    n: int,
    choose: Callable[[Tensor], Tensor],
) -> Paths:
    """Walk from each utterance's last frame to its first; ``choose`` picks one of the last dimension of log masses."""
    frames, states, batch = scores.shape
    offsets = torch.tensor(graph.offsets, device=scores.device)
    row = torch.arange(batch, device=scores.device)
    reached = (arrived + scores).transpose(1, 2)  # frames, batch, states
    _, ends = total_score(arrived, scores, graph, lengths)
    last = choose(ends.t().expand(n, batch, states).contiguous())
    total = graph.final[row, last]
    state, walked = last, []
    for t in range(frames - 1, -1, -1):
        state = torch.where(lengths == t + 1, last, state)
        inside = lengths > t
        walked.append(torch.where(inside, state, PAD))
        total = total + torch.where(inside, scores[t, state, row], 0.0)
        if t == 0:
            total = total + graph.start[row, state]
            break
        origin = state[..., None] - offsets
        possible = (origin >= 0) & (origin < states)
        origin = origin.clamp(0, states - 1)
        weight = _into(graph.weight, state)
        way = torch.where(possible, reached[t - 1][row[:, None], origin] + weight, -math.inf)
        band = choose(way)[..., None]
        total = total + torch.where(inside, weight.gather(-1, band)[..., 0], 0.0)
        state = torch.where(inside, origin.gather(-1, band)[..., 0], state)
    path = torch.stack(walked[::-1], dim=-1)
    labels = graph.emit.expand(n, batch, states).gather(2, path.clamp_min(0)).masked_fill(path == PAD, PAD)
    return Paths(labels, path, total)


def _into(weight: Float[Tensor, "bands batch states"], state: Int[Tensor, "n batch"]) -> Float[Tensor, "n batch bands"]:
    """Weights of the arcs into a state of each utterance."""
    return weight.permute(1, 2, 0)[torch.arange(weight.shape[1], device=weight.device), state]


def best_path_loss(
    log_probs: Float[Tensor, "frames batch labels"],
    graph: AlignmentGraph,
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
) -> Float[Tensor, " batch"]:
    """Minus the score of the best alignment (L_max, Viterbi training); its gradient is minus that alignment, one-hot.

    An utterance without any alignment gives inf and a zero gradient. Arguments as in `neurarium.speech.full_sum`.
    """
    lengths = frame_lengths(log_probs, graph, lengths)
    best = viterbi(log_probs.detach(), graph, lengths)
    taken = log_probs.gather(2, best.labels.clamp_min(0).t()[..., None])[..., 0]
    inside = within(lengths, len(log_probs)) & ~best.scores.isinf()
    walked = torch.where(inside, taken, 0.0).sum(0)
    return -(walked + (best.scores - walked.detach()))


@torch.no_grad()
def shortest(graph: AlignmentGraph) -> Int[Tensor, " batch"]:
    """Frames of the shortest alignment of each utterance; ``states + 1`` where there is none."""
    silent = graph.start.new_zeros(graph.states, graph.states, len(graph))
    fits = ((sweep(silent, graph, torch.maximum) + graph.final.t()) > -math.inf).any(1)
    frames = torch.arange(1, graph.states + 1, device=fits.device)[:, None]
    return torch.where(fits, frames, graph.states + 1).amin(0)
