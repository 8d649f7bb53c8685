"""A feed-forward network of perceptrons and Kolmogorov-Arnold networks, among which a router chooses."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium.layers.kan._kan_linear import KANLinear
from neurarium.layers.kan._smooth_bases import SwitchBasis
from neurarium.layers.mixture._mixture_of_experts import MixtureOfExperts

CENTRES = 8
WIDTH = 0.33


def mlp_expert(d_model: int, hidden: int, **where: Any) -> nn.Sequential:
    """Two linear layers with GELU between them."""
    return nn.Sequential(nn.Linear(d_model, hidden, **where), nn.GELU(), nn.Linear(hidden, d_model, **where))


def kan_expert(d_model: int, hidden: int, basis: str = "switch", **where: Any) -> nn.Sequential:
    """Two Kolmogorov-Arnold layers.

    With the "switch" basis as FasterKAN has them: a LayerNorm, then 8 bumps at places from -2 to 2 and nothing else.
    Any other basis of `KANLinear` comes with its base function and without LayerNorm.
    """
    if basis != "switch":
        layers = [KANLinear(a, b, basis, grid_range=(-2.0, 2.0), **where) for a, b in _pairs(d_model, hidden)]
        return nn.Sequential(*layers)
    parts: list[nn.Module] = []
    for inputs, outputs in _pairs(d_model, hidden):
        bumps = SwitchBasis(CENTRES, (-2.0, 2.0), WIDTH)
        layer = KANLinear(inputs, outputs, bumps, base_activation=None, scale=False, **where)
        with torch.no_grad():
            nn.init.xavier_uniform_(layer.coefficients.view(outputs, -1))
        parts += [nn.LayerNorm(inputs, **where), layer]
    return nn.Sequential(*parts)


class MLPKAN(MixtureOfExperts):
    """Half perceptrons, half Kolmogorov-Arnold networks (He et al. 2024), in place of a feed-forward network.

    Args:
        d_model: width of a token.
        n_mlp: number of perceptrons.
        n_kan: number of Kolmogorov-Arnold networks.
        hidden: hidden width of a perceptron, ``d_model`` by default; the others have half of it.
        router: "top_k", as released, or "soft", as in the paper's text; see `MixtureOfExperts`.
        top_k: experts for each token; at most all of them.
        slots: of the "soft" router.
        balance: weight in `neurarium.objectives.load_balance`.
        causal: the place forbids a "soft" router.
        basis: of the Kolmogorov-Arnold networks: "switch" (FasterKAN, as released), "bspline", "fourier" ...
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: see `MixtureOfExperts`.
    """

    def __init__(
        self,
        d_model: int,
        n_mlp: int = 4,
        n_kan: int = 4,
        hidden: int | None = None,
        router: str = "top_k",
        top_k: int = 2,
        slots: int = 1,
        balance: float = 0.0,
        causal: bool = False,
        basis: str = "switch",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        hidden = d_model if hidden is None else hidden
        if min(n_mlp, n_kan) < 0 or hidden < 1:
            raise ValueError("n_mlp and n_kan must not be negative, and hidden at least 1")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        experts = [mlp_expert(d_model, hidden, **where) for _ in range(n_mlp)]
        experts += [kan_expert(d_model, max(1, hidden // 2), basis, **where) for _ in range(n_kan)]
        super().__init__(experts, d_model, router, top_k, slots, balance, causal)


def _pairs(d_model: int, hidden: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (d_model, hidden), (hidden, d_model)
