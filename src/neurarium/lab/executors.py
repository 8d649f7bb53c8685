"""Where trials run: in this process, in processes of their own, or on Ray. The numbers are the same everywhere."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from neurarium.lab.errors import RequestError
from neurarium.lab.trial import Outcome, Task, execute

Watch = Callable[[Task, str, int, int], None]
"""Called with a running task, what it counts, how many are done and how many there are."""

_SECONDS_BETWEEN_REPORTS = 0.1


class Executor(Protocol):
    """Runs tasks and yields each with its outcome as it ends, in any order."""

    jobs: int

    def run(self, tasks: deque[Task], watch: Watch) -> Iterator[tuple[Task, Outcome]]:
        """Take tasks from the head of the queue and run them until it is empty.

        Whoever takes an outcome may put more tasks into the queue before asking for the next one. A failed trial is an
        outcome, never an exception. Closing the iterator stops what runs.
        """


class Throttle:
    """Progress reports at most ten times a second, the last one always."""

    def __init__(self, send: Callable[[str, int, int], object]) -> None:
        self.send = send
        self.last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= _SECONDS_BETWEEN_REPORTS or (total and done >= total):
            self.last = now
            self.send(what, done, total)


class Inline:
    """One trial after another in this process: for debugging, and where processes are not wanted."""

    jobs = 1

    def run(self, tasks: deque[Task], watch: Watch) -> Iterator[tuple[Task, Outcome]]:
        """Run the tasks in order."""
        while tasks:
            task = tasks.popleft()
            report = Throttle(lambda what, done, total, task=task: watch(task, what, done, total))  # type: ignore[misc]
            yield task, execute(task, report)


class Processes:
    """A process per trial, forked from a server that has torch loaded already.

    A trial that is killed (by the system for its memory, say) is a failed trial; the others go on.

    Args:
        jobs: trials at a time; by default as many as there are cores for their threads.
        threads: torch threads of each trial, used to choose ``jobs``.
    """

    def __init__(self, jobs: int | None = None, threads: int = 1) -> None:
        if jobs is not None and jobs < 1:
            raise RequestError(f"jobs must be at least 1, not {jobs}")
        self.jobs = jobs or max(1, available_cores() // threads)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["torch", "neurarium.lab.preload"])

    def preload(self, *modules: str) -> None:
        """Have further modules loaded once, before the first trial, so that not every trial loads them anew."""
        self.context.set_forkserver_preload(["torch", "neurarium.lab.preload", *modules])

    def run(self, tasks: deque[Task], watch: Watch) -> Iterator[tuple[Task, Outcome]]:
        """Run the tasks, ``jobs`` at a time, in the queue's order."""
        if tasks:
            _start_fork_server()
        running: dict[Connection, tuple[Task, Any]] = {}
        try:
            while tasks or running:
                while tasks and len(running) < self.jobs:
                    task = tasks.popleft()
                    running.__setitem__(*self._start(task))
                for ready in wait(list(running), timeout=1.0):
                    receiver = ready if isinstance(ready, Connection) else None
                    if receiver is None:
                        continue
                    task, process = running[receiver]
                    try:
                        message = receiver.recv()
                    except (EOFError, OSError):
                        message = None
                    if isinstance(message, tuple):
                        watch(task, *message)
                        continue
                    process.join()
                    receiver.close()
                    del running[receiver]
                    yield task, message or _died(process.exitcode)
        finally:
            for receiver, (_, process) in running.items():
                process.kill()
                process.join()
                receiver.close()

    def _start(self, task: Task) -> tuple[Connection, tuple[Task, Any]]:
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_work, args=(task, sender), daemon=True)
        with _without_main():
            process.start()
        sender.close()
        return receiver, (task, process)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep a worker from importing the script that this process runs: it needs nothing from there, and a script that
    calls `neurarium.lab.run` at its top would call it again in every worker."""
    main = sys.modules["__main__"]
    names = ("__file__", "__spec__")
    kept = {name: getattr(main, name) for name in names if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in kept:
        del main.__file__
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def _start_fork_server() -> None:
    """Start it deaf to ctrl-c, which would break into its imports with a traceback; this process hears it still."""
    if threading.current_thread() is not threading.main_thread():
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, heard)


def _work(task: Task, sender: Connection) -> None:
    """A worker's whole life: run the trial, send what came out; leave at once if the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    outcome = execute(task, Throttle(lambda what, done, total: sender.send((what, done, total))))
    sender.send(outcome)


def _leave_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _died(exitcode: int | None) -> Outcome:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " (often the system, out of memory)" if name == "SIGKILL" else ""
        return Outcome("failed", traceback=f"the trial's process was ended by {name}{hint}", finished=time.time())
    return Outcome("failed", traceback=f"the trial's process left with exit code {exitcode}", finished=time.time())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RayCluster:
    """Trials as Ray tasks, on this machine or on a cluster. A worker that dies is tried again on another.

    Args:
        address: of a running cluster (``ray://host:port``, ``auto``), or None to start Ray on this machine.
        threads: cores that each trial asks for.
        retries: how often a trial whose worker died is run again.

    Raises:
        RequestError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None = None, threads: int = 1, retries: int = 2) -> None:
        try:
            import ray
        except ImportError:
            raise RequestError("Ray is not installed: pip install 'neurarium[distributed]'") from None
        self.ray = ray
        self.retries = retries
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise RequestError(f"no Ray cluster answers at {address!r}: {error}") from None
        self.jobs = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        self.threads = threads

    def run(self, tasks: deque[Task], watch: Watch) -> Iterator[tuple[Task, Outcome]]:
        """Run the tasks wherever the cluster has room."""
        remote = self.ray.remote(num_cpus=self.threads, max_retries=self.retries)(_execute_silently)
        waiting: dict[Any, Task] = {}
        try:
            while tasks or waiting:
                while tasks:
                    task = tasks.popleft()
                    waiting[remote.remote(task)] = task
                done, _ = self.ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(done[0])
                try:
                    outcome = self.ray.get(done[0])
                except self.ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[0]
                    outcome = Outcome("failed", traceback=f"the Ray worker was lost: {reason}", finished=time.time())
                yield task, outcome
        finally:
            for reference in waiting:
                self.ray.cancel(reference, force=True)


def _execute_silently(task: Task) -> Outcome:
    return execute(task, lambda what, done, total: None)
