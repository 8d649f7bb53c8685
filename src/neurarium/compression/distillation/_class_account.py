"""What a class of students costs beside its teacher: numbers, operations and time, in one place or on many devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from neurarium.compression._account import Account


@dataclass(frozen=True)
class ClassAccount:
    """A class of students beside its teacher.

    Args:
        teacher: what it costs.
        whole: what all students cost with what joins them and the head.
        students: what each student costs, in order: what a device that runs it alone must hold and do.
    """

    teacher: Account
    whole: Account
    students: tuple[Account, ...]

    @property
    def parameter_ratio(self) -> float:
        """Parameters of the class as a share of the teacher's."""
        return self.whole.parameters / self.teacher.parameters

    @property
    def flop_ratio(self) -> float:
        """Operations of the class as a share of the teacher's."""
        return self.whole.flops / self.teacher.flops

    @property
    def parallel_flops(self) -> int:
        """Operations that an answer waits for where each student has a device: the dearest student, and the rest."""
        each = [student.flops for student in self.students]
        return self.whole.flops - sum(each) + max(each)

    @property
    def parallel_flop_ratio(self) -> float:
        """The same as a share of the teacher's operations."""
        return self.parallel_flops / self.teacher.flops

    def summary(self) -> str:
        """One line of text."""
        largest = max(student.parameters for student in self.students)
        return (
            f"{self.whole.parameters:,} parameters ({self.parameter_ratio:.1%} of the teacher's), "
            f"at most {largest:,} in a student; {self.whole.flops:,} FLOPs ({self.flop_ratio:.1%}), "
            f"{self.parallel_flops:,} ({self.parallel_flop_ratio:.1%}) where students run at once"
        )


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one answer.

    Args:
        students: of each student alone.
        head: of joining their chunks and reading them.
    """

    students: tuple[float, ...]
    head: float

    @property
    def in_turn(self) -> float:
        """One student after the other."""
        return sum(self.students) + self.head

    @property
    def parallel(self) -> float:
        """All students at once, each on a device as fast as this one; sending the chunks is not counted."""
        return max(self.students) + self.head


def milliseconds(call: Callable[[], object], repetitions: int = 50) -> float:
    """The median time of a call, after one that is not counted; work on a device is waited for.

    Raises:
        ValueError: no repetitions.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, not {repetitions}")
    times = []
    for _ in range(repetitions + 1):
        start = _now()
        call()
        times.append(_now() - start)
    return 1e3 * median(times[1:])


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
