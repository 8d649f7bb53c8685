"""The reward of a compressed network: accuracy times compression, with a hard constraint that sets in gradually."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def compression_reward(compression: Number) -> Number:
    """R_c = C (2 - C): concave, so that the first savings count most; 0 at no compression and 1 at full.

    Args:
        compression: C = 1 - parameters of the student / parameters of the teacher.
    """
    return compression * (2 - compression)


def tolerance(iteration: int | float, last: int | float = 15) -> float:
    """ε_i = max(0, 1 - i / i_max)⁴: how far a violated constraint is forgiven at an iteration of the policy."""
    return max(0.0, 1 - iteration / last) ** 4


def student_reward(
    accuracy: float,
    teacher_accuracy: float,
    compression: float,
    *,
    violated: bool = False,
    forgiven: float = 0.0,
    clipped: bool = False,
) -> float:
    """R = R_c · A / A_teacher, or (ε - 1) + ε R where a constraint is violated.

    Args:
        accuracy: of the student, on examples that it was not trained on.
        teacher_accuracy: on the same examples.
        compression: C; a student that is not smaller is rewarded -1.
        violated: whether the student breaks a hard constraint.
        forgiven: ε of `tolerance`.
        clipped: let A / A_teacher be at most 1, so that being better than the teacher earns nothing.

    Raises:
        ValueError: a teacher that is never right.
    """
    if teacher_accuracy <= 0:
        raise ValueError(f"teacher_accuracy must be positive, not {teacher_accuracy}")
    if compression <= 0:
        return -1.0
    if clipped:
        accuracy = min(accuracy, teacher_accuracy)
    reward = compression_reward(compression) * accuracy / teacher_accuracy
    return forgiven - 1 + forgiven * reward if violated else reward
