"""A multilayer perceptron whose parts can be put in and left out: activation, residual, normalisation, gate."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn


class VariantMlp(nn.Module):
    """Hidden layers of one width, in one of the forms that Teney et al. (2024, section 3.3) compare.

    A hidden layer is ``act(norm(W h + b))``; a gate multiplies that by ``W' h + b'``; a residual adds ``h``.

    Args:
        in_features: inputs.
        out_features: outputs.
        depth: hidden layers.
        width: of each.
        activation: makes the activation; ``nn.ReLU``, ``Sine``, ``Gaussian`` ...
        residual: add what enters a hidden layer to what leaves it (but for the first).
        norm: layer norm before the activation.
        gate: multiply by a second linear map of what enters.
    """

    def __init__(
        self, in_features: int = 2, out_features: int = 1, depth: int = 3, width: int = 64,
        activation: Callable[[], nn.Module] = nn.ReLU, *, residual: bool = False, norm: bool = False,
        gate: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        sizes = [in_features] + [width] * depth
        self.hidden = nn.ModuleList(nn.Linear(a, width) for a in sizes[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(a, width) for a in sizes[:-1]) if gate else None
        self.activation, self.residual = activation(), residual
        self.out = nn.Linear(width, out_features)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """[..., in_features] -> [..., out_features]."""
        for k, (linear, norm) in enumerate(zip(self.hidden, self.norms)):
            y = self.activation(norm(linear(x)))
            if self.gates is not None:
                y = y * self.gates[k](x)
            x = x + y if self.residual and k > 0 else y
        return self.out(x)
