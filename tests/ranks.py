"""Ranks of a process group for tests: started without a launcher, and ended without running torch's destructors.

Gloo's threads may outlive the group, and destroying one that still runs ends the process with "terminate called
without an active exception". So a rank leaves by `os._exit` when all ranks have come to the end. They meet through a
file: neither a port nor a launcher of torch's takes part.
"""

import os
import subprocess
import sys
from pathlib import Path

_BEGIN = """
import os as _os, sys as _sys
import torch.distributed as _dist
_dist.init_process_group(
    "gloo", init_method="file://" + _os.environ["MEETING"], rank=int(_os.environ["RANK"]),
    world_size=int(_os.environ["WORLD_SIZE"]),
)
"""
_END = """
_dist.barrier()
_sys.stdout.flush()
_sys.stderr.flush()
_os._exit(0)
"""


def run_ranks(code: str, folder: Path, *arguments: str, ranks: int = 2, timeout: float = 240) -> list[str]:
    """Run ``code`` on every rank inside a gloo group; returns what each rank wrote to standard output.

    Args:
        code: source text; the group is there when it begins. ``sys.argv[1:]`` are ``arguments``.
        folder: where the ranks meet; an empty one of this test's own.
        arguments: for the ranks.
        ranks: how many.
        timeout: seconds for all of them.

    Raises:
        AssertionError: a rank failed; its last words are in the message.
    """
    script = folder / "rank.py"
    script.write_text(_BEGIN + code + _END)
    sources = str(Path(__file__).parents[1] / "src")
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": sources, "MEETING": str(folder / "meeting"),
        "WORLD_SIZE": str(ranks), "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments], env={**environment, "RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, said, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [out for out, _ in said]
