"""Learning the teacher's decisions."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy


def hard_distillation_loss(
    logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    y: Int[Tensor, " batch"],
    *,
    weight: float = 0.5,
) -> Float[Tensor, ""]:
    """(1 - w) CE(y) + w CE(arg max teacher): the teacher's class as a second label (Touvron et al., 2021).

    The teacher must see the very images that the student sees, augmented alike, and be in evaluation mode.

    Args:
        logits: the student's.
        teacher_logits: the teacher's, without a graph.
        y: class indices.
        weight: w; 0 is learning from labels alone.

    Raises:
        ValueError: a weight outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be between 0 and 1, not {weight}")
    own, taught = cross_entropy(logits, y.long()), cross_entropy(logits, teacher_logits.argmax(1))
    return (1 - weight) * own + weight * taught
