"""Label topologies as alignment graphs: CTC, optional silence, and labels only."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.speech._inputs import Targets, padded_targets, within
from neurarium.speech.alignment._graph import AlignmentGraph

Topology = Literal["ctc", "silence", "labels"]


def alignment_graph(
    topology: Topology,
    targets: Targets,
    target_lengths: Tensor | None = None,
    *,
    blank: int = 0,
    separator: int | None = None,
) -> AlignmentGraph:
    """The graph of a topology by name: `ctc_graph`, `silence_graph` (``blank`` is the silence) or `label_loop_graph`.

    Raises:
        ValueError: no such topology.
    """
    if topology == "ctc":
        return ctc_graph(targets, target_lengths, blank=blank)
    if topology == "silence":
        return silence_graph(targets, target_lengths, silence=blank, separator=separator)
    if topology == "labels":
        return label_loop_graph(targets, target_lengths)
    raise ValueError(f"topology must be 'ctc', 'silence' or 'labels', not {topology!r}")


def ctc_graph(
    targets: Targets,
    target_lengths: Tensor | None = None,
    *,
    blank: int = 0,
    blank_loop: float | Tensor = 0.0,
    self_loop: float | Tensor = 0.0,
    max_repeats: int | None = None,
    optional_blank: bool = True,
    start_free: bool = False,
) -> AlignmentGraph:
    """Connectionist temporal classification: labels repeat, blanks are optional except between equal neighbours.

    States are blank, label, blank, label, ..., blank: label u is state 2u + 1. With ``max_repeats`` a label is a chain
    of ``max_repeats + 1`` states, each of which may go on to the following blank or (different) label, so that a label
    lasts at most that many frames; the states are (max_repeats + 2) * labels + 1. Weighted or cut graphs are not
    renormalised: the full-sum loss is then an upper bound of the CTC loss.

    Args:
        targets: a list of label lists, or padded [batch, labels], or one row; see `padded_targets`.
        target_lengths: labels of each utterance.
        blank: the label that stands for nothing.
        blank_loop: log-weight of staying in a blank.
        self_loop: log-weight of staying in a label (-penalty). A tensor that requires grad gets the expected number of
            such steps as gradient of `full_sum`, negative.
        max_repeats: most frames after its first that a label may last; None for no limit.
        optional_blank: False asks for a blank between any two labels, equal or not.
        start_free: an alignment may begin at any label, or the blank before it: the frames hold the end of the target,
            all of it or less.

    Raises:
        ValueError: ``max_repeats`` is negative or the targets are malformed.
    """
    if max_repeats is not None and max_repeats < 0:
        raise ValueError(f"max_repeats must be at least 0, not {max_repeats}")
    padded, lengths = padded_targets(targets, target_lengths)
    copies = 1 if max_repeats is None else max_repeats + 1
    layout = _Layout(padded, lengths, blank, copies)
    different = torch.ones_like(padded, dtype=torch.bool)
    different[:, 1:] = (padded[:, 1:] != padded[:, :-1]) & optional_blank
    stay, go, never = torch.as_tensor(self_loop), torch.zeros(()), torch.tensor(-math.inf)
    kind = stay.dtype if stay.is_floating_point() else torch.float32
    loop = stay if max_repeats is None else never  # a chain is left or walked, never waited in
    bands = [torch.where(layout.blank, torch.as_tensor(blank_loop), loop).expand(len(padded), -1)]
    bands.append(torch.where(layout.first | layout.blank, go, stay).expand(len(padded), -1))
    for d in range(2, copies + 2):
        to_label = layout.first & layout.spread(different)
        to_blank = layout.blank & (d <= copies) & layout.after_label
        bands.append(torch.where(to_label | to_blank, go, never))
    weight = torch.stack([band.to(kind) for band in bands])
    start = layout.start
    if start_free:
        ended = torch.arange(start.shape[1], device=start.device) > layout.last
        start = torch.zeros_like(start).masked_fill(~(layout.blank | layout.first) | ended, -math.inf)
    return AlignmentGraph(layout.emit, tuple(range(copies + 2)), weight, start, layout.final)


def silence_graph(
    targets: Targets, target_lengths: Tensor | None = None, *, silence: int = 0, separator: int | None = None
) -> AlignmentGraph:
    """Labels that repeat, with optional silence at the start, at the end and between words, not inside a word.

    Args:
        targets: a list of label lists, or padded [batch, labels], or one row.
        target_lengths: labels of each utterance.
        silence: label of the silence.
        separator: label that stands between words in ``targets`` (a space, say); silence is allowed there, and it is
            not emitted itself. None takes each target as one word.

    Raises:
        ValueError: the targets are malformed.
    """
    padded, lengths = padded_targets(targets, target_lengths)
    border = torch.zeros_like(padded, dtype=torch.bool)
    if separator is not None:
        kept = within(lengths, padded.shape[1]).t() & (padded != separator)
        border[:, :-1] = padded[:, 1:] == separator
        order = (~kept).int().argsort(dim=1, stable=True)
        padded, border, lengths = padded.gather(1, order), border.gather(1, order), kept.sum(1)
    border |= torch.arange(padded.shape[1], device=padded.device) == (lengths - 1)[:, None]
    layout = _Layout(padded, lengths, silence, copies=1)
    go, never = torch.zeros(()), torch.tensor(-math.inf)
    loop = torch.zeros_like(layout.start)
    step = torch.where(layout.first | layout.spread(border), go, never)
    skip = torch.where(layout.first & layout.spread(torch.ones_like(border)), go, never)
    return AlignmentGraph(layout.emit, (0, 1, 2), torch.stack([loop, step, skip]), layout.start, layout.final)


def label_loop_graph(targets: Targets, target_lengths: Tensor | None = None) -> AlignmentGraph:
    """Labels that repeat, and nothing between them. Equal neighbours are two states, each for at least one frame.

    Raises:
        ValueError: an utterance has no label.
    """
    padded, lengths = padded_targets(targets, target_lengths)
    if int(lengths.min()) < 1:
        raise ValueError(f"utterance {int(lengths.argmin())} has no label, which no frame could be aligned with")
    place = torch.arange(padded.shape[1], device=padded.device)
    end = torch.where(place == (lengths - 1)[:, None], 0.0, -math.inf)
    start = torch.where(place == 0, 0.0, -math.inf).expand_as(end)
    emit = torch.where(place < lengths[:, None], padded, 0)
    return AlignmentGraph(emit, (0, 1), torch.zeros(2, *padded.shape, device=padded.device), start, end)


class _Layout:
    """States blank, label, blank, label, ..., blank, where a label is a chain of ``copies`` states.

    ``blank``, ``first`` and ``after_label`` are masks over states: blanks, first copies, blanks that follow a label;
    ``last`` is each utterance's last state.
    """

    def __init__(self, targets: Int[Tensor, "batch labels"], lengths: Tensor, blank: int, copies: int) -> None:
        batch, most = targets.shape
        self.size = copies + 1
        state = torch.arange(self.size * most + 1, device=targets.device)
        role = (state - 1) % self.size  # place in the chain; the blank after it comes last
        self.blank = role == copies
        self.first = (role == 0) & (state > 0)
        self.after_label = self.blank & (state > 0)
        self.last = last = self.size * lengths[:, None]  # the blank after the last label
        filled = self.spread(torch.where(within(lengths, most).t(), targets, blank), blank)
        self.emit = torch.where(self.blank, blank, filled)
        never = torch.full((batch, len(state)), -math.inf, device=targets.device)
        self.start = never.masked_fill(state <= 1, 0.0)
        self.final = never.masked_fill((state <= last) & (state >= last - copies) & (state >= 0), 0.0)

    def spread(self, values: Tensor, opening: int | bool = False) -> Tensor:
        """A value of each label, given to its copies and to the blank after it; ``opening`` for the first blank."""
        edge = values.new_full((len(values), 1), opening)
        return torch.cat([edge, values.repeat_interleave(self.size, dim=1)], dim=1)
