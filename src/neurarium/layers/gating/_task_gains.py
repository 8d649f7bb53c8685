"""A gain and a bias per task on every unit: the task-specific part of a network whose weights are shared."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TaskGains(nn.Module):
    """y = g_t * x + b_t for the current task t (Atari experiments, section 4.2 of the supplement).

    Each task has parameters of its own, so that an optimizer leaves those of other tasks alone (they get no gradient,
    not a zero one). Put it behind a layer; a continual strategy sets the task through ``set_task`` and does not anchor
    these parameters.

    Args:
        num_features: size of the last dimension of the input.
        tasks: number of tasks.
        bias: add b_t.
        device, dtype: of the parameters.

    Shape:
        [..., num_features] -> the same.
    """

    task_specific = True  # read by continual strategies: nothing here is shared, so nothing needs an anchor

    def __init__(
        self,
        num_features: int,
        tasks: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_features < 1 or tasks < 1:
            raise ValueError(f"num_features and tasks must be at least 1, not {num_features} and {tasks}")
        self.num_features, self.tasks = num_features, tasks
        self.gain = nn.ParameterList(torch.ones(num_features, device=device, dtype=dtype) for _ in range(tasks))
        count = tasks if bias else 0
        self.bias = nn.ParameterList(torch.zeros(num_features, device=device, dtype=dtype) for _ in range(count))
        self.task: int | Tensor = 0

    def set_task(self, task: int | Tensor) -> None:
        """Choose the task: one number, or a tensor [batch] with a task for each example.

        Raises:
            ValueError: a task outside 0 .. tasks - 1.
            TypeError: not a whole number.
        """
        if isinstance(task, Tensor) and task.dim() == 1 and not task.is_floating_point():
            low, high = int(task.min()), int(task.max())
        elif isinstance(task, (int, Tensor)) and not (isinstance(task, Tensor) and task.numel() != 1):
            low = high = task = int(task)
        else:
            raise TypeError(f"task must be a whole number or a tensor of one per example, not {type(task).__name__}")
        if low < 0 or high >= self.tasks:
            raise ValueError(f"task must be between 0 and {self.tasks - 1}, not {low if low < 0 else high}")
        self.task = task

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift every unit as the current task wants it."""
        if isinstance(self.task, int):
            scaled = x * self.gain[self.task]
            return scaled + self.bias[self.task] if len(self.bias) else scaled
        if len(self.task) != len(x):
            raise ValueError(f"the tasks of {len(self.task)} examples were set, but {len(x)} examples came")
        shape = (len(x), *([1] * (x.dim() - 2)), self.num_features)
        scaled = x * torch.stack(list(self.gain))[self.task].view(shape)
        return scaled + torch.stack(list(self.bias))[self.task].view(shape) if len(self.bias) else scaled

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, tasks={self.tasks}, bias={len(self.bias) > 0}"
