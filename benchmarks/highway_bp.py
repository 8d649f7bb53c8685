"""A training step of a GRU by highway backpropagation against backpropagation, side by side in one run.

    python benchmarks/highway_bp.py

Peers are nn.GRU (torch's own loop over time) and a Python loop over nn.GRUCell. Prints milliseconds (medians over
interleaved repetitions), the ratio of each peer's time to that of k = 0, 5 and 10 rounds, and the gradient's error.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, HighwayBackprop, LearningRule


class Reader(nn.Module):
    """The last state of a GRU, read out; a loop over single cells where asked for."""

    def __init__(self, rnn: nn.GRU, readout: nn.Linear, loop: bool) -> None:
        super().__init__()
        self.rnn, self.readout = rnn, readout
        self.cell = nn.GRUCell(rnn.input_size, rnn.hidden_size) if loop else None

    def forward(self, x: Tensor) -> Tensor:
        """[time, batch, features] to scores."""
        if self.cell is None:
            return self.readout(self.rnn(x)[0][-1])
        h = x.new_zeros(x.shape[1], self.rnn.hidden_size)
        for step in x:
            h = self.cell(step, h)
        return self.readout(h)


def gradient_error(rule: LearningRule, exact: LearningRule, x: Tensor, y: Tensor) -> float:
    """Distance of the recurrent weights' gradient from the exact one, relative."""
    found = []
    for each in (rule, exact):
        each.zero_grad()
        each.assign_credit(x, y)
        found.append(each.model.rnn.weight_hh_l0.grad.clone())
    return float((found[0] - found[1]).norm() / found[1].norm())


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for steps, batch, width in ((28, 128, 64), (196, 8, 64), (196, 16, 64), (196, 64, 64), (784, 8, 64)):
        x, y = torch.randn(steps, batch, 4), torch.randint(10, (batch,))
        rnn, readout = nn.GRU(4, width), nn.Linear(width, 10)
        rules: dict[str, LearningRule] = {
            "nn.GRU": Backprop(Reader(rnn, readout, loop=False), cross_entropy),
            "cells": Backprop(Reader(rnn, readout, loop=True), cross_entropy),
        }
        rules |= {
            f"k={k}": HighwayBackprop(Reader(rnn, readout, False), cross_entropy, iterations=k) for k in (0, 5, 10)
        }
        times: dict[str, list[float]] = {name: [] for name in rules}
        for repeat in range(14):
            for name, rule in rules.items():
                rule.zero_grad()
                start = time.perf_counter()
                rule.assign_credit(x, y)
                if repeat >= 3:
                    times[name].append(time.perf_counter() - start)
        ms = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        print(f"{steps} steps, batch {batch}, {width} units: nn.GRU {ms['nn.GRU']:.1f} ms, cells {ms['cells']:.1f} ms")
        for k in (0, 5, 10):
            name = f"k={k}"
            error = gradient_error(rules[name], rules["nn.GRU"], x, y)
            print(
                f"    k = {k:2d}: {ms[name]:6.1f} ms, {ms['nn.GRU'] / ms[name]:.2f} times as fast as nn.GRU, "
                f"{ms['cells'] / ms[name]:.2f} times as fast as cells, gradient error {error:.1e}"
            )


if __name__ == "__main__":
    main()
