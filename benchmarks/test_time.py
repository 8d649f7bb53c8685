"""Time of a batch of test-time adaptation: neuro-modulated Hebbian and TENT, beside TENT as a plain loop.

    python benchmarks/test_time.py

Prints milliseconds per batch (medians of interleaved repetitions, one thread) and ratios to the plain loop, and the
Hebbian update's share of a forward pass.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from neurarium.learning import NeuroModulatedHebbian, SoftHebbian, Tent
from neurarium.models import WideResNet
from neurarium.objectives import prediction_entropy


class PlainTent:
    """What a user would write: batch statistics, one Adam step on all scales and shifts, the logits of that pass."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.train().requires_grad_(False)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.requires_grad_(True)
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
        self.optimizer = torch.optim.Adam([p for norm in norms for p in norm.parameters()], 1e-3)

    def adapt(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        logits = self.model(x)
        self.optimizer.zero_grad()
        prediction_entropy(logits).backward()
        self.optimizer.step()
        return logits.detach()


def main() -> None:
    torch.set_num_threads(1)
    x = torch.randn(64, 3, 32, 32)

    def model() -> nn.Module:
        torch.manual_seed(0)
        return WideResNet(16, 2).eval()

    plain, ours = PlainTent(model()), Tent(model(), predict_before=True)
    early = NeuroModulatedHebbian(model(), predict_before=True)
    late, forward = NeuroModulatedHebbian(model()), model()
    rule = SoftHebbian(forward.conv)
    jobs = {
        "plain TENT": lambda: plain.adapt(x),
        "Tent": lambda: ours.adapt(x),
        "NHL, predicts before the step": lambda: early.adapt(x),
        "NHL, predicts after it": lambda: late.adapt(x),
        "Hebbian update alone": lambda: rule.update(x),
        "forward pass": lambda: late.predict(x),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for repetition in range(8):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if repetition:
                times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in median.items():
        print(f"{name:32s} {1000 * seconds:8.1f} ms   {seconds / median['plain TENT']:5.2f} x plain TENT")
    print(f"Hebbian update / forward pass: {median['Hebbian update alone'] / median['forward pass']:.3f}")


if __name__ == "__main__":
    main()
