"""The weights of every exact attention in a computation, which the fused kernels do not give away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class AttentionWeights(ProbeResult):
    """One map for each call of attention, in the order of the calls, means over the batch.

    Args:
        maps: weights of queries on keys [head, query, key]; rows sum to 1.
        entropies: of a row in nats, the mean over rows; 0 where every query looks at one key.
    """

    maps: tuple[Float[Tensor, "_ _ _"], ...]
    entropies: tuple[float, ...]

    def summary(self) -> str:
        """A line for each call."""
        return "\n".join(
            f"call {i}: {m.shape[0]} heads, {m.shape[1]} queries on {m.shape[2]} keys, entropy {entropy:.2f} of "
            f"{math.log(m.shape[2]):.2f} nats"
            for i, (m, entropy) in enumerate(zip(self.maps, self.entropies, strict=True))
        )

    def plot(self, ax: Any) -> Any:
        """The first map, the mean of its heads."""
        ax.imshow(self.maps[0].mean(0).numpy(), aspect="auto")
        ax.set(xlabel="key", ylabel="query")
        return ax


@torch.no_grad()
def attention_weights(computation: Callable[[], object]) -> AttentionWeights:
    """Run a computation once and keep the weights of each call of torch's ``scaled_dot_product_attention``.

    Args:
        computation: called without arguments, such as ``lambda: model(tokens)``; the caller sets the model's mode.

    Raises:
        ValueError: attention was not called.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Watch() as watch:
            computation()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    if not watch.seen:
        raise ValueError("computation did not call torch's scaled_dot_product_attention")
    rows = [(-w * w.clamp_min(1e-30).log()).sum(-1).mean() for w in watch.seen]
    return AttentionWeights(tuple(w.mean(0).cpu() for w in watch.seen), tuple(float(entropy) for entropy in rows))


class _Watch(TorchDispatchMode):
    """Keeps what the softmax of attention gives; the plain kernel has one of its own, which nothing else uses."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten._safe_softmax:
            weights = result.to(torch.promote_types(result.dtype, torch.float32))
            self.seen.append(weights if weights.dim() > 3 else weights.unsqueeze(1))
        return result
