"""What a person sees while trials run: a line for the study, a bar for every running trial, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from neurarium.lab.trial import Outcome, Task


class Live:
    """A listener that draws progress bars on a terminal, and one line per finished trial elsewhere.

    Args:
        console: where to draw (standard error).
        title: what is run.
    """

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self.started = time.monotonic()
        self.bars: dict[str, TaskID] = {}
        self.done = 0
        self.planned_total = 0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.main = self.bar.add_task(title, total=None, state="")

    def __enter__(self) -> Live:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def planned(self, study: str, tasks: Sequence[Task], cached: int) -> None:
        """Add to the work to be done."""
        if cached and not tasks:
            self.console.print(f"{study}: {cached} trials are in the store")
        self.planned_total += len(tasks)
        self.bar.update(self.main, total=self.planned_total, state=self._state())

    def progress(self, task: Task, what: str, done: int, total: int) -> None:
        """Move a running task's bar."""
        if task.key not in self.bars:
            self.bars[task.key] = self.bar.add_task(
                f"  {task.study} · {task.arm} · seed {task.seed}", total=None, state=""
            )
        state = f"{done}/{total} {what}" if total else f"{done} {what}"
        self.bar.update(self.bars[task.key], completed=done, total=total or None, state=state)

    def finished(self, task: Task, outcome: Outcome) -> None:
        """Close the task's bar."""
        if task.key in self.bars:
            self.bar.remove_task(self.bars.pop(task.key))
        self.done += 1
        mark = Text("done" if outcome.status == "done" else "FAILED", style="" if outcome.status == "done" else "red")
        if not self.console.is_terminal or outcome.status == "failed":
            self.console.print(
                Text(f"{task.study} · {task.arm} · seed {task.seed} · {outcome.wall:.1f} s · ").append_text(mark)
            )
        self.bar.update(self.main, completed=self.done, state=self._state())

    def _state(self) -> str:
        left = self.planned_total - self.done
        if not self.done or left <= 0:
            return f"{self.done}/{self.planned_total} trials"
        guess = left * (time.monotonic() - self.started) / self.done
        return f"{self.done}/{self.planned_total} trials, about {guess:.0f} s left"
