"""The lattice's full sum beside `torch.nn.CTCLoss`: forward and backward, one thread, interleaved repetitions.

    python benchmarks/ctc_loss.py

Prints the median of each and the ratio ours / torch for several sizes, with and without checks of the input, and for a
weighted graph, which torch cannot do at all.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from neurarium.speech import FullSumLoss, count, ctc_graph, full_sum

SIZES = [(16, 400, 60, 32), (16, 400, 60, 500), (64, 200, 30, 32), (1, 1000, 150, 32)]  # batch, frames, labels, classes
REPETITIONS = 15


def milliseconds(calls: dict[str, Callable[[], Tensor]], log_probs: Tensor) -> dict[str, float]:
    """Median time of value and gradient, all calls in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(REPETITIONS + 1):
        for name, call in calls.items():
            log_probs.grad = None
            start = time.perf_counter()
            call().backward()
            if repetition:  # the first one warms up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def row(batch: int, frames: int, most: int, classes: int) -> str:
    """One line of the table."""
    log_probs = torch.randn(frames, batch, classes).log_softmax(-1).requires_grad_()
    targets = torch.randint(1, classes, (batch, most))
    lengths, target_lengths = torch.full((batch,), frames), torch.full((batch,), most)
    given = (log_probs, targets, lengths, target_lengths)
    ours, peer = FullSumLoss(reduction="sum"), torch.nn.CTCLoss(reduction="sum")
    found = milliseconds(
        {
            "torch": lambda: peer(*given),
            "loss": lambda: ours(*given),
            "full_sum": lambda: full_sum(log_probs, ctc_graph(targets, target_lengths), lengths).sum(),
            "weighted": lambda: full_sum(log_probs, ctc_graph(targets, self_loop=-1.0), lengths).sum(),
        },
        log_probs,
    )
    times = " ".join(f"{value:8.1f}" for value in found.values())
    return f"{batch:3} {frames:5} {most:4} {classes:4} | {times} ms | {found['loss'] / found['torch']:.2f}"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("  B     T    U    K |    torch     loss full_sum weighted    | loss/torch")
    for size in SIZES:
        print(row(*size))
    start = time.perf_counter()
    ways = count(ctc_graph([list(range(1, 61))]), 10_000)[0]
    seconds = time.perf_counter() - start
    print(f"exact count of alignments, T = 10,000, U = 60: {len(str(ways))} digits, {seconds:.2f} s")


if __name__ == "__main__":
    main()
