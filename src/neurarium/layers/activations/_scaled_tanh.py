"""The hyperbolic tangent that is one at one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class ScaledTanh(nn.Module):
    """``amplitude * tanh(slope * x)``; by default LeCun's, which is near 1 at 1 and has a slope of 1.14 at 0.

    Args:
        amplitude: of the output.
        slope: inside.
    """

    def __init__(self, amplitude: float = 1.7159, slope: float = 0.6666) -> None:
        super().__init__()
        self.amplitude, self.slope = amplitude, slope

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise."""
        return self.amplitude * (self.slope * x).tanh()

    def extra_repr(self) -> str:
        """Both numbers."""
        return f"amplitude={self.amplitude}, slope={self.slope}"
