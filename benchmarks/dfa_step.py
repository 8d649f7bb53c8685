"""A step of direct feedback alignment against one of backpropagation, same model and batch, in processor time."""

from __future__ import annotations

import functools
import time
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, DirectFeedbackAlignment, LearningRule
from neurarium.training import peak_bytes


def main(repetitions: int = 300) -> None:
    """Print time and peak memory of ``assign_credit`` as ratios to backpropagation (target: at most 1.1)."""
    torch.set_num_threads(1)
    x, y = torch.randn(128, 784), torch.randint(10, (128,))
    for name, sizes in {"784-256-256-10": (256, 256), "784-8x512-10": (512,) * 8}.items():
        layers: list[nn.Module] = []
        for a, b in zip((784, *sizes), sizes, strict=False):
            layers += [nn.Linear(a, b), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
        rules: dict[str, LearningRule] = {
            "backprop": Backprop(model, cross_entropy),
            "dfa": DirectFeedbackAlignment(model, cross_entropy),
        }
        times: dict[str, list[float]] = {rule: [] for rule in rules}
        for turn in range(repetitions + 10):
            for rule_name, rule in rules.items():
                rule.zero_grad(set_to_none=False)
                start = time.process_time()
                rule.assign_credit(x, y)
                if turn >= 10:
                    times[rule_name].append(time.process_time() - start)
        found = {rule_name: median(values) for rule_name, values in times.items()}
        memory = {
            rule_name: peak_bytes(functools.partial(rule.assign_credit, x, y)) for rule_name, rule in rules.items()
        }
        print(
            f"{name}: backprop {1e3 * found['backprop']:.2f} ms; dfa / backprop time "
            f"{found['dfa'] / found['backprop']:.3f}, peak memory {memory['dfa'] / memory['backprop']:.3f}"
        )


if __name__ == "__main__":
    main()
