"""Writes docs/guides/compared.md: what ``neurarium compare`` finds on known data.

Run it in a checkout, on an idle machine (half an hour on two cores): ``python scripts/compared.py``. Trials that
the store has already are not run again.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "compared.md"
RULES = {
    "accuracy": "accuracy", "training_seconds": "training seconds", "step_bytes": "peak bytes of a step",
    "parameters": "parameters",
}  # fmt: skip
STRATEGIES = {
    "accuracy": "accuracy at the end", "forgetting": "forgetting", "learned_accuracy": "when just learned",
    "backward_transfer": "backward transfer", "forward_transfer": "forward transfer", "training_seconds": "seconds",
}  # fmt: skip
COMPRESSORS = {
    "accuracy": "accuracy", "nonzero": "weights not zero", "bytes": "bytes on disk", "flops": "FLOPs",
    "milliseconds": "ms for one example", "compression_seconds": "seconds to make",
}  # fmt: skip
TABLES = [
    ("Learning rules on MNIST", ["--rules", "all", "--data", "mnist"], RULES),
    ("Compressors of one network", ["--data", "mnist-small", "--compressors", "all"], COMPRESSORS),
    ("Strategies on split MNIST", ["--stream", "split-mnist", "--strategies", "all"], STRATEGIES),
]


def main() -> None:
    parts = [
        "# What comparing found",
        f"Made by `scripts/compared.py` with the commands shown, on {processor()}, {time.strftime('%Y-%m-%d')}. "
        "Means over three seeds ± half of the 95 % interval; seconds are of a core that other work may have shared. "
        "How arms are made equal is in [comparing](compare.md).",
    ]
    for title, words, columns in TABLES:
        start = time.perf_counter()
        print(f"{title} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "neurarium", "compare", *words, "--json"]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        parts += [f"## {title}", f"`neurarium compare {' '.join(words)}`", table(found["arms"], columns)]
        PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def table(arms: dict[str, dict[str, dict[str, float]]], columns: dict[str, str]) -> str:
    """A Markdown table, the most accurate arm first."""
    shown = {name: head for name, head in columns.items() if any(name in metrics for metrics in arms.values())}
    rows = [f"| | {' | '.join(shown.values())} |", "|---|" + "---:|" * len(shown)]
    for arm, metrics in sorted(arms.items(), key=lambda item: -item[1]["accuracy"]["mean"]):
        rows.append(f"| `{arm}` | {' | '.join(cell(metrics.get(name)) for name in shown)} |")
    return "\n".join(rows)


def cell(found: dict[str, float] | None) -> str:
    """Mean ± half of the interval."""
    if found is None:
        return ""
    half = (found["high"] - found["low"]) / 2 if found["n"] > 1 else 0.0
    mean = found["mean"]
    if abs(mean) >= 1000:
        return f"{mean:,.0f}"
    return f"{mean:.3g} ± {half:.2g}" if half else f"{mean:.3g}"


def processor() -> str:
    """The machine, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]}, {len(named)} cores" if named else platform.machine()


if __name__ == "__main__":
    main()
