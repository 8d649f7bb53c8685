"""B-splines of any degree, with knots of their own for every input."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers.kan._basis import ALL, Basis


class BSplineBasis(Basis):
    """B-splines on a grid of ``grid_size`` intervals, extended by ``degree`` intervals on both sides.

    Inside the grid the ``grid_size + degree`` functions sum to 1; outside the extended grid all are 0. Knots are a
    buffer, the same for all inputs at first; `KANLinear.update_grid` moves them to where the inputs are. On equal
    intervals a closed form is used, otherwise the recursion of Cox and de Boor.

    Args:
        in_features: number of inputs, each with knots of its own.
        grid_size: number of intervals, at least 1.
        degree: of the polynomials, at least 0; 3 is cubic.
        grid_range: ends of the grid.
        device: where the knots live.
        dtype: of the knots.

    Raises:
        ValueError: the grid is empty, the degree negative or the range reversed.
    """

    knots: Tensor

    def __init__(
        self,
        in_features: int,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if grid_size < 1:
            raise ValueError(f"grid_size must be at least 1, not {grid_size}")
        if degree < 0:
            raise ValueError(f"degree must not be negative, not {degree}")
        low, high = map(float, grid_range)
        if not low < high:
            raise ValueError(f"grid_range must be (low, high) with low < high, not {grid_range}")
        self.degree = degree
        cells = torch.arange(-degree, grid_size + degree + 1, dtype=torch.float64)
        knots = low + cells * ((high - low) / grid_size)
        knots = knots.to(dtype or torch.get_default_dtype()).to(device)
        self.register_buffer("knots", knots.repeat(in_features, 1))
        self.equal_intervals = True

    @property
    def grid_size(self) -> int:
        """Number of intervals."""
        return self.knots.shape[1] - 2 * self.degree - 1

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of functions: ``grid_size + degree``."""
        return self.knots.shape[1] - self.degree - 1

    @property
    def support(self) -> int:  # type: ignore[override]
        """``degree + 1`` functions differ from zero at a point."""
        return self.degree + 1

    @property
    def grid(self) -> Float[Tensor, "inputs points"]:
        """The grid's points without its extension, ``grid_size + 1`` for each input."""
        return self.knots[:, self.degree : self.knots.shape[1] - self.degree]

    def set_knots(self, knots: Float[Tensor, "inputs knots"]) -> None:
        """Take other knots, extension included; their number may differ."""
        self.knots = knots.to(self.knots)
        self._look_at_intervals()

    def _look_at_intervals(self) -> None:
        intervals = self.knots.double().diff(dim=1)
        rounding = 8 * torch.finfo(self.knots.dtype).eps * self.knots.double().abs().amax(1, keepdim=True)
        self.equal_intervals = bool(((intervals - intervals.mean(1, keepdim=True)).abs() <= rounding).all())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "knots")
        if saved is not None and saved.dim() == 2 and len(saved) == len(self.knots):  # the grid may have been refined
            self.knots = self.knots.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not self.knots.is_meta:
            self._look_at_intervals()

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        return self._evaluate(x, inputs, slopes=False)[0]

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        return self._evaluate(x, inputs, slopes=True)

    def _evaluate(self, x: Tensor, inputs: slice, slopes: bool) -> tuple[Tensor, Tensor]:
        if self._closed_form:
            position, width = self._in_intervals(x, inputs)
            centres = torch.arange(self.size, dtype=x.dtype, device=x.device)[:, None] + (1 - self.degree) / 2
            return _cardinal(position[:, None] - centres, width[:, :, None], self.degree, slopes)
        return _cox_de_boor(x[:, None], self.knots[inputs].to(x.dtype)[..., None], self.degree, slopes)

    def local(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor, Tensor]:
        k = self.degree
        if self._closed_form:
            position, width = self._in_intervals(x, inputs)
            first = position.floor().nan_to_num(0.0).clamp(0, self.grid_size - 1)
            centres = torch.arange(k + 1, dtype=x.dtype, device=x.device)[:, None] + (1 - k) / 2
            return first.long(), *_cardinal((position - first)[:, None] - centres, width[:, :, None], k, slopes=True)
        knots = self.knots[inputs].to(x.dtype)
        inner = knots[:, k + 1 : knots.shape[1] - k - 1].contiguous()
        first = torch.searchsorted(inner, x.contiguous(), right=True)
        around = first[:, None] + torch.arange(2 * k + 2, device=x.device)[:, None]
        near = knots.gather(1, around.flatten(1)).view(around.shape)
        return first, *_cox_de_boor(x[:, None], near, k, slopes=True)

    @property
    def _closed_form(self) -> bool:
        return self.equal_intervals and 2 <= self.degree <= 5  # its rounding error grows with the degree

    def _in_intervals(self, x: Tensor, inputs: slice) -> tuple[Tensor, Tensor]:
        """Inputs counted in intervals from the grid's lower end, and the width of an interval [inputs, 1]."""
        knots = self.knots[inputs].to(x.dtype)
        width = (knots[:, -1:] - knots[:, :1]) / (knots.shape[1] - 1)
        return (x - knots[:, self.degree : self.degree + 1]) / width, width


def _cardinal(offset: Tensor, width: Tensor, degree: int, slopes: bool) -> tuple[Tensor, Tensor]:
    """The B-spline of equal intervals, ``offset`` intervals from its centre, and its slope by truncated powers."""
    half = (degree + 1) / 2
    distance = offset.abs()
    values = rises = None
    for j in range(math.ceil(half)):
        reach = (half - j - distance).relu_()
        factor = (-1) ** j * math.comb(degree + 1, j)
        power = reach ** (degree - 1)
        term = power * reach
        values = term if values is None else values.add_(term, alpha=factor)
        if slopes:
            rises = power if rises is None else rises.add(power, alpha=factor)
    assert values is not None
    values = values.mul_(1 / math.factorial(degree))
    if rises is None:
        return values, values
    return values, offset.sign().mul_(-1 / (math.factorial(degree - 1) * width)).mul(rises)


def _cox_de_boor(x: Tensor, knots: Tensor, degree: int, slopes: bool) -> tuple[Tensor, Tensor]:
    """All B-splines on some knots.

    Args:
        x: [inputs, 1, batch].
        knots: [inputs, knots, 1], or [inputs, knots, batch] where every number comes with knots of its own.
        degree: of the splines.
        slopes: whether the second tensor is wanted.

    Returns:
        Values and derivatives, both [inputs, knots - degree - 1, batch].
    """
    beyond = x - knots
    passed = (beyond >= 0).to(x.dtype)
    values = passed[:, :-1] - passed[:, 1:]
    rises = torch.zeros_like(values) if slopes and not degree else values
    for k in range(1, degree + 1):
        width = knots[:, k:] - knots[:, :-k]
        inverse = torch.where(width > 0, 1 / width.clamp_min(torch.finfo(width.dtype).tiny), 0.0)
        share = beyond[:, :-k] * inverse * values
        if slopes and k == degree:
            steep = values * inverse
            rises = (steep[:, :-1] - steep[:, 1:]) * k
        values = share[:, :-1] - share[:, 1:] + values[:, 1:]
    return values, rises
