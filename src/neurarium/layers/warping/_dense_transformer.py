"""A learned warp in an encoder and its reverse in the decoder (Li et al., 2017)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from neurarium.layers.warping._splat import splat
from neurarium.layers.warping._thin_plate import control_points, thin_plate_matrix
from neurarium.training import call, copy_module, evaluation, find_module


class DenseTransformer(nn.Module):
    """Bends a feature map by a thin plate spline that depends on it, and brings another map back by the same spline.

    Convolutions between `encode` and `decode` see patches of learned shape; behind `decode` every position has its
    value in its place again.

    Args:
        in_channels: of the map that decides on the warp.
        map_size: its height and width.
        points: rows and columns of control points; the release has one for every eight positions.
        localisation: maps [batch, in_channels, height, width] to 2 numbers in [-1, 1] for each control point; by
            default two linear layers with tanh, the first of 20 units.
        init: "identity" starts with no warp: control points are the regular ones plus ``reach`` times the
            localisation, whose last layer is zero. "release" has the control points themselves come out of the last
            tanh and starts with them at tanh of -5 to 5.
        reach: how far a control point may move, in half sides of the map.
    """

    matrix: Tensor
    regular: Tensor

    def __init__(
        self,
        in_channels: int,
        map_size: tuple[int, int],
        points: tuple[int, int] = (4, 4),
        localisation: nn.Module | None = None,
        init: Literal["identity", "release"] = "identity",
        reach: float = 1.0,
    ) -> None:
        super().__init__()
        if init not in ("identity", "release"):
            raise ValueError(f"init must be 'identity' or 'release', not {init!r}")
        self.map_size, self.init, self.reach = tuple(map_size), init, reach
        count = points[0] * points[1]
        self.register_buffer("matrix", thin_plate_matrix(points, map_size), persistent=False)
        self.register_buffer("regular", control_points(points), persistent=False)
        if localisation is None:
            first = nn.Linear(in_channels * map_size[0] * map_size[1], 20)
            last = nn.Linear(20, 2 * count)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if init == "release":
                nn.init.zeros_(first.weight)
                nn.init.normal_(first.bias, std=0.01)
                last.bias.data = 5 * control_points(points).flatten()
            localisation = nn.Sequential(nn.Flatten(), first, nn.Tanh(), last, nn.Tanh())
        self.localisation = localisation

    def forward(self, u: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width 2"]:
        """The grid for a map: where each position reads, -1 and 1 at the borders.

        Raises:
            ValueError: the map has another size than the layer was built for.
        """
        if tuple(u.shape[2:]) != self.map_size:
            raise ValueError(f"the warp was built for maps of {self.map_size}, not of {tuple(u.shape[2:])}")
        moved = self.localisation(u).view(len(u), -1, 2)
        control = self.regular + self.reach * moved if self.init == "identity" else moved
        return (self.matrix.to(control.dtype) @ control).view(len(u), *self.map_size, 2)

    def encode(self, u: Float[Tensor, "batch channels height width"]) -> tuple[Tensor, Tensor]:
        """The bent map, and the grid that `decode` needs."""
        grid = self(u)
        return grid_sample(u, grid.to(u.dtype), padding_mode="border", align_corners=False), grid

    def decode(
        self, v: Float[Tensor, "batch channels height width"], grid: Float[Tensor, "batch rows columns 2"]
    ) -> Float[Tensor, "batch channels height width"]:
        """A map in bent positions, back in straight ones; where nothing lands it keeps its own value.

        Raises:
            ValueError: the map has another size than the one that was bent.
        """
        if v.shape[2:] != grid.shape[1:3]:
            raise ValueError(
                f"the encoder's map is {tuple(grid.shape[1:3])} and the decoder's {tuple(v.shape[2:])}; "
                "a warp is undone at the size at which it was made"
            )
        return splat(v, grid, fallback=v)[0]


class _Pair(nn.Module):
    """A dense transformer between two modules of somebody's network."""

    def __init__(self, transformer: DenseTransformer, encoder: str, decoder: str) -> None:
        super().__init__()
        self.transformer, self.encoder, self.decoder = transformer, encoder, decoder
        self.grids: list[Tensor] = []

    def forward(self, x: Any) -> Any:
        """Nothing: it acts through hooks, and an `nn.Sequential` calls all its children."""
        return x

    def begin(self, *_: Any) -> None:
        """Forget the grid of a pass that was not finished."""
        self.grids = []

    def bend(self, _: nn.Module, __: Any, u: Tensor) -> Tensor:
        """Behind the encoder's module."""
        v, grid = self.transformer.encode(u)
        self.grids.append(grid)
        return v

    def restore(self, _: nn.Module, __: Any, v: Tensor) -> Tensor:
        """Behind the decoder's module."""
        if not self.grids:
            raise RuntimeError(f"{self.decoder} was used before {self.encoder}; there is no warp to undo")
        return self.transformer.decode(v, self.grids.pop())


def insert_dense_transformer(
    model: nn.Module, encoder: str, decoder: str, x: Any, *, points: tuple[int, int] = (4, 4), **options: Any
) -> nn.Module:
    """A copy of an encoder-decoder with a warp behind one of its modules and the reverse behind another.

    Several pairs may be put into one network, one call after the other.

    Args:
        model: any module.
        encoder: name of the module whose output is bent.
        decoder: name of the module, used later, whose output is bent back.
        x: a batch, as `training.call` takes it, that tells the sizes.
        points: as in `DenseTransformer`.
        options: further arguments of `DenseTransformer`.

    Returns:
        The copy; the new parameters are in its submodule ``dense_transformer`` (``dense_transformer_2`` ...).

    Raises:
        ValueError: an unknown module, or maps of unequal size.
    """
    changed = copy_module(model)
    sizes: dict[str, Tensor] = {}
    handles = [
        find_module(changed, name).register_forward_hook(lambda _, __, made, name=name: sizes.update({name: made}))
        for name in (encoder, decoder)
    ]
    with evaluation(changed), torch.no_grad():
        call(changed, x)
    for handle in handles:
        handle.remove()
    if sizes[encoder].shape[2:] != sizes[decoder].shape[2:]:
        raise ValueError(
            f"{encoder} gives maps of {tuple(sizes[encoder].shape[2:])}, {decoder} of "
            f"{tuple(sizes[decoder].shape[2:])}; both must have one size"
        )
    like = sizes[encoder]
    transformer = DenseTransformer(like.shape[1], (like.shape[2], like.shape[3]), points, **options)
    pair = _Pair(transformer.to(like.device, like.dtype), encoder, decoder)
    taken = sum(isinstance(module, _Pair) for module in changed.children())
    changed.add_module(f"dense_transformer_{taken + 1}" if taken else "dense_transformer", pair)
    changed.register_forward_pre_hook(pair.begin)
    find_module(changed, encoder).register_forward_hook(pair.bend)
    find_module(changed, decoder).register_forward_hook(pair.restore)
    return changed
