"""Losses that ask a student for its teacher's logits, or for the distribution that they stand for."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy


def logit_mse(
    logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """1/N Σ ‖f_student(x) - f_teacher(x)‖², summed over the classes (Ba & Caruana, 2014; N2N trains students so).

    Args:
        logits: the student's.
        teacher_logits: the teacher's, without a graph.
    """
    return (logits - teacher_logits).square().sum(-1).mean()


def soft_cross_entropy(
    logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """T² times the cross-entropy of softmax(student / T) under softmax(teacher / T) (Hinton et al., 2015).

    T² keeps the gradient at one scale; `distillation_loss` with weight 1 is this without the teacher's own entropy.

    Args:
        logits: the student's.
        teacher_logits: the teacher's, without a graph.
        temperature: T.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    return temperature**2 * cross_entropy(logits / temperature, (teacher_logits / temperature).softmax(-1))
