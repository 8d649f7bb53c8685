"""A layer with a learnable function of one variable on every edge, in place of a weight."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from neurarium.layers.kan._basis import Basis
from neurarium.layers.kan._basis_product import basis_linear
from neurarium.layers.kan._bspline import BSplineBasis
from neurarium.layers.kan._edge_statistics import edge_mean, edge_size, edge_std
from neurarium.layers.kan._grid import extend, inside, on_cpu, refined, sample_grid, transfer
from neurarium.layers.kan._smooth_bases import make_basis

NOISE = 0.3


class KANLinear(nn.Module):
    """Kolmogorov-Arnold layer: ``y_j = Σ_i φ_ji(x_i)``, ``φ(x) = w · base(x) + s · Σ_m c_m B_m(x)``.

    Liu et al., equation 2.10. Takes the place of `torch.nn.Linear`. An edge has as many coefficients ``c`` as the basis
    has functions, a weight ``w`` of its base function and a scale ``s``: ``grid_size + degree + 2`` numbers.
    Inputs should lie in the grid's range; beyond it only the base function is left. `update_grid` moves the grid to the
    inputs, `refine` makes it finer.

    Args:
        in_features: size of an input.
        out_features: size of an output.
        basis: "bspline", "fourier", "chebyshev", "radial", "switch", "wavelet", "relu", or a `Basis`. A name stands for
            ``grid_size + degree`` functions over the grid's range.
        grid_size: number of intervals of the grid.
        degree: of the splines; 3 is cubic.
        grid_range: ends of the grid.
        base_activation: base function: "silu", "identity", or None for none (and then no ``w``).
        scale: whether an edge has a trainable scale ``s`` (else it is 1).
        bias: whether a constant is added to each output.
        generator: of the initial values; torch's global one by default.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        x: [..., in_features]; output: [..., out_features].

    Raises:
        ValueError: a size below 1, an unknown basis or base function, or a grid that `BSplineBasis` refuses.
    """

    mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: str | Basis = "bspline",
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base_activation: str | None = "silu",
        scale: bool = True,
        bias: bool = False,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features and out_features must be at least 1, not {in_features} and {out_features}")
        if base_activation not in ("silu", "identity", None):
            raise ValueError(f"base_activation must be 'silu', 'identity' or None, not {base_activation!r}")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        if isinstance(basis, str):
            basis = make_basis(basis, in_features, grid_size, degree, grid_range, **where)
        self.in_features, self.out_features, self.base_activation = in_features, out_features, base_activation
        self.basis = basis
        edges = (out_features, in_features)
        self.coefficients = nn.Parameter(torch.empty(*edges, basis.size, **where))
        self.scale = nn.Parameter(torch.empty(edges, **where)) if scale else None
        self.base_weight = nn.Parameter(torch.empty(edges, **where)) if base_activation else None
        self.bias = nn.Parameter(torch.zeros(out_features, **where)) if bias else None
        self.register_buffer("mask", torch.ones(edges, dtype=torch.bool, device=device))
        self.reset_parameters(generator)

    @classmethod
    def like(cls, linear: nn.Linear, **options: Any) -> KANLinear:
        """A fresh layer of a linear layer's sizes, bias, device and dtype; for `swap`.

        Args:
            linear: the layer whose place it takes.
            options: any other arguments.
        """
        weight = linear.weight
        return cls(
            linear.in_features, linear.out_features, bias=linear.bias is not None, device=weight.device,
            dtype=weight.dtype, **options,
        )  # fmt: skip

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh values: the curves small noise (of the size of the output where there is no base function)."""
        bound = 1 / math.sqrt(self.in_features)
        noise = NOISE if self.base_activation else 1.0
        shape = (self.out_features, self.in_features)
        if isinstance(self.basis, BSplineBasis) and not self.basis.knots.is_meta:
            points = on_cpu(self.basis).columns(self.basis.grid.double().cpu())  # [inputs, functions, points]
            targets = self._uniform((*shape, self.basis.grid_size + 1), 0.5, generator) * (noise / self.basis.grid_size)
            fit = torch.linalg.pinv(points.mT).to(targets)
            self.coefficients.copy_(torch.einsum("oip,imp->oim", targets, fit))
        else:
            spread = noise * math.sqrt(3 / self.basis.size)
            self.coefficients.copy_(self._uniform(self.coefficients.shape, spread, generator))
        if self.base_weight is not None:
            self.base_weight.copy_(self._uniform(shape, bound, generator))
        if self.scale is not None:
            self.scale.fill_(bound)
        else:
            self.coefficients.mul_(bound)
        if self.bias is not None:
            self.bias.zero_()
        self.mask.fill_(True)

    @staticmethod
    def _uniform(shape: Any, bound: float, generator: torch.Generator | None) -> Tensor:
        device = "cpu" if generator is None else generator.device
        return (torch.rand(shape, generator=generator, device=device) * 2 - 1) * bound

    def curves(self) -> Float[Tensor, "outputs inputs functions"]:
        """Coefficients with the scale and the mask in them."""
        factor = self.mask.to(self.coefficients.dtype) if self.scale is None else self.scale * self.mask
        return self.coefficients * factor[..., None]

    def base(self, x: Tensor) -> Tensor:
        """The base function's value at every input."""
        return silu(x) if self.base_activation == "silu" else x

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:
        """Sum the edges into each output."""
        output = basis_linear(x, self.basis, self.curves())
        if self.base_weight is not None:
            return output + linear(self.base(x), self.base_weight * self.mask, self.bias)
        return output if self.bias is None else output + self.bias

    def edges(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs inputs"]:
        """The value of every edge by itself; rows × outputs × inputs numbers, so for few rows or small layers."""
        values = torch.einsum("bim,oim->boi", self.basis(x), self.curves())
        if self.base_weight is not None:
            values = values + self.base(x)[:, None] * (self.base_weight * self.mask)
        return values

    def edge_std(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "outputs inputs"]:
        """Standard deviation of every edge over a batch, exact and without its values: ``√(cᵀ Cov(B) c)``."""
        return edge_std(self, x)

    def edge_mean(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "outputs inputs"]:
        """Mean of every edge over a batch."""
        return edge_mean(self, x)

    def edge_size(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "outputs inputs"]:
        """Mean absolute value of every edge over a batch."""
        return edge_size(self, x)

    @torch.no_grad()
    def outside(self, x: Float[Tensor, "*batch inputs"]) -> float:
        """Share of the inputs that lie outside the grid, where only the base function is left."""
        grid = self._spline("outside").grid
        return float(((x < grid[:, 0]) | (x > grid[:, -1])).float().mean())

    @torch.no_grad()
    def update_grid(self, x: Float[Tensor, "*batch inputs"], uniform: float = 0.02) -> float:
        """Move the grid to where the inputs are and refit the curves on them by least squares.

        The function stays as far as the new grid can hold it. Inputs that do not vary keep their grid and coefficients.

        Args:
            x: inputs of this layer, a few hundred rows or more; few are allowed.
            uniform: share of an evenly spaced grid beside the inputs' quantiles, in (0, 1].

        Returns:
            Share of the inputs that lay outside the old grid.

        Raises:
            ValueError: an input is not finite (its column is named).
            TypeError: the basis has no grid.
        """
        basis = self._spline("update_grid")
        if not 0 < uniform <= 1:
            raise ValueError(f"uniform must be in (0, 1], not {uniform}")
        share = self.outside(x)
        points, varies = sample_grid(self._samples(x), basis.grid_size, uniform)
        knots = torch.where(varies[:, None], extend(points, basis.degree), basis.knots.double().cpu())
        self._refit(knots, self._samples(x), varies)
        return share

    @torch.no_grad()
    def refine(self, grid_size: int) -> None:
        """A finer grid and the same function: exactly so where the new size is a multiple of the old.

        The number of coefficients changes, so make the optimizer anew afterwards.

        Raises:
            ValueError: the new grid is coarser than the old one.
            TypeError: the basis has no grid.
        """
        basis = self._spline("refine")
        if grid_size < basis.grid_size:
            raise ValueError(f"grid_size must be at least the present {basis.grid_size}, not {grid_size}")
        knots = refined(basis.knots.double().cpu(), basis.degree, grid_size)
        self._refit(knots, inside(knots, basis.degree + 2), torch.ones(self.in_features, dtype=torch.bool))

    @torch.no_grad()
    def subset(self, outputs: Tensor | None = None, inputs: Tensor | None = None) -> KANLinear:
        """A layer of some of the outputs and inputs, given as masks; None means all. Its basis must be of splines."""
        basis = self._spline("subset")
        rows = slice(None) if outputs is None else outputs
        columns = slice(None) if inputs is None else inputs
        smaller = copy.deepcopy(self)
        assert isinstance(smaller.basis, BSplineBasis)
        smaller.basis.set_knots(basis.knots[columns])
        for name in ("coefficients", "scale", "base_weight"):
            values = getattr(self, name)
            if values is not None:
                setattr(smaller, name, nn.Parameter(values[rows][:, columns].clone(), values.requires_grad))
        if self.bias is not None:
            smaller.bias = nn.Parameter(self.bias[rows].clone(), self.bias.requires_grad)
        smaller.mask = self.mask[rows][:, columns]
        smaller.out_features, smaller.in_features = smaller.mask.shape
        return smaller

    def _refit(self, knots: Tensor, sites: Tensor, moved: Tensor) -> None:
        """Take other knots and the coefficients that fit the same curves on them; only those of moved inputs change."""
        basis = self._spline("a refit")
        old, new = on_cpu(basis), on_cpu(basis)
        new.set_knots(knots.to(basis.knots.dtype))  # as they will be rounded
        matrix = transfer(old, new, sites)
        if not moved.all():
            matrix[~moved] = torch.eye(new.size, dtype=torch.float64)
        fitted = torch.einsum("oim,inm->oin", self.coefficients.detach().double().cpu(), matrix)
        basis.set_knots(knots)
        fitted = fitted.to(self.coefficients).contiguous()
        if fitted.shape == self.coefficients.shape:  # the same parameter, so that an optimizer goes on with it
            self.coefficients.copy_(fitted)
        else:
            self.coefficients = nn.Parameter(fitted, self.coefficients.requires_grad)

    def _samples(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must have {self.in_features} inputs in its last dimension, not {x.shape[-1]}")
        x = x.detach().reshape(-1, self.in_features)
        if len(x) == 0:
            raise ValueError("x must have at least one row")
        bad = torch.isfinite(x).all(0).logical_not().nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"x must be finite; input {bad[0]} is not (columns: {bad[:10]})")
        return x.double().cpu() if x.device.type != "mps" else x.cpu().double()

    def _spline(self, what: str) -> BSplineBasis:
        if not isinstance(self.basis, BSplineBasis):
            raise TypeError(f"{what} needs a spline basis; {type(self.basis).__name__} has no grid")
        return self.basis

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "coefficients")
        fits = saved is not None and saved.shape[:2] == self.coefficients.shape[:2]
        refined = fits and isinstance(self.basis, BSplineBasis) and saved.shape != self.coefficients.shape
        if refined:  # the saved layer's grid
            empty = self.coefficients.detach().new_empty(saved.shape)
            self.coefficients = nn.Parameter(empty, self.coefficients.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, base_activation={self.base_activation!r}"
