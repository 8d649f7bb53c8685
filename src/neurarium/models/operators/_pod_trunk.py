"""A trunk that is computed from the answers, not trained: their principal components."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers._exact_buffers import ExactBuffers


class PODTrunk(ExactBuffers):
    """The mean and the leading principal components of answers at known places (Lu et al. 2022, POD-DeepONet).

    The branch then has to say how much of each component an answer has. Use ``transform=trunk.add_mean`` in `DeepONet`,
    which adds the mean answer. It knows the places that it was made of and no others:
    one counts as known that is ten times nearer to it than to any other.

    Args:
        s: answers of the training functions at shared places.
        y: the places.
        width: components to keep.

    Shape:
        y: [..., dim]; output: [..., width].

    Raises:
        ValueError: more components than functions or places, or answers and places that do not fit.
    """

    exact: ClassVar = ("places",)
    places: Tensor
    components: Tensor
    mean: Tensor

    def __init__(self, s: Float[Tensor, "functions places"], y: Float[Tensor, "places dim"], width: int) -> None:
        super().__init__()
        if s.dim() != 2 or y.dim() != 2 or s.shape[1] != len(y):
            raise ValueError(f"s must be [functions, {len(y)} places] for y {list(y.shape)}, not {list(s.shape)}")
        if not 1 <= width <= min(s.shape):
            raise ValueError(f"width must be between 1 and {min(s.shape)}, not {width}")
        mean = s.mean(0)
        _, _, components = torch.linalg.svd(s - mean, full_matrices=False)
        self.register_buffer("places", y.detach().clone())
        self.register_buffer("mean", mean.detach())
        # of size 1 on average, as a trained trunk's numbers are
        self.register_buffer("components", (components[:width].mT * len(y) ** 0.5).detach().contiguous())

    def forward(self, y: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows width"]:
        """The components at places.

        Raises:
            ValueError: a place that is not among those of the training.
        """
        found: Tensor = self.components[self._find(y)]
        return found

    def add_mean(self, u: Tensor, y: Tensor, s: Float[Tensor, "*rows outputs"]) -> Float[Tensor, "*rows outputs"]:
        """``s`` plus the mean answer at ``y``; `DeepONet`'s ``transform``."""
        return s + self.mean[self._find(y)][..., None]

    def _find(self, y: Tensor) -> Tensor:
        if y.shape[-1] != self.places.shape[1]:
            raise ValueError(f"y must have {self.places.shape[1]} coordinates, not {y.shape[-1]}")
        if y.shape == self.places.shape and torch.equal(y, self.places):
            return torch.arange(len(y), device=y.device)
        distance = torch.cdist(y.reshape(-1, y.shape[-1]).float(), self.places.float())
        nearest, index = distance.topk(min(2, len(self.places)), largest=False)
        if bool((nearest[:, 0] > 0.1 * nearest[:, -1]).any()) and len(self.places) > 1:
            raise ValueError("PODTrunk knows the training's places alone; use a trained trunk for others")
        return index[:, 0].view(y.shape[:-1])
