"""A Kolmogorov-Arnold network with named edges as a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers import KANLinear
from neurarium.models.kan._kan import KAN
from neurarium.models.kan._symbolic import SymbolicKANLinear


@dataclass(frozen=True)
class Formula:
    """A network written out.

    Args:
        expressions: one sympy expression for each output.
        names: the inputs' symbols.
        error: root mean square of the difference from the network, for each output; empty where no inputs were given.
    """

    expressions: tuple[Any, ...]
    names: tuple[str, ...]
    error: tuple[float, ...]

    def latex(self) -> list[str]:
        """Each output in LaTeX."""
        import sympy

        return [sympy.latex(expression) for expression in self.expressions]

    def __call__(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        """The formula's own values, for the check."""
        import sympy

        symbols = sympy.symbols(list(self.names))
        columns = [column.detach().double().cpu().numpy() for column in x.t()]
        outputs = [
            np.broadcast_to(sympy.lambdify(symbols, expression, "numpy")(*columns), len(x)).astype(np.float64)
            for expression in self.expressions
        ]
        return torch.from_numpy(np.stack(outputs, 1)).to(x)

    def __str__(self) -> str:
        return "\n".join(map(str, self.expressions))


def formula(
    model: KAN,
    names: Sequence[str] | None = None,
    x: Float[Tensor, "batch inputs"] | None = None,
    digits: int = 4,
) -> Formula:
    """What a network computes, in sympy; its edges must have names (`snap`).

    Args:
        model: the network.
        names: of the inputs; ``x_1, x_2 ...`` by default.
        x: inputs on which the rounded formula is compared with the network.
        digits: to which numbers are rounded; what is below the fourth digit after them is 0.

    Raises:
        ValueError: an edge is still a curve (all are listed), or the number of names is wrong.
    """
    import sympy

    left = [
        f"layer {level}: {i} -> {j}"
        for level, layer in enumerate(model.layers)
        for j, i in (layer.mask if isinstance(layer, KANLinear) else layer.curves_left).nonzero().tolist()
    ]
    if left:
        raise ValueError(f"these edges are still curves, snap them first: {'; '.join(left)}")
    inputs = model.widths[0]
    names = [f"x_{i + 1}" for i in range(inputs)] if names is None else list(names)
    if len(names) != inputs:
        raise ValueError(f"names must be {inputs}, one for each input, not {len(names)}")
    values: list[Any] = list(sympy.symbols(names))
    for level, layer in enumerate(model.layers):
        sums = _sums(layer, values, digits)
        products = model.products[level + 1]
        plain = len(sums) - 2 * products
        values = sums[:plain] + [sums[plain + 2 * p] * sums[plain + 2 * p + 1] for p in range(products)]
    result = Formula(tuple(values), tuple(names), ())
    if x is None:
        return result
    with torch.no_grad():
        difference = result(x) - model(x)
    return Formula(tuple(values), tuple(names), tuple(difference.square().mean(0).sqrt().tolist()))


def _sums(layer: Any, values: list[Any], digits: int) -> list[Any]:
    import sympy

    def number(t: Tensor) -> Any:
        value = float(t.detach())
        return sympy.Integer(0) if abs(value) < 10 ** -(digits + 4) else sympy.Float(value, digits)

    bias = layer.bias if isinstance(layer, KANLinear) else layer.numeric.bias
    sums = [sympy.Integer(0) if bias is None else number(bias[j]) for j in range(layer.out_features)]
    if isinstance(layer, SymbolicKANLinear):
        for j, i, name in layer.named_edges():
            a, b, c, d = (number(t) for t in layer.affine[:, j, i])
            if c == 0:
                sums[j] += d
            else:
                sums[j] += c * layer.library[name].sympy(sympy, a * values[i] + b) + d
    return sums
