"""Convolutional gated recurrence, the unit of a Neural GPU (Kaiser and Sutskever, 2016; Pérez et al., 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConvolutionalGRU(nn.Module):
    """One step of ``U S + (1 - U) F(K (R S))``: gates U, R and candidate F are convolutions of the state S.

    All are saturated linear, min(max(x, 0), 1), as in the proofs; the gates' biases begin in the middle, where
    gradients pass. Applied again and again, it computes: see `neurarium.theory.compile_neural_gpu`.

    Args:
        in_channels: channels of the state.
        kernel_size: of the convolutions, odd; one number or (height, width).
        padding_mode: "zeros", or "circular", with which no network can tell a word from the word said twice.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: an even kernel or an unknown padding mode.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        padding_mode: Literal["zeros", "circular"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        if any(side % 2 == 0 for side in size):
            raise ValueError(f"kernel_size must be odd, so that the state keeps its shape, not {kernel_size}")
        if padding_mode not in ("zeros", "circular"):
            raise ValueError(f"padding_mode must be 'zeros' or 'circular', not {padding_mode!r}")
        padding = (size[0] // 2, size[1] // 2)
        self.update, self.reset, self.candidate = (
            nn.Conv2d(
                in_channels, in_channels, size, padding=padding, padding_mode=padding_mode, device=device, dtype=dtype
            )
            for _ in range(3)
        )
        for gate in (self.update, self.reset):
            if gate.bias is not None:
                nn.init.constant_(gate.bias, 0.5)

    def forward(
        self, state: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The next state."""
        update, reset = self.update(state).clamp(0, 1), self.reset(state).clamp(0, 1)
        candidate = self.candidate(reset * state).clamp(0, 1)
        return update * state + (1 - update) * candidate
