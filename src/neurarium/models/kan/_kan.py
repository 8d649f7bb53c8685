"""A network of Kolmogorov-Arnold layers, with nodes that sum and nodes that multiply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import KANLinear


class KAN(nn.Module):
    """Kolmogorov-Arnold network (Liu et al. 2024; product nodes: KAN 2.0, Liu et al. 2024b).

    Between layers nothing but nodes: a sum node takes one output of the layer before it, a product node multiplies two.
    For a smooth function of a few variables train it with L-BFGS (`train_kan`); `KANPruning`, `snap` and `formula` then
    make a formula of it.

    Args:
        widths: number of inputs, of sum nodes in each hidden layer, and of outputs.
        products: number of product nodes beside them for each entry of ``widths``; the first must be 0. None means no
            products.
        grid_size: number of intervals of each edge's spline.
        degree: of the splines.
        grid_range: ends of the first grids.
        base_activation: "silu", "identity" or None.
        generator: of the initial values.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: fewer than two widths, or products that do not fit them.
    """

    def __init__(
        self,
        widths: Sequence[int],
        products: Sequence[int] | None = None,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base_activation: str | None = "silu",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        products = [0] * len(widths) if products is None else list(products)
        if len(widths) < 2:
            raise ValueError(f"widths must name at least the inputs and the outputs, not {list(widths)}")
        if len(products) != len(widths) or products[0] or min(products) < 0:
            raise ValueError(f"products must be one number for each width, the first 0, not {products}")
        self.products: tuple[int, ...] = tuple(products)
        self.layers: Any = nn.ModuleList(
            KANLinear(
                widths[i] + products[i], widths[i + 1] + 2 * products[i + 1], grid_size=grid_size, degree=degree,
                grid_range=grid_range, base_activation=base_activation, generator=generator, device=device, dtype=dtype,
            )
            for i in range(len(widths) - 1)
        )  # fmt: skip

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, sum nodes of each hidden layer, outputs; as they are now."""
        outputs = (layer.out_features - 2 * p for layer, p in zip(self.layers, self.products[1:], strict=True))
        return (self.layers[0].in_features, *outputs)

    def nodes(self, sums: Float[Tensor, "*batch sums"], layer: int) -> Float[Tensor, "*batch nodes"]:
        """The nodes behind a layer from its outputs: the last ``2 * products`` of them are multiplied in pairs."""
        products = self.products[layer + 1]
        if not products:
            return sums
        plain, factors = sums.split([sums.shape[-1] - 2 * products, 2 * products], -1)
        return torch.cat([plain, factors[..., ::2] * factors[..., 1::2]], -1)

    def trace(self, x: Float[Tensor, "*batch inputs"]) -> list[Tensor]:
        """The values of all nodes: the inputs, each hidden layer's, the outputs."""
        values = [x]
        for i, layer in enumerate(self.layers):
            values.append(self.nodes(layer(values[-1]), i))
        return values

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The outputs."""
        return self.trace(x)[-1]

    @torch.no_grad()
    def update_grid(self, x: Float[Tensor, "batch inputs"], uniform: float = 0.02) -> float:
        """Move every layer's grid to its inputs on a batch, first layer first; see `KANLinear.update_grid`.

        Returns:
            Share of all layers' inputs that lay outside the old grids.
        """
        shares = []
        for i, layer in enumerate(self.layers):
            if hasattr(layer, "update_grid"):
                shares.append(layer.update_grid(x, uniform))
            x = self.nodes(layer(x), i)
        return sum(shares) / max(1, len(shares))

    def refine(self, grid_size: int) -> None:
        """Every layer on a finer grid and the function the same; make the optimizer anew afterwards."""
        for layer in self.layers:
            if hasattr(layer, "refine"):
                layer.refine(grid_size)
