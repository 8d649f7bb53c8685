"""Writes docs/guides/compared.md: what ``neurarium compare`` finds on known data.

Run it in a checkout, on an idle machine (an hour on two cores): ``python scripts/compared.py``. Trials that the store
has already are not run again. Penguins and Seattle's weather are the files penguins.csv and seattle-weather.csv of the
PyPI packages palmerpenguins and vega_datasets, beside which it is run. The sentence encoder needs the extra
``language`` and its weights, which ``SENTENCE_ENCODER`` may name as a folder.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neurarium.data import load_text
from neurarium.models import SentenceEncoder

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "compared.md"
IDEAS = {
    "accuracy": "accuracy", "r2": "R²", "log_loss": "log-loss", "calibration_error": "ECE",
    "seconds": "processor seconds of a trial", "prediction_ms": "ms for one answer", "bytes": "bytes kept",
    "nonzero": "weights not zero", "step_bytes": "peak bytes of a step",
}  # fmt: skip
STRATEGIES = {
    "accuracy": "accuracy at the end", "forgetting": "forgetting", "learned_accuracy": "when just learned",
    "backward_transfer": "backward transfer", "forward_transfer": "forward transfer", "extra_bytes": "bytes kept",
    "seconds": "processor seconds of a trial",
}  # fmt: skip
QUESTIONS = "trec-embedded.npz"
PART = ["--examples", "6000", "--strategies", "all"]
TABLES = [
    ("Ideas on diabetes: progression in a year (442 rows, 10 columns)", ["--data", "diabetes"], IDEAS),
    ("Ideas on wine: three cultivars (178 rows, 13 columns)", ["--data", "wine"], IDEAS),
    (
        "Ideas on penguins: three species (344 rows with gaps and categories)",
        ["--data", "penguins.csv", "--target", "species"],
        IDEAS,
    ),
    (
        "Ideas on Seattle's weather (1,461 rows with dates)",
        ["--data", "seattle-weather.csv", "--target", "weather"],
        IDEAS,
    ),
    ("Ideas on digits: 8 x 8 images (1,797)", ["--data", "digits"], IDEAS),
    ("Ideas on Adult: who earns over 50,000 $ (48,842 rows)", ["--data", "adult", "--budget", "30m"], IDEAS),
    ("Ideas on MNIST", ["--data", "mnist", "--budget", "1h"], IDEAS),
    ("Strategies on split MNIST", ["--stream", "split-mnist", "--strategies", "all"], STRATEGIES),
    ("Strategies on split Fashion-MNIST", ["--stream", "split-fashion-mnist", "--strategies", "all"], STRATEGIES),
    ("Strategies on permuted MNIST", ["--stream", "permuted-mnist", *PART], STRATEGIES),
    ("Strategies on permuted Fashion-MNIST", ["--stream", "permuted-fashion-mnist", *PART], STRATEGIES),
    ("Strategies on rotated MNIST", ["--stream", "rotated-mnist", *PART], STRATEGIES),
    ("Strategies on rotated Fashion-MNIST", ["--stream", "rotated-fashion-mnist", *PART], STRATEGIES),
    (
        "Strategies on questions: TREC's six kinds under a frozen sentence encoder",
        ["--data", QUESTIONS, "--stream", "split", "--tasks", "3", "--strategies", "all"],
        STRATEGIES,
    ),
]


def main() -> None:
    parts = [
        "# What comparing found",
        f"Made by `scripts/compared.py` with the commands shown, on {processor()}, {time.strftime('%Y-%m-%d')}. "
        "Means over three seeds ± half of the 95 % interval; seconds are of a core that other work may have shared. "
        "How arms are made equal is in [comparing](compare.md).",
    ]
    if not Path(QUESTIONS).exists():
        embed_questions(Path(QUESTIONS))
    for title, words, columns in TABLES:
        start = time.perf_counter()
        print(f"{title} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "neurarium", "compare", *words, "--json"]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        parts += section(title, words, found, columns)
        PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def embed_questions(file: Path) -> None:
    """TREC's questions as sentence embeddings, [questions, 384]."""
    encoder, texts = SentenceEncoder(*filter(None, [os.environ.get("SENTENCE_ENCODER")])), load_text("trec")
    train, test = (encoder([text for text, _ in part]).numpy() for part in (texts.train, texts.test))
    labels = [np.array([label for _, label in part]) for part in (texts.train, texts.test)]
    np.savez(file, train_x=train, train_y=labels[0], test_x=test, test_y=labels[1])


def section(title: str, words: list[str], found: dict[str, Any], columns: dict[str, str]) -> list[str]:
    """A heading, the command, the table, the Pareto sets, and who is not in the table."""
    spent = {
        arm: {"mean": seconds, "low": seconds, "high": seconds, "n": 1} for arm, seconds in found["arm_seconds"].items()
    }
    arms = {arm: {**metrics, "seconds": spent[arm]} for arm, metrics in found["arms"].items()}
    parts = [f"## {title}", f"`neurarium compare {' '.join(words)}`", table(arms, columns)]
    if fronts := found.get("pareto"):
        named = {"training_seconds": "train", "prediction_ms": "ask", "bytes": "keep"}
        parts.append(
            "No arm is both better and cheaper than these. "
            + " ".join(f"To {named[cost]}: {', '.join(f'`{arm}`' for arm in arms)}." for cost, arms in fronts.items())
        )
    if dropped := found.get("dropped"):
        parts.append(
            "Dropped on validation: " + "; ".join(f"`{slug}` ({when})" for slug, when in dropped.items()) + "."
        )
    if left_out := found.get("left_out"):
        parts.append("Left out: " + ", ".join(f"`{slug}`" for slug in left_out) + ".")
    return parts


def table(arms: dict[str, dict[str, dict[str, float]]], columns: dict[str, str]) -> str:
    """A Markdown table, the most accurate arm first."""
    shown = {name: head for name, head in columns.items() if any(name in metrics for metrics in arms.values())}
    rows = [f"| | {' | '.join(shown.values())} |", "|---|" + "---:|" * len(shown)]
    score = next(name for name in ("accuracy", "r2") if any(name in metrics for metrics in arms.values()))
    for arm, metrics in sorted(arms.items(), key=lambda item: -item[1][score]["mean"]):
        rows.append(f"| `{arm}` | {' | '.join(cell(metrics.get(name)) for name in shown)} |")
    return "\n".join(rows)


def cell(found: dict[str, float] | None) -> str:
    """Mean ± half of the interval."""
    if found is None:
        return ""
    mean, half = found["mean"], (found["high"] - found["low"]) / 2 if found["n"] > 1 else 0.0
    half = half if half > 1e-9 * abs(mean) else 0.0  # rounding
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
