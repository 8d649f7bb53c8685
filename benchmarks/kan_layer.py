"""Time and memory of Kolmogorov-Arnold layers beside pykan and the dense formulation of efficient-kan, in one run.

    python benchmarks/kan_layer.py

pykan is timed where it is installed (`pip install pykan`). efficient-kan is on no package index, so its formulation is
written here in a few lines: all basis values of a batch by the recursion of Cox and de Boor, then one matrix product.
Times are CPU seconds of one forward and backward pass in one thread, medians over rounds in which all take turns.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from neurarium.layers import KANLinear

ROUNDS = 7


class DenseKAN(nn.Module):
    """The formulation of efficient-kan: [batch, inputs, functions] at every level of the recursion."""

    def __init__(self, inputs: int, outputs: int, grid_size: int, degree: int = 3) -> None:
        super().__init__()
        self.degree = degree
        knots = torch.arange(-degree, grid_size + degree + 1) * (2 / grid_size) - 1
        self.register_buffer("knots", knots.repeat(inputs, 1))
        self.base = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.coefficients = nn.Parameter(torch.randn(outputs, inputs, grid_size + degree) * 0.02)
        self.scale = nn.Parameter(torch.ones(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        t, z = self.knots, x[..., None]
        values = ((z >= t[:, :-1]) & (z < t[:, 1:])).to(x.dtype)
        for k in range(1, self.degree + 1):
            rising = (z - t[:, : -(k + 1)]) / (t[:, k:-1] - t[:, : -(k + 1)]) * values[..., :-1]
            values = rising + (t[:, k + 1 :] - z) / (t[:, k + 1 :] - t[:, 1:-k]) * values[..., 1:]
        weight = (self.coefficients * self.scale[..., None]).flatten(1)
        return linear(silu(x), self.base) + linear(values.flatten(1), weight)


class Pykan(nn.Module):
    """pykan's layer, its first output alone."""

    def __init__(self, inputs: int, outputs: int, grid_size: int) -> None:
        super().__init__()
        from kan.KANLayer import KANLayer

        self.layer = KANLayer(inputs, outputs, num=grid_size, k=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def step(model: nn.Module, x: Tensor) -> float:
    """CPU seconds of one forward and backward pass."""
    start = time.process_time()
    model(x).square().mean().backward()
    return time.process_time() - start


def kept(model: nn.Module, x: Tensor) -> float:
    """MiB kept for the backward pass, parameters and the input left out."""
    own = {t.data_ptr() for t in (*model.parameters(), *model.buffers(), x)}
    found: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.data_ptr() not in own:
            found[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = model(x)
    output.sum().backward()
    return sum(found.values()) / 2**20


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for batch, inputs, outputs, grid_size in ((256, 784, 64, 5), (1024, 64, 64, 100)):
        x = torch.randn(batch, inputs).clamp(-1.5, 1.5).requires_grad_()
        models: dict[str, nn.Module] = {
            "ours": KANLinear(inputs, outputs, grid_size=grid_size),
            "ours, after a grid update": KANLinear(inputs, outputs, grid_size=grid_size),
            "dense (efficient-kan)": DenseKAN(inputs, outputs, grid_size),
        }
        models["ours, after a grid update"].update_grid(x)  # type: ignore[operator]
        try:
            models["pykan"] = Pykan(inputs, outputs, grid_size)
        except ImportError:
            print("pykan is not installed and left out")
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(ROUNDS + 2):
            for name, model in models.items():
                seconds = step(model, x)
                if turn >= 2:
                    times[name].append(seconds)
        print(f"batch {batch}, {inputs} -> {outputs}, grid {grid_size}, cubic")
        ours = statistics.median(times["ours"])
        for name, model in models.items():
            median = statistics.median(times[name])
            print(f"  {name:26} {1e3 * median:7.1f} ms  {median / ours:5.1f} x  {kept(model, x):7.1f} MiB kept")


if __name__ == "__main__":
    main()
