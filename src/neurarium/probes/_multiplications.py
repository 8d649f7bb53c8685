"""Which operations of a computation multiply floats, and how often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neurarium.probes._result import ProbeResult

# Operations that move, select, compare, add or take bits: no product inside. What is not known counts as one.
_FREE = """
abs alias all amax amin and any arange argmax argmin as_strided bernoulli bitwise_and bitwise_left_shift bitwise_not
bitwise_or bitwise_right_shift bitwise_xor broadcast_tensors cat ceil clamp clamp_max clamp_min clone col2im
constant_pad_nd copy cumsum detach diagonal embedding embedding_dense_backward empty empty_like empty_strided eq
equal expand fill flip floor foreach_copy full full_like gather ge gt hardtanh hardtanh_backward im2col index
index_add index_put index_select is_same_size isfinite isinf isnan le lift lift_fresh lift_fresh_copy
local_scalar_dense logical_and logical_not logical_or lshift lt masked_fill masked_scatter masked_select max
max_pool2d_with_indices max_pool2d_with_indices_backward maximum min minimum nan_to_num ne neg new_empty
new_empty_strided new_full new_ones new_zeros nonzero ones ones_like or permute pixel_shuffle rand rand_like randint
random relu repeat reshape reshape_alias roll round rshift scalar_tensor scatter scatter_add select select_backward
sign slice slice_backward slice_scatter sort split split_with_sizes squeeze stack sum t threshold threshold_backward
to_copy topk transpose tril triu trunc unbind unfold unfold_backward unsafe_view unsqueeze view where xor zero zeros
zeros_like
"""
FREE = frozenset(_FREE.split())
# Free unless a factor is given along with them.
ADDITIONS = frozenset({"add", "sub", "rsub", "foreach_add", "foreach_sub"})


@dataclass(frozen=True)
class MultiplicationReport(ProbeResult):
    """Products and quotients of floats (and what is made of them: roots, exponentials) in a computation.

    Args:
        multiplications: operation -> how many: three numbers for a matrix product, elements of the result for others.
        scalings: operation -> how many times it scaled by a power of two, which changes exponents only. Not in
            ``multiplications``.
        calls: how many operations were looked at.
    """

    multiplications: Mapping[str, int]
    scalings: Mapping[str, int]
    calls: int

    @property
    def total(self) -> int:
        """All multiplications."""
        return sum(self.multiplications.values())

    def summary(self) -> str:
        """The total, and a line per operation."""
        lines = [f"{self.total:,} multiplications in {self.calls:,} operations"]
        lines += [f"{name}: {count:,}" for name, count in sorted(self.multiplications.items(), key=lambda x: -x[1])]
        return "\n".join(lines + [f"{name} by powers of two: {count:,}" for name, count in self.scalings.items()])

    def plot(self, ax: Any) -> Any:
        """A bar per operation."""
        ordered = sorted(self.multiplications.items(), key=lambda x: x[1])
        ax.barh([name for name, _ in ordered], [count for _, count in ordered])
        ax.set(xlabel="multiplications", xscale="log" if ordered else "linear")
        return ax


def multiplication_report(computation: Callable[[], object]) -> MultiplicationReport:
    """Run a computation once and count its float multiplications, those of its backward pass and optimizer included.

    Every operation that torch dispatches is looked at; what is not known to be free of products counts as one per
    element. Constants that Python computes, such as a learning rate's schedule, are not seen.

    Args:
        computation: called without arguments, such as a training step.
    """
    counter = _Counter()
    with counter:
        computation()
    return MultiplicationReport(dict(counter.multiplications), dict(counter.scalings), counter.calls)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.multiplications: Counter[str] = Counter()
        self.scalings: Counter[str] = Counter()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.calls += 1
        name = func.overloadpacket.__name__.strip("_").removesuffix("_")
        floats = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor) and t.is_floating_point()]
        if not floats or name in FREE or (name in ADDITIONS and abs(_factor(args, kwargs)) == 1):
            return result
        count = _count(name, args, result)
        if name in ("mul", "div") and len(args) > 1 and _is_power_of_two(args[1]):
            self.scalings[name] += count
        else:
            self.multiplications[name] += count
        return result


def _factor(args: Any, kwargs: Mapping[str, Any]) -> float:
    """The ``alpha`` of an addition, by name or (for a scalar addition) third."""
    given = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    return float(given)


def _is_power_of_two(x: Any) -> bool:
    if isinstance(x, Tensor):
        return False
    return math.isfinite(x) and abs(math.frexp(x)[0]) == 0.5


def _count(name: str, args: Any, result: Any) -> int:
    """How many products an operation has."""
    made = sum(t.numel() for t in tree_leaves(result) if isinstance(t, Tensor))
    tensors = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
    if name in ("mm", "bmm", "mv", "dot"):
        return made * tensors[0].shape[-1]
    if name in ("addmm", "baddbmm", "addmv"):
        return made * tensors[1].shape[-1]
    if name.startswith("scaled_dot_product"):  # queries by keys and weights by values; five such backwards
        offset = int(name.endswith("backward"))
        query, key = tensors[offset], tensors[offset + 1]
        return (5 if offset else 2) * query.numel() * key.shape[-2]
    if name == "convolution":
        return made * math.prod(tensors[1].shape[1:])
    return made or sum(t.numel() for t in tensors)
