"""Drawing examples without replacement in proportion to scores: ours, torch.multinomial and NumPy's choice.

Half of 10,000, 100,000 and 1,000,000 examples; interleaved, medians. torch.multinomial refuses more than 2^24 examples.
Run: python benchmarks/curriculum.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from neurarium.learning.schedule._curriculum import weighted_sample

REPETITIONS = 5


def main() -> None:
    """Print milliseconds and ratios."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for count in (10_000, 100_000, 1_000_000):
        scores = torch.rand(count, dtype=torch.float64).pow(-1)
        share = (scores / scores.sum()).numpy()
        draws: dict[str, Callable[[], object]] = {
            "ours": lambda s=scores, n=count: weighted_sample(s, n // 2),
            "torch.multinomial": lambda s=scores, n=count: torch.multinomial(s, n // 2),
            "numpy choice": lambda p=share, n=count: rng.choice(n, n // 2, replace=False, p=p),
        }
        times: dict[str, list[float]] = {name: [] for name in draws}
        for _ in range(REPETITIONS):
            for name, draw in draws.items():
                start = time.perf_counter()
                draw()
                times[name].append(time.perf_counter() - start)
        found = {name: 1e3 * median(values) for name, values in times.items()}
        print(f"{count:,}: " + ", ".join(f"{n} {t:.1f} ms ({t / found['ours']:.1f})" for n, t in found.items()))


if __name__ == "__main__":
    main()
