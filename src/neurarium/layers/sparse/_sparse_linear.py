"""A linear layer that stores, multiplies and trains only its kept weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear as dense_product

from neurarium.layers._conversion import Conversion, swap
from neurarium.layers.sparse._sparse_pattern import draw_positions
from neurarium.layers.sparse._sparse_product import SparseProduct, csr_matrix

STORAGES = ("auto", "csr", "mask")
DENSE: dict[type[nn.Module] | str, str] = {
    "Conv1D": "transformers' Conv1D is no torch layer and stays dense",
    nn.MultiheadAttention: "its packed projection (in_proj_weight) is not a layer and stays dense",
    nn.RNNBase: "the weights of recurrent layers stay dense",
    nn.RNNCellBase: "the weights of recurrent cells stay dense",
}
"""Layers with matrices that cannot be made sparse ones -> why."""


class SparseLinear(nn.Module):
    """``y = x Wᵀ + b`` with ``W`` in compressed sparse row form.

    The pattern is fixed; the kept weights (`values`) are an ordinary parameter, so any optimizer trains them and keeps
    its state for them alone. Worth it from about 90 % zeros: eight bytes per kept weight in single precision, and time
    that falls with the density. With ``storage="csr"`` no dense matrix is ever made and no other weight gradient is
    computed (single and double precision only); with ``"mask"`` each pass writes the values into a dense matrix first,
    which is faster where the layer is small or not very sparse. Outputs and gradients are the same.

    Args:
        in_features: size of each input row.
        out_features: size of each output row.
        density: share of the weights that exist; their places are drawn at random. Use `from_linear` for given ones.
        bias: add a learned bias.
        storage: ``"csr"``, ``"mask"``, or ``"auto"`` for what is faster on a CPU: ``"csr"`` from 2^16 places and up to
            a density of 0.15.
        generator: source of the pattern and the initial values.
        device: as in `torch.nn.Linear`.
        dtype: as in `torch.nn.Linear`.

    Raises:
        ValueError: ``density`` is not in (0, 1], or an unknown ``storage``.
    """

    crow: Tensor
    col: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        density: float = 0.1,
        bias: bool = True,
        *,
        storage: str = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 < density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, not {density}")
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}, not {storage!r}")
        self.storage = storage
        self.in_features = in_features
        self.out_features = out_features
        total = in_features * out_features
        count = max(1, round(density * total))
        kept = draw_positions(total, count, generator=generator)
        self.register_buffer("crow", _row_pointers(kept // in_features, out_features).to(device))
        self.register_buffer("col", (kept % in_features).to(device, torch.int32))
        bound = self.initial_bound(count)
        draws = torch.empty(count, dtype=dtype).uniform_(-bound, bound, generator=generator)
        self.values = nn.Parameter(draws.to(device))
        if bias:
            draws = torch.empty(out_features, dtype=dtype).uniform_(-bound, bound, generator=generator)
            self.bias = nn.Parameter(draws.to(device))
        else:
            self.register_parameter("bias", None)
        self._derived: dict[str, tuple[Tensor, int, Any]] = {}

    @classmethod
    def from_linear(cls, linear: nn.Linear, mask: Tensor | None = None, storage: str = "auto") -> SparseLinear:
        """The same map as a dense layer's, with the weights that are not zero (or that ``mask`` marks).

        A kept weight that happens to be zero is only kept through ``mask``.

        Raises:
            ValueError: no weight is kept, or the mask's shape is not the weight's.
        """
        weight = linear.weight.detach()
        keep = weight != 0 if mask is None else mask.bool().to(weight.device)
        if keep.shape != weight.shape:
            raise ValueError(f"mask must have shape {tuple(weight.shape)}, not {tuple(keep.shape)}")
        rows, columns = keep.nonzero(as_tuple=True)
        if len(rows) == 0:
            raise ValueError("the layer has no weight left: a sparse layer needs at least one")
        layer = cls(
            linear.in_features,
            linear.out_features,
            density=len(rows) / weight.numel(),
            bias=linear.bias is not None,
            storage=storage,
            generator=torch.Generator(),
            device=weight.device,
            dtype=weight.dtype,
        )
        layer.crow = _row_pointers(rows, linear.out_features)
        layer.col = columns.int()
        layer.values = nn.Parameter(weight[rows, columns].clone(), requires_grad=linear.weight.requires_grad)
        if linear.bias is not None:
            layer.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=linear.bias.requires_grad)
        return layer.train(linear.training)

    def to_linear(self) -> nn.Linear:
        """The same map as a dense layer."""
        values = self.values
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device=values.device, dtype=values.dtype
        )
        with torch.no_grad():
            linear.weight.copy_(self.dense_weight())
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    def dense_weight(self) -> Float[Tensor, "out_features in_features"]:
        """The weight matrix with its zeros, detached."""
        return csr_matrix(self.crow, self.col, self.values.detach(), self.out_features, self.in_features).to_dense()

    def positions(self) -> Tensor:
        """Places of the kept weights in the flattened weight matrix, in the order of `values`."""
        rows = torch.repeat_interleave(self.crow.diff().long())
        return rows * self.in_features + self.col

    def set_positions(self, positions: Tensor) -> None:
        """Move the kept weights to other places, sorted and as many as there are `values`.

        Raises:
            ValueError: their number is not that of the values.
        """
        if positions.shape != self.values.shape:
            raise ValueError(f"there are {self.values.numel()} values but {positions.numel()} positions")
        self.crow = _row_pointers(positions // self.in_features, self.out_features)
        self.col = (positions % self.in_features).int()

    def initial_bound(self, count: int) -> float:
        """Linear's bound ``1/√fan_in`` with the mean number of inputs that a unit really has."""
        return max(1.0, count / self.out_features) ** -0.5

    def transposed(self, y: Float[Tensor, "batch out_features"]) -> Float[Tensor, "batch in_features"]:
        """``y W``, without the bias and without a gradient: what a reconstruction needs."""
        crow, col, order = self._transpose()
        product: Tensor = torch.ops.neurarium.csr_product(
            y.detach().contiguous(), self.values.detach()[order], crow, col
        )
        return product

    @property
    def density(self) -> float:
        """Share of the weights that exist."""
        return self.values.numel() / (self.in_features * self.out_features)

    @property
    def stores(self) -> str:
        """``"csr"`` or ``"mask"``: how a pass multiplies now."""
        if self.storage != "auto":
            return self.storage
        large = self.in_features * self.out_features >= 2**16
        single_or_double = self.values.dtype in (torch.float32, torch.float64)
        return "csr" if large and self.density <= 0.15 and single_or_double else "mask"

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Apply the map to the last dimension."""
        if self.stores == "mask":
            places = self._of_pattern("places", self.positions)
            empty = self.values.new_zeros(self.out_features * self.in_features)
            weight = empty.index_put((places,), self.values).view(self.out_features, self.in_features)
            return dense_product(x, weight, self.bias)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(self.values.dtype)  # as it would cast the input of a dense layer
        rows = x.reshape(-1, self.in_features)
        output: Tensor = SparseProduct.apply(rows, self.values, self.crow, self.col, *self._transpose())
        output = output.view(*x.shape[:-1], self.out_features)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, density={self.density:.4g}, "
            f"bias={self.bias is not None}, storage={self.stores}"
        )

    def _transpose(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pattern of ``Wᵀ`` and the order of the values in it."""

        def derive() -> tuple[Tensor, Tensor, Tensor]:
            order = torch.sort(self.col, stable=True).indices
            rows = torch.repeat_interleave(self.crow.diff().long())
            return _row_pointers(self.col[order], self.in_features), rows[order].int(), order

        pattern: tuple[Tensor, Tensor, Tensor] = self._of_pattern("transposed", derive)
        return pattern

    def _of_pattern(self, name: str, derive: Callable[[], Any]) -> Any:
        """What follows from the pattern; renewed when the pattern changes."""
        known = self._derived.get(name)
        if known is None or known[0] is not self.col or known[1] != self.col._version:
            known = self._derived[name] = (self.col, self.col._version, derive())
        return known[2]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take the number of kept weights from the file, so that a checkpoint of any density loads."""
        saved = state_dict.get(f"{prefix}values")
        if isinstance(saved, Tensor) and saved.dim() == 1 and saved.shape != self.values.shape:
            self.values.data = self.values.data.new_empty(saved.shape)
            self.col = self.col.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def sparsify(model: nn.Module, max_density: float = 0.1, storage: str = "auto") -> Conversion:
    """A copy of a pruned model whose linear layers of low density are stored as `SparseLinear`.

    Args:
        model: a network with zeros in its weights; left untouched.
        max_density: layers with at most this share of non-zero weights are replaced.
        storage: as in `SparseLinear`.

    Returns:
        The copy, the layers that are sparse now, and those that are not: denser ones, and weights that torch's
        attention and recurrent layers read for themselves.

    Raises:
        ValueError: no linear layer is that sparse.
    """

    def replacement(name: str, layer: nn.Linear) -> nn.Module | str:
        share = int(layer.weight.count_nonzero()) / layer.weight.numel()
        if not 0 < share <= max_density:
            return f"{share:.1%} of its weights are left" if share else "no weight is left"
        return SparseLinear.from_linear(layer, storage=storage)

    return swap(
        model, nn.Linear, replacement, cannot=DENSE, looked_for=f"linear layers with at most {max_density:.0%} left"
    )


def _row_pointers(rows: Tensor, count: int) -> Tensor:
    """Where each of ``count`` rows starts in a list of entries sorted by row, and where the last one ends."""
    ends = torch.bincount(rows.long(), minlength=count).cumsum(0)
    return torch.cat([ends.new_zeros(1), ends]).int()
