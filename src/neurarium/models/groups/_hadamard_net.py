"""The bilinear network f_z(x, y) = Σ_k U_kx V_ky W_kz."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import skip_init


class HadamardNet(nn.Module):
    """Logits for every element from the product of two embeddings, entry by entry (arXiv 2302.03025, 2509.06931).

    It computes exactly the tensors [order, order, order] of rank at most ``width``. ``left``, ``right`` and ``unembed``
    have a row for each element.

    Args:
        order: number of elements.
        width: number of products.
        generator: of the initial weights, normal of deviation 1/√width; torch's global one by default.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, order: int, width: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if min(order, width) < 1:
            raise ValueError(f"order and width must be at least 1, not {order} and {width}")
        self.left, self.right = (skip_init(nn.Embedding, order, width) for _ in range(2))
        self.unembed = skip_init(nn.Linear, width, order, bias=False)
        for table in (self.left, self.right, self.unembed):
            nn.init.normal_(table.weight, std=width**-0.5, generator=generator)

    @classmethod
    def from_factors(
        cls,
        left: Float[Tensor, "order width"],
        right: Float[Tensor, "order width"],
        unembed: Float[Tensor, "order width"],
    ) -> HadamardNet:
        """The network whose tensor has these factors, in their precision and on their device.

        Args:
            left: of the first element.
            right: of the second element.
            unembed: of the result.
        """
        net = cls(*left.shape, generator=torch.Generator())
        for table, factor in ((net.left, left), (net.right, right), (net.unembed, unembed)):
            table.weight = nn.Parameter(factor.detach().clone())
        return net

    def forward(self, pairs: Int[Tensor, "batch 2"]) -> Float[Tensor, "batch order"]:
        """Logits of the result."""
        return self.unembed(self.left(pairs[:, 0]) * self.right(pairs[:, 1]))

    @torch.no_grad()
    def tensor(self) -> Float[Tensor, "order order order"]:
        """Logits of all pairs [x, y, z]."""
        return torch.einsum("xk,yk,zk->xyz", self.left.weight, self.right.weight, self.unembed.weight)

    @torch.no_grad()
    def element_tables(self) -> dict[str, Float[Tensor, "order width"]]:
        """Each element's two embeddings and its row of the read-out."""
        return {"left": self.left.weight, "right": self.right.weight, "unembed": self.unembed.weight}
