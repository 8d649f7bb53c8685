"""A forward map: what a sensor sees of a field, differentiable in the field's values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

Field = Callable[[Tensor], Tensor]
"""Coordinates [*batch, points, dimensions] -> values [*batch, points, channels]."""


class ForwardMap(nn.Module, ABC):
    """y = F(field; parameters), in two parts: where the field is asked, and what the sensor makes of its values.

    Both parts are linear algebra on the last dimensions, work with any leading ones and under `torch.func.vmap`. Your
    own map is a subclass with two methods.
    """

    @abstractmethod
    def points(self, parameters: Tensor) -> Float[Tensor, "*batch points dimensions"]:
        """Coordinates at which the field is asked, for these parameters of the sensor."""

    @abstractmethod
    def forward(
        self, values: Float[Tensor, "*batch points channels"], parameters: Tensor
    ) -> Float[Tensor, "*batch readings channels"]:
        """Readings of the sensor from the field's values at `points`."""

    def describe(self, parameters: Float[Tensor, "batch sensors *shape"]) -> Float[Tensor, "batch sensors features"]:
        """What a network is told of each sensor: its parameters, as one vector."""
        return parameters.reshape(*parameters.shape[:2], -1)

    def observe(self, field: Field, parameters: Tensor) -> Tensor:
        """Readings of a field.

        Args:
            field: coordinates to values, a module or any function.
            parameters: of the sensor, as the map takes them.
        """
        return self(field(self.points(parameters)), parameters)
