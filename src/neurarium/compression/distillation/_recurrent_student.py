"""A small recurrent student for sequences, of about so many parameters."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class RecurrentStudent(nn.Module):
    """A GRU reads the sequence, a linear layer its last state.

    Args:
        features: of each step.
        out_features: size of the output.
        hidden_size: of the GRU.

    Shape:
        [batch, length, features] -> [batch, out_features], for any length.
    """

    def __init__(self, features: int, out_features: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, out_features)

    def forward(self, x: Float[Tensor, "batch length features"]) -> Float[Tensor, "batch out_features"]:
        """The head's reading of the last state."""
        return self.head(self.gru(x)[1][0])


def recurrent_student(shape: tuple[int, ...], out_features: int, parameters: int) -> RecurrentStudent:
    """The widest `RecurrentStudent` of at most so many parameters: a factory like `small_student`, for sequences.

    Args:
        shape: of one input, [length, features].
        out_features: size of the output.
        parameters: most parameters of the student.

    Raises:
        ValueError: the inputs are no sequences, or not even one hidden unit fits.
    """
    if len(shape) != 2:
        raise ValueError(f"shape must be (length, features), not {tuple(shape)}")
    features, hidden = shape[1], 0
    while 3 * (hidden + 1) * (features + hidden + 3) + out_features * (hidden + 2) <= parameters:
        hidden += 1
    if hidden < 1:
        least = 3 * (features + 3) + 2 * out_features
        raise ValueError(f"the smallest student has {least} parameters, more than {parameters}; raise the budget")
    return RecurrentStudent(features, out_features, hidden)
