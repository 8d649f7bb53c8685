"""What turns a row of attention scores into weights: softmax, or a learnable operator."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from neurarium.layers.attention._fourier_sum import fourier_sum
from neurarium.layers.attention._simplex import project_simplex
from neurarium.layers.kan._basis import Basis
from neurarium.layers.kan._basis_product import basis_linear
from neurarium.layers.kan._smooth_bases import make_basis

BASES = ("zero", "silu", "identity")


class SoftmaxOperator(nn.Module):
    """The usual one: exponentials that sum to 1."""

    def forward(
        self, scores: Float[Tensor, "*batch queries keys"], keep: Bool[Tensor, "*#batch #queries keys"] | None = None
    ) -> Float[Tensor, "*batch queries keys"]:
        """Weights of scores; keys that are not kept get none."""
        return (scores if keep is None else scores.masked_fill(~keep, -torch.inf)).softmax(-1)


class AttentionOperator(nn.Module):
    """A learnable operator on rows of scores: every weight is a sum of functions of all scores (Maity et al. 2025).

    ``weights = W Φ(scores)``: ``Φ`` sums ``w_b b(x) + w_s f(x)`` over the keys, a function for each of them and each of
    ``rank`` numbers, and ``W`` spreads these numbers over the keys again. Weights may be negative and need not sum
    to 1. The functions belong to positions, so the number of keys is fixed.

    With the Fourier basis, cosines and sines come one frequency at a time and are made again in the backward pass.

    Args:
        num_tokens: number of keys.
        nhead: number of heads, each with an operator of its own; 1 serves any number of heads.
        rank: of the operator; by default 12, as in all of the paper's experiments, or ``num_tokens`` if that is less.
        basis: "fourier", "linear" (no function, ``W M scores`` of the same rank: what is left without learnable
            functions), another name that `KANLinear` knows, or a `Basis`.
        grid_size: number of frequencies; for other bases the size of the grid.
        base: "zero" (the paper's best), "silu" or "identity".
        project: "simplex" for weights that are the nearest ones (Euclidean) that are not negative and sum to 1.
        init: "scaled": functions whose sum over the keys is of order one; "paper": coefficients of deviation 1.
        generator: of the initial values; torch's global one by default.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        scores: [..., nhead, queries, num_tokens], and weights too.

    Raises:
        ValueError: a rank above the number of keys, a size below 1, or an unknown name.
    """

    def __init__(
        self,
        num_tokens: int,
        nhead: int = 1,
        rank: int | None = None,
        basis: str | Basis = "fourier",
        grid_size: int = 3,
        base: str = "zero",
        project: str | None = None,
        init: str = "scaled",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        rank = min(12, num_tokens) if rank is None else rank
        if min(num_tokens, nhead, rank, grid_size) < 1:
            raise ValueError("num_tokens, nhead, rank and grid_size must be at least 1")
        if rank > num_tokens:
            raise ValueError(f"rank must be at most num_tokens, {num_tokens}, not {rank}")
        if base not in BASES:
            raise ValueError(f"base must be one of {', '.join(BASES)}, not {base!r}")
        if project not in (None, "simplex"):
            raise ValueError(f"project must be None or 'simplex', not {project!r}")
        if init not in ("scaled", "paper"):
            raise ValueError(f"init must be 'scaled' or 'paper', not {init!r}")
        self.num_tokens, self.nhead, self.rank = num_tokens, nhead, rank
        self.base, self.project, self.init = base, project, init
        self.kind = basis if isinstance(basis, str) else type(basis).__name__
        self.frequencies = grid_size if basis == "fourier" else 0
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        if isinstance(basis, str) and basis not in ("fourier", "linear"):
            basis = make_basis(basis, num_tokens, grid_size, 3, (-3.0, 3.0), **where)
        self.basis = basis if isinstance(basis, Basis) else None
        size = 2 * grid_size if self.basis is None else self.basis.size
        edges = (nhead, rank, num_tokens)
        linear = basis == "linear"
        self.coefficients = nn.Parameter(torch.empty(*edges, 1 if linear else size, **where))
        self.scale = None if linear else nn.Parameter(torch.empty(edges, **where))
        self.base_weight = None if base == "zero" else nn.Parameter(torch.empty(edges, **where))
        self.expansion = nn.Parameter(torch.empty(nhead, num_tokens, rank, **where))
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh values: coefficients normal, scales 1, the expansion uniform within ``±1 / √rank``."""
        device = "cpu" if generator is None else generator.device
        drawn = torch.randn(self.coefficients.shape, generator=generator, device=device)
        size = self.coefficients.shape[-1]
        frequencies = self.frequencies or size  # of a cosine and a sine, one half is there on average
        spread = 1 / math.sqrt(self.num_tokens * frequencies) if self.init == "scaled" else 1.0
        self.coefficients.copy_(drawn * spread)
        for scale in (self.scale, self.base_weight):
            if scale is not None:
                scale.fill_(1.0)
        uniform = torch.rand(self.expansion.shape, generator=generator, device=device)
        self.expansion.copy_((2 * uniform - 1) / math.sqrt(self.rank))

    def curves(self) -> Float[Tensor, "nhead rank keys functions"]:
        """Coefficients with the scale in them; for "fourier" all cosines, then all sines."""
        return self.coefficients if self.scale is None else self.coefficients * self.scale[..., None]

    def compress(
        self, scores: Float[Tensor, "*batch queries keys"], keep: Bool[Tensor, "*#batch #queries keys"] | None = None
    ) -> Float[Tensor, "*batch queries {self.rank}"]:
        """``Φ``: the ``rank`` sums of functions of each row of scores.

        Args:
            scores: [..., nhead, queries, num_tokens].
            keep: True for keys that may be attended to; the scores of others count as 0.

        Raises:
            ValueError: another number of keys or heads.
        """
        if scores.shape[-1] != self.num_tokens:
            raise ValueError(
                f"learnable attention has one function per token position; {self.num_tokens} expected, "
                f"{scores.shape[-1]} given"
            )
        if self.nhead > 1 and (scores.dim() < 3 or scores.shape[-3] != self.nhead):
            raise ValueError(f"scores must be [..., {self.nhead} heads, queries, keys], not {list(scores.shape)}")
        if keep is not None:
            scores = scores.masked_fill(~keep, 0.0)
        if self.nhead == 1:
            return self._sums(scores.reshape(1, -1, self.num_tokens)).view(*scores.shape[:-1], self.rank)
        heads = scores.movedim(-3, 0)
        sums = self._sums(heads.reshape(self.nhead, -1, self.num_tokens))
        return sums.view(*heads.shape[:-1], self.rank).movedim(0, -3)

    def expand(self, sums: Float[Tensor, "*batch queries {self.rank}"]) -> Float[Tensor, "*batch queries keys"]:
        """``W``: weights from the sums, before any projection or mask."""
        return sums @ (self.expansion[0] if self.nhead == 1 else self.expansion).mT

    def forward(
        self, scores: Float[Tensor, "*batch queries keys"], keep: Bool[Tensor, "*#batch #queries keys"] | None = None
    ) -> Float[Tensor, "*batch queries keys"]:
        """Weights of scores; keys that are not kept get none."""
        weights = self.expand(self.compress(scores, keep))
        if self.project == "simplex":
            return project_simplex(weights if keep is None else weights.masked_fill(~keep, -1e4))
        return weights if keep is None else weights.masked_fill(~keep, 0.0)

    def _sums(self, x: Tensor) -> Tensor:
        """[heads, rows, keys] -> [heads, rows, rank], never rows × keys × functions at once."""
        kind = x.dtype
        curves = self.curves()
        if torch.is_autocast_enabled(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)
        exact = torch.promote_types(curves.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            x, curves = x.to(exact), curves.to(exact)
            if self.basis is not None:
                sums = torch.stack([basis_linear(*each) for each in self._each_head(x, curves)])
            elif self.frequencies:
                cosines, sines = curves.permute(0, 3, 1, 2).split(self.frequencies, 1)
                sums = fourier_sum(x, cosines, sines)
            else:
                sums = x @ curves[..., 0].mT
            if self.base_weight is not None:
                sums = sums + (silu(x) if self.base == "silu" else x) @ self.base_weight.to(exact).mT
        return sums.to(kind)

    def _each_head(self, x: Tensor, curves: Tensor) -> list[tuple[Tensor, Basis, Tensor]]:
        assert self.basis is not None
        return [(rows, self.basis, weight) for rows, weight in zip(x, curves, strict=True)]

    @torch.no_grad()
    def edge(self, x: Float[Tensor, " points"], head: int, output: int, key: int) -> Float[Tensor, " points"]:
        """One of the learned functions at some points, for a look at it."""
        curve = self.curves()[head, output, key]
        if self.basis is not None:
            grid = torch.zeros(len(x), self.num_tokens, dtype=x.dtype, device=x.device)
            grid[:, key] = x
            values = self.basis(grid)[:, key] @ curve
        elif self.frequencies:
            m = torch.arange(1, self.frequencies + 1, dtype=x.dtype, device=x.device)
            values = torch.cat([(x[:, None] * m).cos(), (x[:, None] * m).sin()], 1) @ curve
        else:
            values = x * curve[0]
        if self.base_weight is not None:
            values = values + (silu(x) if self.base == "silu" else x) * self.base_weight[head, output, key]
        return values

    def extra_repr(self) -> str:
        return f"{self.num_tokens}, {self.nhead}, rank={self.rank}, basis={self.kind!r}, base={self.base!r}"
