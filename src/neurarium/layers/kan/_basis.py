"""What every basis of a Kolmogorov-Arnold layer is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

ALL = slice(None)


class Basis(nn.Module, ABC):
    """A fixed number of functions of one variable, evaluated at every input of a layer.

    A basis of your own needs ``size`` and `columns`. Everything in it works on numbers that stand alone: value and
    slope of one input never depend on another input or on another row of the batch.

    Attributes:
        size: how many functions there are.
        support: how many neighbouring functions can differ from zero at one point; 0 where all can. A basis with
            support has `local` too.
    """

    size: int
    support: int = 0

    @abstractmethod
    def columns(
        self, x: Float[Tensor, "inputs batch"], inputs: slice = ALL
    ) -> Float[Tensor, "inputs {self.size} batch"]:
        """The functions' values, inputs first.

        Args:
            x: some inputs of a layer, one in a row.
            inputs: which inputs of the layer these are; matters to a basis that differs between inputs.
        """

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        """Values and derivatives, both [inputs, size, batch]. By forward differentiation by default."""
        pair = torch.func.jvp(lambda z: self.columns(z, inputs), (x,), (torch.ones_like(x),))
        return pair[0], pair[1]

    def local(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor, Tensor]:
        """The first function that may differ from zero [inputs, batch], then values and slopes of the ``support``
        functions from it on, both [inputs, support, batch].
        """
        raise NotImplementedError(f"{type(self).__name__} has no local support")

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs {self.size}"]:
        """The functions' values at every input."""
        return self._rows_first(self.columns(_inputs_first(x)), x)

    def derivative(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs {self.size}"]:
        """The functions' derivatives at every input."""
        return self._rows_first(self.columns_and_slopes(_inputs_first(x))[1], x)

    @staticmethod
    def _rows_first(columns: Tensor, x: Tensor) -> Tensor:
        return columns.permute(2, 0, 1).reshape(*x.shape, columns.shape[1])


def _inputs_first(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).t()
