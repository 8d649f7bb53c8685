"""Any network, trained in a random subspace of few dimensions (Li et al., 2018; Lotfi et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call


class SubspaceModel(nn.Module):
    """A network whose parameters are ``theta_0 + Q w``: those that a seed draws, moved by a few coordinates ``w``.

    The columns of Q are Kronecker products of random signs, so that Q w is the product of two small matrices around
    ``w`` written as a rectangle: it takes about sqrt(dim) operations for each parameter, and next to no memory. Rows
    have norm 1, so a step of Adam moves a parameter about as far as it would without a subspace. Signs and first
    parameters come from the seed; all that is learned is in ``coordinates``.

    After `quantize`, coordinates are rounded to a codebook that is learned with them (the gradient passes the rounding
    straight through): what `code_model` writes down.

    Args:
        build: makes the network, drawing from torch's generator; the same network for the same state of it.
        dim: coordinates.
        seed: of the first parameters and the subspace.

    Raises:
        ValueError: ``dim`` is not between 1 and the number of parameters, or the network keeps statistics of its
            batches in buffers, which no coordinate describes (use group or layer norm).
    """

    def __init__(self, build: Callable[[], nn.Module], dim: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.module = build()
        if any(getattr(module, "track_running_stats", False) for module in self.module.modules()):
            raise ValueError("the network keeps running statistics, which no coordinate describes; use group norm")
        moved = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        size = sum(p.numel() for p in moved.values())
        if not 1 <= dim <= size:
            raise ValueError(f"dim must be between 1 and the {size} parameters of the network, not {dim}")
        self.names = tuple(moved)
        self.seed = seed
        for parameter in moved.values():
            parameter.requires_grad_(False)
        like = next(iter(moved.values()))
        self.columns = math.isqrt(dim)
        self.rows = -(-dim // self.columns)
        wide = math.isqrt(size - 1) + 1
        draw = torch.Generator().manual_seed(seed)
        for name, shape in (("left", (-(-size // wide), self.rows)), ("right", (self.columns, wide))):
            signs = 2 * torch.randint(2, shape, generator=draw) - 1
            self.register_buffer(name, signs.to(like) / math.sqrt(signs.shape[int(name == "left")]), persistent=False)
        self.left: Tensor
        self.right: Tensor
        self.coordinates = nn.Parameter(torch.zeros(dim, dtype=like.dtype, device=like.device))
        self.register_parameter("codebook", None)
        self.codebook: nn.Parameter | None

    def quantize(self, levels: int = 9) -> None:
        """From now on round coordinates to a codebook, which begins with evenly spaced values.

        Raises:
            ValueError: ``levels`` is not between 1 and 255.
        """
        if not 1 <= levels <= 255:
            raise ValueError(f"levels must be between 1 and 255, not {levels}")
        low, high = self.coordinates.detach().aminmax()
        places = torch.arange(levels, dtype=low.dtype, device=low.device) / max(levels - 1, 1)
        self.codebook = nn.Parameter(low + (high - low) * places if levels > 1 else (low + high)[None] / 2)

    @torch.no_grad()
    def indices(self) -> Int[Tensor, " dim"]:
        """The entry of the codebook nearest to each coordinate.

        Raises:
            ValueError: there is no codebook yet.
        """
        if self.codebook is None:
            raise ValueError("there is no codebook: call quantize first")
        return (self.coordinates[:, None] - self.codebook).abs().argmin(1)

    def used_coordinates(self) -> Float[Tensor, " dim"]:
        """The coordinates, rounded where there is a codebook."""
        if self.codebook is None:
            return self.coordinates
        return self.codebook[self.indices()] + self.coordinates - self.coordinates.detach()

    def parameters_now(self) -> dict[str, Tensor]:
        """The network's parameters at the coordinates, by name."""
        square = torch.zeros(self.rows * self.columns, dtype=self.left.dtype, device=self.left.device)
        square = torch.cat([self.used_coordinates(), square[len(self.coordinates) :]]).view(self.rows, self.columns)
        moves = (self.left @ square @ self.right).flatten()
        first = [self.module.get_parameter(name) for name in self.names]
        parts = moves[: sum(p.numel() for p in first)].split([p.numel() for p in first])
        return {name: p + part.view_as(p) for name, p, part in zip(self.names, first, parts, strict=True)}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the network gives at the coordinates."""
        return functional_call(self.module, self.parameters_now(), inputs, named)
