"""The same spring on every weight: what elastic weight consolidation is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Task
from neurarium.continual.regularization._anchored import AnchoredStrategy, Mode


class L2Anchor(AnchoredStrategy):
    """strength / 2 * sum_t |theta - theta*_t|^2: every weight is held as if it mattered equally (Fig. 2A, "L2").

    Args:
        model: any module.
        strength: lambda.
        mode, decay, grow, implicit, infer_task: see `AnchoredStrategy`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        strength: float = 1.0,
        mode: Mode = "separate",
        decay: float = 1.0,
        grow: bool = False,
        implicit: bool = False,
        infer_task: Callable[[Any], Task] | None = None,
    ) -> None:
        super().__init__(
            model, strength=strength, mode=mode, decay=decay, grow=grow, implicit=implicit, infer_task=infer_task
        )  # fmt: skip

    def importance(self, loader: Iterable[Any] | None) -> dict[str, Tensor]:
        """One for every weight; no data needed."""
        return {name: torch.ones_like(p) for name, p in self.anchored().items()}
