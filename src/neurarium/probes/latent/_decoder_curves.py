"""How each number of a code enters a Kolmogorov-Arnold decoder: its curves, drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import KANLinear
from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation

POINTS = 60


@dataclass(frozen=True)
class DecoderCurves(ProbeResult):
    """The edges of the layer that reads the code.

    Args:
        sites: for each number of the code the points at which its edges are evaluated, over its range on a batch.
        curves: the edges there; a unit of the layer is the sum of its edges.
        spread: standard deviation of each edge along its sites.
    """

    sites: Float[Tensor, "points latent"]
    curves: Float[Tensor, "points units latent"]
    spread: Float[Tensor, "units latent"]

    def summary(self) -> str:
        """Which numbers of the code matter, and how far their edges are from straight lines."""
        shares = self.spread.square().sum(0)
        shares = shares / shares.sum().clamp_min(1e-30)
        listed = ", ".join(f"{float(share):.2f}" for share in shares)
        return f"share of the decoder's first sums by number of the code: {listed}"

    def plot(self, ax: Any, most: int = 6) -> Any:
        """For each number of the code (two at most) the edges that vary most; broken lines are the second number's."""
        for i in range(min(2, self.sites.shape[1])):
            for unit in self.spread[:, i].topk(min(most, len(self.spread))).indices.tolist():
                style = ("-", "--")[i]
                ax.plot(self.sites[:, i].tolist(), self.curves[:, unit, i].tolist(), style, label=f"z{i + 1} → {unit}")
        ax.set(xlabel="number of the code", ylabel="edge")
        ax.legend(fontsize="x-small")
        return ax


@torch.no_grad()
def decoder_curves(model: nn.Module, x: Tensor) -> DecoderCurves:
    """The learned functions on the edges from an autoencoder's code, over the code's range on a batch.

    Most telling for a code of one or two numbers.

    Args:
        model: an `Autoencoder` whose decoder begins with a `KANLinear`.
        x: inputs [batch, ...], at least two.

    Raises:
        TypeError: the model has no such decoder.
    """
    decoder = getattr(model, "decoder", None)
    layer = next((m for m in decoder.modules() if isinstance(m, KANLinear)), None) if decoder is not None else None
    if layer is None or not hasattr(model, "encode"):
        raise TypeError(
            f"decoder_curves reads an autoencoder whose decoder has a KANLinear, not {type(model).__name__}"
        )
    given: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    try:
        with evaluation(model):
            model(x)
    finally:
        hook.remove()
    code = given[0]  # behind a normalisation, where there is one
    along = torch.linspace(0, 1, POINTS, dtype=code.dtype, device=code.device)[:, None]
    sites = torch.lerp(code.amin(0), code.amax(0), along)
    curves = layer.edges(sites)
    return DecoderCurves(sites.cpu(), curves.cpu(), curves.std(0).cpu())
