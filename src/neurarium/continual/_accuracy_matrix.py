"""What a stream of tasks did to a network: accuracy on every task after every task, and its usual summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AccuracyMatrix:
    """Accuracy on task ``j`` after learning task ``i`` (Lopez-Paz & Ranzato, 2017, section 2).

    Args:
        rows: after each task, in order, the accuracy on every task of the stream: ``tasks`` lists of ``tasks`` numbers.
            Rows that stop at the diagonal (tasks seen so far) will do where no forward transfer is asked for.
        untrained: accuracy on every task before the first; only forward transfer needs it.

    Raises:
        ValueError: no rows, or one that does not reach its diagonal.
    """

    rows: Sequence[Sequence[float]]
    untrained: Sequence[float] = field(default=())

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("rows is empty: give the accuracies after each task")
        short = [i for i, row in enumerate(self.rows) if len(row) <= i]
        if short:
            raise ValueError(
                f"row {short[0]} has {len(self.rows[short[0]])} accuracies; task {short[0]} itself is missing"
            )

    @property
    def tasks(self) -> int:
        """Number of tasks learned."""
        return len(self.rows)

    @property
    def average_accuracy(self) -> float:
        """Mean accuracy over the tasks after the last one."""
        return sum(self.rows[-1][: self.tasks]) / self.tasks

    @property
    def learned_accuracy(self) -> float:
        """Mean accuracy on each task right after it was learned."""
        return sum(row[i] for i, row in enumerate(self.rows)) / self.tasks

    @property
    def forgetting(self) -> float:
        """Mean fall from the best accuracy a task ever had since it was learned to the last; 0 for one task.

        Over all tasks but the last (Chaudhry et al., 2018, eq. 3).
        """
        last = self.rows[-1]
        falls = [max(row[j] for row in self.rows[j:]) - last[j] for j in range(self.tasks - 1)]
        return sum(falls) / max(1, len(falls))

    @property
    def backward_transfer(self) -> float:
        """Mean change from right after a task to the end, over all tasks but the last; below 0 is forgetting."""
        changes = [self.rows[-1][j] - self.rows[j][j] for j in range(self.tasks - 1)]
        return sum(changes) / max(1, len(changes))

    @property
    def forward_transfer(self) -> float:
        """Mean accuracy on a task just before it is learned, above that of the untrained network.

        Raises:
            ValueError: ``untrained``, or an entry right of the diagonal, is missing.
        """
        if len(self.untrained) < self.tasks or any(len(row) < i + 2 for i, row in enumerate(self.rows[:-1])):
            raise ValueError("forward transfer needs accuracies on every task after every task, and untrained")
        gains = [self.rows[j - 1][j] - self.untrained[j] for j in range(1, self.tasks)]
        return sum(gains) / max(1, len(gains))
