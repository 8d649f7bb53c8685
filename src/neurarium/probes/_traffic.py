"""What convolutions cost: multiply-adds, and the numbers that they read and write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class ConvolutionTraffic(ProbeResult):
    """Costs of one forward pass, by the module whose code makes the convolution.

    Args:
        multiply_adds: module -> products of its convolutions and matrix products.
        traffic: module -> numbers that its convolutions read and write: inputs and outputs, not weights. Where it
            is large beside the multiply-adds, memory and not arithmetic sets the pace.
    """

    multiply_adds: Mapping[str, int]
    traffic: Mapping[str, int]

    def part(self, prefix: str) -> tuple[int, int]:
        """Multiply-adds and traffic of a submodule, all in it included."""

        def within(table: Mapping[str, int]) -> int:
            return sum(n for name, n in table.items() if not prefix or (name + ".").startswith(prefix + "."))

        return within(self.multiply_adds), within(self.traffic)

    @property
    def total_multiply_adds(self) -> int:
        """Of the whole network."""
        return sum(self.multiply_adds.values())

    @property
    def total_traffic(self) -> int:
        """Of the whole network."""
        return sum(self.traffic.values())

    def summary(self) -> str:
        """The totals."""
        return (
            f"{self.total_multiply_adds:,} multiply-adds; {self.total_traffic:,} numbers read and written by "
            f"convolutions in {len(self.traffic)} modules"
        )

    def plot(self, ax: Any) -> Any:
        """Traffic of each module, in order."""
        ax.bar(range(len(self.traffic)), list(self.traffic.values()))
        ax.set(xlabel="convolution", ylabel="numbers read and written")
        return ax


@torch.no_grad()
def convolution_traffic(model: nn.Module, x: Any) -> ConvolutionTraffic:
    """Count the multiply-adds and the traffic of one forward pass in evaluation mode.

    Convolutions are seen whether they are layers or functions. The traffic of a dense stage of m layers, growth d and
    base c is c m + (m² + m) d / 2 numbers per position, half of it in c where the stage is partial.

    Args:
        model: any module.
        x: a batch, as `training.call` takes it; costs are those of the whole batch.

    Raises:
        ValueError: there is neither a convolution nor a matrix product.
    """
    count = _Count()

    def leave(*_: Any) -> None:
        count.names.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: count.names.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        with evaluation(model), count:
            call(model, x)
    finally:
        for handle in handles:
            handle.remove()
    if not count.multiply_adds:
        raise ValueError(f"{type(model).__name__} makes neither a convolution nor a matrix product")
    return ConvolutionTraffic(dict(count.multiply_adds), dict(count.traffic))


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.multiply_adds: Counter[str] = Counter()
        self.traffic: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__
        name = self.names[-1] if self.names else ""
        if operation == "convolution":
            x, weight, transposed = args[0], args[1], args[6]
            self.multiply_adds[name] += (x if transposed else result).numel() * weight[0].numel()
            self.traffic[name] += x.numel() + result.numel()
        elif operation in ("mm", "bmm", "addmm", "baddbmm") and isinstance(result, Tensor):
            first = args[1] if operation in ("addmm", "baddbmm") else args[0]
            self.multiply_adds[name] += result.numel() * first.shape[-1]
        return result
