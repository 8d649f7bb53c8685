"""Neighbouring frames side by side: the moving-average part of a recurrent network, outside its recurrence."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

EDGES = ("zeros", "replicate")


class FrameWindow(nn.Module):
    """Stacks each frame with its neighbours, ``[v_{t-back} ... v_t ... v_{t+ahead}]``, all frames at once.

    A linear map of the stack is the sum of ``W_tau v_{t+tau}`` over the window, as one matrix product.

    Args:
        look_back: frames before each one.
        look_ahead: frames after each one.
        edge: what lies beyond the ends of a sequence: "zeros", or "replicate" for its first and last frame.

    Raises:
        ValueError: a negative window or an unknown ``edge``.
    """

    def __init__(self, look_back: int = 0, look_ahead: int = 0, edge: str = "zeros") -> None:
        super().__init__()
        if look_back < 0 or look_ahead < 0:
            raise ValueError(f"look_back and look_ahead must not be negative, not {look_back} and {look_ahead}")
        if edge not in EDGES:
            raise ValueError(f"edge must be 'zeros' or 'replicate', not {edge!r}")
        self.look_back, self.look_ahead, self.edge = look_back, look_ahead, edge

    @property
    def width(self) -> int:
        """Frames in a window."""
        return self.look_back + 1 + self.look_ahead

    def forward(
        self, x: Float[Tensor, "batch time features"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time stacked"]:
        """Frames with their neighbours, [batch, time, width * features], oldest first.

        Args:
            x: frames.
            lengths: frames of each sequence; what lies beyond counts as outside and is never seen.
        """
        if lengths is not None:
            time = torch.arange(x.shape[1], device=x.device)
            if self.edge == "zeros":
                x = x.masked_fill((time >= lengths.to(x.device)[:, None])[..., None], 0.0)
            else:
                held = torch.minimum(time, lengths.to(x.device)[:, None] - 1)
                x = x.gather(1, held[..., None].expand_as(x))
        if self.width == 1:
            return x
        ends = (0, 0, self.look_back, self.look_ahead)
        if self.edge == "zeros":
            padded = F.pad(x, ends)
        else:
            padded = F.pad(x.unsqueeze(1), ends, mode="replicate").squeeze(1)
        return padded.flatten(1).unfold(1, self.width * x.shape[2], x.shape[2])

    def extra_repr(self) -> str:
        """The arguments."""
        return f"look_back={self.look_back}, look_ahead={self.look_ahead}, edge={self.edge!r}"
