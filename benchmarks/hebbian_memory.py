"""Glauber sweeps of the Hebbian memory beside plain loops over neurons, which is what people write first.

Prints seconds for 60 sweeps of 8 replicas with 2,000 neurons and 900 unlabelled examples (target: below 5 s on two
cores), and the ratio to an asynchronous loop in Python over a ready coupling matrix, timed on one sweep of one replica.
"""

from __future__ import annotations

import statistics
import time

import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory

NEURONS, PATTERNS, EXAMPLES, REPLICAS, SWEEPS, REPEATS = 2_000, 3, 300, 8, 60, 3


def loop_sweep(coupling: torch.Tensor, state: torch.Tensor, temperature: float) -> None:
    """One asynchronous sweep of one replica, neuron by neuron."""
    for i in torch.randperm(len(state)).tolist():
        field = float(coupling[i] @ state)
        state[i] = 1.0 if float(torch.rand(())) < 1 / (1 + 2.718281828 ** (-2 * field / temperature)) else -1.0


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    patterns = diluted_patterns(PATTERNS, NEURONS, 0.3, generator=generator)
    examples = noisy_examples(patterns, 0.3, EXAMPLES, generator)
    memory = HebbianMemory(NEURONS, quality=0.3, num_patterns=PATTERNS).learn(examples)
    rows = memory.effective_rows()
    coupling = rows.T @ rows / (NEURONS * EXAMPLES * 0.09)
    coupling.fill_diagonal_(0)
    state = torch.randint(2, (REPLICAS, NEURONS), generator=generator) * 2.0 - 1
    ours, loops = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        memory.relax(state, 0.1, SWEEPS, generator)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        loop_sweep(coupling, state[0].clone(), 0.1)
        loops.append(time.perf_counter() - start)
    mine, theirs = statistics.median(ours), statistics.median(loops) * REPLICAS * SWEEPS
    print(f"{SWEEPS} sweeps, {REPLICAS} replicas, {len(rows)} rows of {NEURONS}: {mine:.2f} s")
    print(f"loops over neurons with a ready coupling matrix: {theirs:.1f} s, ratio {theirs / mine:.0f}")


if __name__ == "__main__":
    main()
