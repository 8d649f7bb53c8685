"""The alignment lattice: sums over all ways in which a target can be laid along the frames.

An `AlignmentGraph` holds, for every utterance of a batch, the states that emit one label a frame and the weighted arcs
between them. An alignment is a walk of one state a frame; its score adds the frame scores of the emitted labels and the
weights of the arcs. `full_sum` is minus the log of the summed exponential scores (on CTC's graph the CTC loss),
`occupation` the share of that mass that emits a label in a frame (the soft, Baum-Welch alignment). `viterbi` and
`sample` are in ``_paths``, exact counts in ``_counting``.

Arcs are kept by how far they lead: one band of weights for each difference of state numbers. A step in time is then a
few shifted adds over all utterances and states at once; CTC has three bands. The pass from the end is the pass from the
start over the reversed graph, so both run side by side as one batch of twice the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurarium.speech.alignment._graph import AlignmentGraph, shifted

Bands = list[tuple[int, Tensor | None]]
Combine = Callable[..., Tensor]


def frame_lengths(log_probs: Tensor, graph: AlignmentGraph, lengths: Tensor | Sequence[int] | None) -> Tensor:
    """Checked lengths of a batch of scores ``[frames, batch, labels]``; all frames by default.

    Raises:
        ValueError: shapes do not fit, a length is outside 1..frames, or the graph emits a label that has no score.
    """
    if log_probs.dim() != 3 or log_probs.shape[1] != len(graph):
        raise ValueError(f"log_probs must be [frames, {len(graph)}, labels], not {list(log_probs.shape)}")
    frames, batch, labels = log_probs.shape
    if lengths is None:
        lengths = torch.full((batch,), frames)
    lengths = torch.as_tensor(lengths, device=log_probs.device).long()
    if lengths.shape != (batch,) or int(lengths.min()) < 1 or int(lengths.max()) > frames:
        raise ValueError(f"lengths must be {batch} numbers in 1..{frames}, not {lengths.tolist()}")
    if int(graph.emit.min()) < 0 or int(graph.emit.max()) >= labels:
        raise ValueError(f"the graph emits label {int(graph.emit.max())}, log_probs has labels 0..{labels - 1}")
    return lengths


def emitted(log_probs: Tensor, graph: AlignmentGraph) -> Float[Tensor, "frames states batch"]:
    """The score of each state in each frame. States before batch, so that a shift by states is one block of memory."""
    frames, batch, _ = log_probs.shape
    index = graph.emit.t()[None].expand(frames, graph.states, batch)
    return log_probs.transpose(1, 2).gather(1, index)


def sweep(
    scores: Float[Tensor, "frames states batch"],
    graph: AlignmentGraph,
    combine: Combine = torch.logaddexp,
    begin: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "frames states batch"]:
    """What arrives in each state before its own frame score is added, from the start of time.

    Nothing is ever subtracted, so a score of -inf stays -inf and never turns into NaN.

    Args:
        scores: frame scores of the states.
        graph: of as many utterances; same device and type as ``scores``.
        combine: how ways into a state join: `torch.logaddexp` sums them, `torch.maximum` keeps the best.
        begin: frame in which each utterance begins, 0 by default; before it all states hold -inf.
    """
    _, states, batch = scores.shape
    bands = _bands(graph)
    before = max(0, *graph.offsets)
    here = scores.new_full((before + states + max(0, *(-d for d in graph.offsets)), batch), -math.inf)
    inner = here[before : before + states]
    ways = [(here[before - d : before - d + states], weight) for d, weight in bands]
    (first, first_weight), rest = ways[0], ways[1:]
    arrived, weighted = torch.empty_like(scores), torch.empty_like(inner)
    starts: dict[int, Tensor] = {0: torch.arange(batch, device=scores.device)}
    if begin is not None:
        starts = {int(t): (begin == t).nonzero()[:, 0] for t in begin.unique()}
    for t, (into, score) in enumerate(zip(arrived.unbind(), scores.unbind())):
        total = first if first_weight is None else torch.add(first, first_weight, out=into)
        for way, weight in rest:
            total = combine(total, way if weight is None else torch.add(way, weight, out=weighted), out=into)
        if total is first:
            into.copy_(first)
        if t in starts:
            into[:, starts[t]] = graph.start[starts[t]].t()
        torch.add(into, score, out=inner)
    return arrived


def _bands(graph: AlignmentGraph) -> Bands:
    """Offset and weights ``[states, batch]`` of each band, None where all are 0; the weightless ones first."""
    bands = [(d, w.t().contiguous()) for d, w in zip(graph.offsets, graph.weight)]
    plain: Bands = [(d, None) for d, w in bands if not w.any()]
    return plain + [(d, w) for d, w in bands if w.any()]


def total_score(
    arrived: Tensor, scores: Tensor, graph: AlignmentGraph, lengths: Tensor
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "states batch"]]:
    """Log of the mass of all alignments, and the mass that ends in each state after the last frame."""
    last = (lengths - 1)[None, None].expand(1, *arrived.shape[1:])
    ends = arrived.gather(0, last)[0] + scores.gather(0, last)[0] + graph.final.t()
    return ends.logsumexp(0), ends


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Result of both passes: log of the total mass [batch], state occupations and expected arc uses."""

    total: Tensor
    states: Tensor
    arcs: Tensor | None


