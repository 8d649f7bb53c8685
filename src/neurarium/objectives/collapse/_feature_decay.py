"""Weight decay for features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class FeatureDecay(nn.Module):
    """lambda_H / 2 sum_i |h_i|^2 over the whole training set, estimated from a batch.

    The batch's sum is scaled by examples / batch, so that its expectation is the sum over the training set: this is
    the ``feature_decay`` of `neurarium.theory.collapse_geometry`, where the data term is a mean over the examples. With
    the mean of a batch in its place the strength would have to be examples times larger. Use it through `FeatureLoss`.

    Args:
        strength: lambda_H, not negative.
        examples: N, the size of the training set.

    Raises:
        ValueError: a negative strength, or less than one example.
    """

    def __init__(self, strength: float, examples: int) -> None:
        super().__init__()
        if strength < 0 or examples < 1:
            raise ValueError(f"strength must not be negative and examples be positive, not {strength} and {examples}")
        self.strength, self.examples = strength, examples

    def forward(self, features: Float[Tensor, batch * features], target: Tensor | None = None) -> Float[Tensor, ""]:
        """The penalty; ``target`` is not used."""
        return self.strength / 2 * self.examples / len(features) * features.square().sum()

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"strength={self.strength}, examples={self.examples}"
