"""Real-valued data as spins, for associative memories."""

from __future__ import annotations

import torch
from torch import Tensor


def binarise(x: Tensor, threshold: Tensor | float | None = None) -> Tensor:
    """Entries above the threshold become +1, the others -1.

    Args:
        x: ``[num_examples, ...]``, of any numeric dtype.
        threshold: one number, or one for each entry; the mean of ``x`` over its examples by default. Give the mean of
            the training data when binarising anything else.

    Returns:
        ``[num_examples, features]``, float32.

    Raises:
        ValueError: there is no example.
    """
    if not len(x):
        raise ValueError("x holds no example")
    values = x.double()
    level = values.mean(0) if threshold is None else torch.as_tensor(threshold, dtype=values.dtype, device=x.device)
    return ((values > level).float() * 2 - 1).flatten(1)