def _posterior(log_probs: Tensor, graph: AlignmentGraph, lengths: Tensor, arcs: bool = False) -> _Posterior:
    frames, batch, _ = log_probs.shape
    scores = emitted(log_probs, graph)
    time = torch.arange(frames, device=log_probs.device)[:, None]
    back = graph.reversed()
    both = AlignmentGraph(
        torch.cat([graph.emit, back.emit]),
        graph.offsets,
        torch.cat([graph.weight, back.weight], dim=1),
        torch.cat([graph.start, back.start]),
        torch.cat([graph.final, back.final]),
    )
    begin = torch.cat([torch.zeros_like(lengths), frames - lengths])  # a reversed utterance begins with its padding
    arrived = sweep(torch.cat([scores, scores.flip(0, 1)], dim=2), both, begin=begin)
    ahead, behind = arrived[..., :batch], arrived[..., batch:].flip(0, 1)
    total, _ = total_score(ahead, scores, graph, lengths)
    finite = total.masked_fill(total.isinf(), 0.0)  # no alignment at all: every occupation is exp(-inf) = 0
    padded = (time >= lengths)[:, None]
    behind = behind + scores - finite
    occupied = (ahead + behind).masked_fill_(padded, -math.inf).exp_()
    uses = None
    if arcs:
        here = (ahead + scores)[:-1].transpose(1, 2)
        onward = behind.masked_fill(padded, -math.inf)[1:].transpose(1, 2)
        ways = [shifted(here, d) + w + onward for d, w in zip(graph.offsets, graph.weight)]
        uses = torch.stack([way.exp().sum(0) for way in ways])
    return _Posterior(total, occupied, uses)


def _by_label(occupied: Tensor, graph: AlignmentGraph, labels: int) -> Float[Tensor, "frames batch labels"]:
    frames, states, batch = occupied.shape
    index = graph.emit.t()[None].expand(frames, states, batch)
    return occupied.new_zeros(frames, labels, batch).scatter_add_(1, index, occupied).transpose(1, 2)


class _FullSum(torch.autograd.Function):
    """Minus the log mass; the gradient is found with the value, so nothing of size frames x states is kept."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, weight: Tensor, graph: AlignmentGraph, lengths: Tensor) -> Tensor:
        ctx.arcs = weight.requires_grad
        found = _posterior(log_probs, graph, lengths, arcs=ctx.arcs)
        ctx.save_for_backward(_by_label(found.states, graph, log_probs.shape[2]), found.arcs)
        return -found.total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        occupied, uses = ctx.saved_tensors
        # An utterance without alignments has loss inf; whatever factor arrives (0, inf, NaN), its gradient stays 0.
        by_label = torch.where(occupied > 0, -occupied * grad[:, None], 0.0)
        by_arc = torch.where(uses > 0, -uses * grad[:, None], 0.0) if ctx.arcs else None
        return by_label, by_arc, None, None


def full_sum(
    log_probs: Float[Tensor, "frames batch labels"],
    graph: AlignmentGraph,
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
) -> Float[Tensor, " batch"]:
    """-log sum over alignments of exp(score), one value for each utterance (L_sum, section 3).

    Differentiable in ``log_probs`` (gradient: minus the occupation) and in ``graph.weight`` (minus the expected number
    of uses of each arc), once. An utterance without any alignment gives inf and a zero gradient. The scores need not be
    normalised. Half precision is computed in float32.

    Args:
        log_probs: score of each label in each frame, in natural logarithms.
        graph: the alignments that count.
        lengths: frames of each utterance; all by default.

    Raises:
        ValueError: shapes, lengths and labels do not fit together.
    """
    lengths = frame_lengths(log_probs, graph, lengths)
    scores = log_probs.float() if log_probs.dtype in (torch.float16, torch.bfloat16) else log_probs
    graph = graph.to(scores)
    if torch.is_grad_enabled() and (scores.requires_grad or graph.weight.requires_grad):
        return _FullSum.apply(scores, graph.weight, graph, lengths)
    states = emitted(scores, graph)
    return -total_score(sweep(states, graph), states, graph, lengths)[0]


@torch.no_grad()
def occupation(
    log_probs: Float[Tensor, "frames batch labels"],
    graph: AlignmentGraph,
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
) -> Float[Tensor, "frames batch labels"]:
    """q[t, b, k]: mass of the alignments that emit label k in frame t over the mass of all (the soft alignment).

    Rows sum to 1, and to 0 after an utterance's end and where it has no alignment. Arguments as in `full_sum`.
    """
    lengths = frame_lengths(log_probs, graph, lengths)
    scores = log_probs.float() if log_probs.dtype in (torch.float16, torch.bfloat16) else log_probs
    graph = graph.to(scores)
    return _by_label(_posterior(scores, graph, lengths).states, graph, scores.shape[2])
