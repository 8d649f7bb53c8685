"""Logits of fixed length per group, times a learned factor: each group's pace of learning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEVELS = ("vertical", "class")


class SelfPacedLogits(nn.Module):
    """y_v = gamma_v x_v / |x_v| for the logits x_v of each vertical (Gao et al., 2017, section 3.4).

    Verticals differ in size and difficulty; a larger gamma means larger gradients, so the factor, trained with
    everything else, paces each of them.

    Args:
        verticals: classes per vertical, in output order.
        level: one factor per ``"vertical"``, or per ``"class"`` (of the length of its vertical).
        init: ``"sqrt"``, normal around the root of the vertical's size with deviation 1e-3, or a number.
        learnable: train the factors.
        device, dtype: of the factors.

    Shape:
        [..., sum(verticals)] -> the same.

    Raises:
        ValueError: an argument out of range.
    """

    gamma: Tensor
    group: Tensor

    def __init__(
        self,
        verticals: Sequence[int],
        level: str = "vertical",
        init: str | float = "sqrt",
        learnable: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
        if not verticals or min(verticals) < 1:
            raise ValueError(f"verticals must be the numbers of classes, each at least 1, not {list(verticals)}")
        if isinstance(init, str) and init != "sqrt":
            raise ValueError(f'init must be "sqrt" or a number, not {init!r}')
        self.verticals, self.level = tuple(verticals), level
        sizes = torch.tensor(self.verticals)
        group = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        start = sizes.sqrt() if init == "sqrt" else torch.full((len(sizes),), float(init))
        start = start[group] if level == "class" else start
        start = start.to(device=device, dtype=dtype or torch.get_default_dtype())
        if init == "sqrt" and learnable:
            start = start + 1e-3 * torch.randn_like(start)
        self.register_buffer("group", group.to(device), persistent=False)
        if learnable:
            self.gamma = nn.Parameter(start)
        else:
            self.register_buffer("gamma", start)

    def forward(self, x: Tensor) -> Tensor:
        """Rescaled logits; a length of 0 counts as 1e-12."""
        squares = x.new_zeros(*x.shape[:-1], len(self.verticals)).index_add(-1, self.group, x.square())
        length = squares.clamp_min(1e-24).sqrt()[..., self.group]
        return x / length * (self.gamma if self.level == "class" else self.gamma[self.group])

    def extra_repr(self) -> str:
        return f"verticals={self.verticals}, level={self.level}"
