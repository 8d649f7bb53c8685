"""What a row-sum constraint costs per training step, and what the sigmoid recurrence costs without its trick.

    python benchmarks/primal_dual_rnn.py

Times whole training steps (forward, backward, SGD) of a recurrent classifier on 100 frames, in turns, and prints
medians in milliseconds with ratios: the constraint with its multipliers at 0 and above 0, projection, gradient
clipping; then the sigmoid layer against torch's tanh layer and a Python loop; then the window as one product against
conv1d. The first table's last line is the constraint's own work, timed alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, cross_entropy

from neurarium.layers import FrameWindow, SigmoidRNN
from neurarium.learning import PrimalDual, echo_state_constraints
from neurarium.models import ARMARNN

FRAMES = 100


def medians(work: dict[str, Callable[[], object]], repetitions: int = 25) -> dict[str, float]:
    """Milliseconds of each, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repetition in range(repetitions + 2):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if repetition > 1:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()}


def show(title: str, work: dict[str, Callable[[], object]], reference: str) -> None:
    """A table of medians and their ratio to one of them."""
    print(title)
    found = medians(work)
    for name, ms in found.items():
        print(f"  {name:32s} {ms:8.2f} ms   x {ms / found[reference]:.3f}")


def training_steps(hidden: int, batch: int) -> dict[str, Callable[[], object]]:
    """One training step for each way to keep a network stable."""
    x, y = torch.randn(batch, FRAMES, 64), torch.randint(16, (batch, FRAMES))

    def make(method: str) -> Callable[[], object]:
        torch.manual_seed(0)
        model = ARMARNN(64, hidden, 16, 3, 3)
        optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)
        constraints = echo_state_constraints(model, margin=0.9 if "active" in method else 0.0)
        constrained = PrimalDual(constraints, dual_lr=1e-6)
        if method.startswith("constraint"):
            constrained.attach(optimizer)

        def step() -> None:
            optimizer.zero_grad()
            loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
            (loss + constrained() if method.startswith("constraint") else loss).backward()
            if method == "clipping":
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if method == "projection":
                next(iter(constraints.values())).project_()

        return step

    alone = PrimalDual(echo_state_constraints(ARMARNN(64, hidden, 16, 3, 3), margin=0.9), dual_lr=1e-6)

    def own_work() -> None:
        alone.dual_step()
        alone().backward()

    methods = ("plain", "constraint, not active", "constraint, active", "projection", "clipping")
    return {method: make(method) for method in methods} | {"the constraint alone, active": own_work}


def recurrences(hidden: int, batch: int) -> dict[str, Callable[[], object]]:
    """Forward and backward through one layer."""
    x = torch.randn(FRAMES, batch, 64)
    sigmoid, tanh = SigmoidRNN(64, hidden), nn.RNN(64, hidden)

    w_in, w, *biases = sigmoid.parameters()

    def loop() -> Tensor:
        inputs = x @ w_in.T + biases[0] + biases[1]
        h, states = x.new_zeros(batch, hidden), []
        for step in inputs:
            h = torch.sigmoid(torch.addmm(step, h, w.T))
            states.append(h)
        return torch.stack(states)

    return {
        "SigmoidRNN": lambda: sigmoid(x)[0].sum().backward(),
        "nn.RNN (tanh)": lambda: tanh(x)[0].sum().backward(),
        "Python loop (sigmoid)": lambda: loop().sum().backward(),
    }


def windows(batch: int) -> dict[str, Callable[[], object]]:
    """Forward and backward of the moving-average part."""
    x = torch.randn(batch, FRAMES, 64)
    window, stacked = FrameWindow(3, 3), nn.Linear(7 * 64, 128)
    kernel = stacked.weight.detach().view(128, 7, 64).permute(0, 2, 1).contiguous().requires_grad_()
    return {
        "FrameWindow and one product": lambda: stacked(window(x)).sum().backward(),
        "conv1d": lambda: conv1d(x.mT, kernel, stacked.bias, padding=3).mT.sum().backward(),
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for hidden, batch in ((128, 16), (500, 32)):
        show(f"training step, {hidden} units, batch {batch}", training_steps(hidden, batch), "plain")
        show(f"recurrence, {hidden} units, batch {batch}", recurrences(hidden, batch), "SigmoidRNN")
    show("window of 7 frames, batch 16", windows(16), "FrameWindow and one product")


if __name__ == "__main__":
    main()
