"""A dense network in the parametrisation of the theory of wide networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import NTKLinear


class NTKMLP(nn.Module):
    """Hidden layers of equal width, without biases unless ``bias_std`` is set, whose kernels have a limit in width.

    With inputs of unit length its kernels at infinite width are ``scale`` times `neurarium.theory.ntk` and `nngp` of
    depth ``num_layers``, with scale = E phi(z)^2 / in_features: 1 / (2 in_features) for one layer of rectifiers.

    Args:
        in_features: inputs.
        width: of every hidden layer.
        out_features: outputs.
        num_layers: hidden layers.
        activation: phi.
        weight_std: scale of all weights.
        bias_std: scale of all biases; 0 for none.

    Raises:
        ValueError: num_layers is below 1.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        out_features: int,
        num_layers: int = 1,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        weight_std: float = 1.0,
        bias_std: float = 0.0,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, not {num_layers}")
        sizes = [in_features, *[width] * num_layers, out_features]
        self.layers = nn.ModuleList(NTKLinear(a, b, weight_std, bias_std) for a, b in itertools.pairwise(sizes))
        self.activation = activation

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Outputs; the last layer is linear."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
