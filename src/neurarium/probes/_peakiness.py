"""How peaky and how sharp frame posteriors are: two different things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class Peakiness(ProbeResult):
    """Peaky: over time one label has most frames. Sharp: within a frame one label has most of the mass.

    Args:
        blank_mass: mean posterior of the blank over all real frames.
        blank_argmax: share of real frames whose most probable label is the blank.
        entropy: mean entropy of a frame's posteriors in nats; small means sharp.
        frames_per_label: mean frames of an emitted label (a run of one non-blank argmax); NaN where none is emitted.
        over_time: mean posterior of the blank in each frame, over the utterances that have it.
    """

    blank_mass: float
    blank_argmax: float
    entropy: float
    frames_per_label: float
    over_time: Float[Tensor, " frames"]

    def summary(self) -> str:
        """The four numbers."""
        emitted = (
            "no label is emitted"
            if math.isnan(self.frames_per_label)
            else f"{self.frames_per_label:.2f} frames per emitted label"
        )
        return (
            f"blank has {self.blank_mass:.1%} of the mass and wins {self.blank_argmax:.1%} of the frames; "
            f"{emitted}; entropy {self.entropy:.3g} nats"
        )

    def plot(self, ax: Any) -> Any:
        """Mean blank posterior over time."""
        ax.plot(self.over_time.cpu().numpy())
        ax.set_xlabel("frame")
        ax.set_ylabel("mean posterior of blank")
        ax.set_ylim(0, 1)
        return ax


@torch.no_grad()
def peakiness(
    log_probs: Float[Tensor, "frames batch labels"],
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
    blank: int = 0,
) -> Peakiness:
    """Measure the frame posteriors of one batch (section 2).

    Args:
        log_probs: log-softmax outputs of any model, time first as for `torch.nn.CTCLoss`.
        lengths: frames of each utterance; all by default.
        blank: label of the blank.

    Raises:
        ValueError: shapes do not fit, ``blank`` is no label, or real frames are not log-softmax outputs.
    """
    if log_probs.dim() != 3 or 0 in log_probs.shape:
        raise ValueError(f"log_probs must be [frames, batch, labels], not {list(log_probs.shape)}")
    frames, batch, labels = log_probs.shape
    if not 0 <= blank < labels:
        raise ValueError(f"blank must be a label in 0..{labels - 1}, not {blank}")
    ends = torch.as_tensor([frames] * batch if lengths is None else lengths, device=log_probs.device)
    if ends.shape != (batch,) or int(ends.min()) < 1 or int(ends.max()) > frames:
        raise ValueError(f"lengths must be {batch} numbers in 1..{frames}, not {ends.tolist()}")
    real = torch.arange(frames, device=log_probs.device)[:, None] < ends
    total = log_probs.logsumexp(-1)[real]
    if not bool((total.abs() <= 1e-3).all()):
        raise ValueError("log_probs must be log-softmax outputs: some real frame does not sum to 1")
    p = torch.where(real[..., None], log_probs.exp(), 0.0)
    entropy = -torch.special.xlogy(p, p).sum(-1)[real].mean()
    best = torch.where(real, log_probs.argmax(-1), blank)
    emitting = best != blank
    fresh = emitting.clone()
    fresh[1:] &= best[1:] != best[:-1]
    emitted = int(fresh.sum())
    return Peakiness(
        blank_mass=float(p[..., blank].sum() / ends.sum()),
        blank_argmax=float((best == blank)[real].float().mean()),
        entropy=float(entropy),
        frames_per_label=int(emitting.sum()) / emitted if emitted else float("nan"),
        over_time=p[..., blank].sum(1) / real.sum(1).clamp_min(1),
    )
