"""Learning from another network's predictions."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div


def distillation_loss(
    logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    y: Int[Tensor, " batch"],
    *,
    temperature: float = 4.0,
    weight: float = 0.5,
) -> Float[Tensor, ""]:
    """(1 - w) CE(y, p) + w T² KL(softmax(teacher / T) ‖ softmax(p / T)) (Hinton et al., 2015).

    Args:
        logits: the student's.
        teacher_logits: the teacher's, without a graph.
        y: class indices.
        temperature: T; higher shows more of how the teacher ranks the wrong classes.
        weight: w; 0 is learning from labels alone.

    Raises:
        ValueError: a temperature that is not positive or a weight outside [0, 1].
    """
    if temperature <= 0 or not 0 <= weight <= 1:
        raise ValueError(
            f"temperature must be positive and weight between 0 and 1, not {temperature} and {weight}"
        )  # fmt: skip
    soft = (teacher_logits / temperature).softmax(-1)
    divergence = kl_div((logits / temperature).log_softmax(-1), soft, reduction="batchmean")
    return (1 - weight) * cross_entropy(logits, y.long()) + weight * temperature**2 * divergence
