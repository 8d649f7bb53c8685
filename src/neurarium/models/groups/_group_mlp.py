"""One hidden layer on two elements of a group."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, relu
from torch.nn.utils import skip_init


class ElementRows(nn.Module):
    """A row for each element: weights, or an embedding times a linear map.

    Args:
        order: number of elements.
        width: of the rows.
        inner: width of the embedding; 0 for none.
        generator: of the initial weights.
    """

    def __init__(self, order: int, width: int, inner: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.empty(order, inner or width))
        nn.init.normal_(self.embed, std=(inner or width) ** -0.5, generator=generator)
        self.lift = nn.Parameter(torch.empty(inner, width)) if inner else None
        if self.lift is not None:
            nn.init.normal_(self.lift, std=(2 * inner) ** -0.5, generator=generator)  # two sides add up

    def table(self) -> Float[Tensor, "order width"]:
        """All rows."""
        return self.embed if self.lift is None else self.embed @ self.lift

    def forward(self, elements: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """Rows of some elements: the product is formed once for each element, not once for each pair."""
        return embedding(elements, self.table())


class GroupMLP(nn.Module):
    """W act(L[a] + R[b]) with a row of L and R for each element and no biases (arXiv 2302.03025, 2509.06931).

    Args:
        order: number of elements.
        width: hidden units.
        embedding: width of embeddings between elements and hidden layer: L and R are then products of an embedding
            and a linear map, as in Chughtai et al.; 0 for none: L and R are weights themselves, as in Shutman et al.
        activation: of the hidden layer.
        generator: of the initial weights, normal of deviation 1/√(width that they sum over); torch's global one by
            default.

    Raises:
        ValueError: a size out of range.
    """

    def __init__(
        self,
        order: int,
        width: int,
        embedding: int = 0,
        activation: Callable[[Tensor], Tensor] = relu,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(order, width) < 1 or embedding < 0:
            raise ValueError(
                f"order and width must be at least 1 and embedding at least 0, not {order}, {width} and {embedding}"
            )
        self.left = ElementRows(order, width, embedding, generator)
        self.right = ElementRows(order, width, embedding, generator)
        self.activation = activation
        self.unembed = skip_init(nn.Linear, width, order, bias=False)
        nn.init.normal_(self.unembed.weight, std=width**-0.5, generator=generator)

    def forward(self, pairs: Int[Tensor, "batch 2"]) -> Float[Tensor, "batch order"]:
        """Logits of the result."""
        return self.unembed(self.activation(self.left(pairs[:, 0]) + self.right(pairs[:, 1])))

    @torch.no_grad()
    def element_tables(self) -> dict[str, Float[Tensor, "order width"]]:
        """What each element adds to the hidden layer from the left and from the right, and its row of the read-out."""
        return {"left": self.left.table(), "right": self.right.table(), "unembed": self.unembed.weight}
