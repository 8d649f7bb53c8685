"""Exact numbers of alignments, as Python integers of any size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from neurarium.speech.alignment._graph import AlignmentGraph


def count(graph: AlignmentGraph, frames: int | Sequence[int]) -> list[int]:
    """How many alignments each utterance of a graph has over a number of frames.

    Arc weights only say whether an arc exists. CTC gives C(T + U - R, 2U) for T frames, U labels and R equal
    neighbours; ten thousand frames take seconds.

    Args:
        graph: the alignments that count.
        frames: frames of all utterances, or one number for each.

    Raises:
        ValueError: frames below 1, or not one number for each utterance.
    """
    totals = []
    for b, length in enumerate(_frames(graph, frames)):
        arcs, start, final = _arcs(graph, b)
        for ways in _walk(arcs, start, length):
            last = ways
        totals.append(int((last * final).sum()))
    return totals


def label_counts(graph: AlignmentGraph, frames: int, labels: int, utterance: int = 0) -> np.ndarray:
    """How many alignments of an utterance emit label k in frame t: Python integers [frames, labels].

    Args:
        graph: the alignments that count.
        frames: number of frames.
        labels: number of labels, blank included.
        utterance: which one of the batch.

    Raises:
        ValueError: frames below 1.
    """
    _frames(graph, frames)
    arcs, start, final = _arcs(graph, utterance)
    ahead = list(_walk(arcs, start, frames))
    behind = list(_walk([(-d, _moved(exists, -d)) for d, exists in arcs], final, frames))[::-1]
    found = np.zeros((frames, labels), dtype=object)
    emit = graph.emit[utterance].tolist()
    for t in range(frames):
        for s, ways in enumerate(ahead[t] * behind[t]):
            found[t, emit[s]] += ways
    return found


def exact_occupation(graph: AlignmentGraph, frames: int, labels: int, utterance: int = 0) -> list[list[Fraction]]:
    """The soft alignment under uniform posteriors, q_t(k) = label_counts / count, as exact fractions [frames][labels].

    Raises:
        ValueError: the utterance has no alignment over so many frames.
    """
    counts = label_counts(graph, frames, labels, utterance)
    total = int(counts[0].sum())
    if total == 0:
        raise ValueError(f"utterance {utterance} has no alignment over {frames} frames")
    return [[Fraction(int(ways), total) for ways in row] for row in counts]


def _frames(graph: AlignmentGraph, frames: int | Sequence[int]) -> list[int]:
    each = [frames] * len(graph) if isinstance(frames, int) else [int(T) for T in frames]
    if len(each) != len(graph) or min(each) < 1:
        raise ValueError(f"frames must be one positive number, or {len(graph)} of them, not {frames}")
    return each


def _arcs(graph: AlignmentGraph, b: int) -> tuple[list[tuple[int, np.ndarray]], np.ndarray, np.ndarray]:
    """Bands, start and final of one utterance as objects 0 and 1."""

    def exists(weight: np.ndarray) -> np.ndarray:
        return (weight > -math.inf).astype(int).astype(object)

    weight, start, final = (w.detach().cpu().numpy() for w in (graph.weight[:, b], graph.start[b], graph.final[b]))
    return [(d, exists(w)) for d, w in zip(graph.offsets, weight)], exists(start), exists(final)


def _moved(ways: np.ndarray, offset: int) -> np.ndarray:
    out = np.zeros(len(ways), dtype=object)
    kept = max(0, len(ways) - abs(offset))
    ahead, behind = max(0, offset), max(0, -offset)
    out[ahead : ahead + kept] = ways[behind : behind + kept]
    return out


def _walk(arcs: list[tuple[int, np.ndarray]], start: np.ndarray, frames: int) -> Iterator[np.ndarray]:
    """Ways to be in each state after 1, 2, ... frames."""
    ways = start
    yield ways
    for _ in range(frames - 1):
        ways = sum((_moved(ways, d) * exists for d, exists in arcs), np.zeros(len(start), dtype=object))
        yield ways
