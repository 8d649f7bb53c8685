"""What the first step of training will do, from counting alignments: the paper's theory on your own targets.

With uniform posteriors the soft alignment q_t(k) is the share of alignments that emit k in frame t, and the gradient of
the full-sum loss with respect to the logits is p - q. So the label with more than its share of all alignments rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.speech._inputs import Targets, check_log_probs, check_targets, padded_targets, within
from neurarium.speech.alignment._graph import AlignmentGraph
from neurarium.speech.alignment._lattice import frame_lengths, occupation
from neurarium.speech.alignment._topology import Topology, alignment_graph


def uniform_alignment(
    topology: Topology, target: Sequence[int], frames: int, *, labels: int | None = None, blank: int = 0
) -> Float[Tensor, "frames labels"]:
    """q_t(k) of one target at uniform posteriors, in float64; `exact_occupation` gives it in fractions.

    Args:
        topology: ``ctc``, ``silence`` or ``labels``.
        target: the labels.
        frames: number of frames.
        labels: size of the label set, blank included; the largest label in use + 1 by default.
        blank: label of the blank or of the silence.

    Raises:
        ValueError: the target does not fit into the frames, or holds a label that does not exist.
    """
    labels = max([*target, blank]) + 1 if labels is None else labels
    padded, lengths = padded_targets([list(target)])
    check_targets(padded, lengths, labels, blank if topology != "labels" else None)
    uniform = torch.full((frames, 1, labels), -math.log(labels), dtype=torch.float64)
    found = occupation(uniform, alignment_graph(topology, padded, lengths, blank=blank))[:, 0]
    if not bool(found.any()):
        raise ValueError(f"the target of {len(target)} labels has no alignment over {frames} frames")
    return found


def blank_drift(topology: Topology, frames: int, labels: int) -> float:
    """How far the first step from uniform pushes the blank: mean over t of q_t(blank) - 1 / (labels + 1).

    For a target of ``labels`` different labels and as many classes plus blank; positive where blank will rise. It grows
    with frames / labels under CTC ("role of T/N").

    Raises:
        ValueError: fewer frames than labels, or a topology without blank.
    """
    if topology == "labels":
        raise ValueError("the topology 'labels' has no blank that could drift")
    q = uniform_alignment(topology, list(range(1, labels + 1)), frames)
    return float(q[:, 0].mean()) - 1 / (labels + 1)


@dataclass(frozen=True)
class FirstStep:
    """Where gradient descent pushes each label's mean log-odds, averaged over real frames and the batch.

    Args:
        labels_mean: mean posterior of each label now.
        uniform: mean over frames of q - 1/labels, as if the model were uniform: pure counting.
        current: mean over frames of q - p with the model's posteriors: minus the gradient of the full-sum loss.
        blank: label of the blank.
    """

    labels_mean: Float[Tensor, " labels"]
    uniform: Float[Tensor, " labels"]
    current: Float[Tensor, " labels"]
    blank: int

    def summary(self) -> str:
        """What counting predicts for the blank, and what happens now."""
        start, now = float(self.uniform[self.blank]), float(self.current[self.blank])
        return (
            f"at a uniform start blank {'rises' if start > 0 else 'falls'} ({start:+.3f} a frame); now it has "
            f"{float(self.labels_mean[self.blank]):.3f} of the mass and {'rises' if now > 0 else 'falls'} ({now:+.3g})"
        )

    def plot(self, ax: Any) -> Any:
        """Bars of both directions over the labels, on Matplotlib axes."""
        place = torch.arange(len(self.uniform)).numpy()
        ax.bar(place - 0.2, self.uniform.cpu().numpy(), width=0.4, label="uniform start")
        ax.bar(place + 0.2, self.current.cpu().numpy(), width=0.4, label="now")
        ax.axhline(0.0, color="black", linewidth=0.5)
        ax.set_xlabel("label")
        ax.set_ylabel("push on the log-odds per frame")
        ax.legend()
        return ax


@torch.no_grad()
def first_step(
    log_probs: Float[Tensor, "frames batch labels"],
    targets: Targets,
    input_lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
    target_lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
    *,
    topology: Topology = "ctc",
    blank: int = 0,
) -> FirstStep:
    """Run it on one batch of a user's model: which labels will full-sum training raise, from uniform and from here?

    Args:
        log_probs: log-softmax outputs of the model.
        targets: a list of label lists, padded [batch, labels], or one row.
        input_lengths: frames of each utterance; all by default.
        target_lengths: labels of each target.
        topology: ``ctc``, ``silence`` or ``labels``.
        blank: label of the blank or of the silence.

    Raises:
        ValueError: arguments do not fit together, or ``log_probs`` are not normalised.
    """
    labels = log_probs.shape[-1]
    lengths_of = None if target_lengths is None else torch.as_tensor(target_lengths)
    padded, lengths_of = padded_targets(targets, lengths_of)
    check_targets(padded, lengths_of, labels, blank if topology != "labels" else None)
    graph: AlignmentGraph = alignment_graph(topology, padded, lengths_of, blank=blank)
    lengths = frame_lengths(log_probs, graph, input_lengths)
    check_log_probs(log_probs, lengths)
    real = within(lengths, len(log_probs))[..., None]

    def mean(values: Tensor) -> Tensor:
        return torch.where(real, values, 0.0).sum((0, 1)) / lengths.sum()

    flat = torch.full_like(log_probs, -math.log(labels))
    p = mean(log_probs.exp())
    counted = mean(occupation(flat, graph, lengths))
    return FirstStep(p, counted - 1 / labels, mean(occupation(log_probs, graph, lengths)) - p, blank)
