"""Kolmogorov-Arnold layers whose nodes choose their basis from a pool (S-KAN, Yang et al. 2024)."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, gumbel_softmax, linear, one_hot, silu
from torch.nn.modules.utils import _pair

from neurarium.layers.kan._basis import Basis
from neurarium.layers.kan._basis_product import basis_linear
from neurarium.layers.kan._kan_conv import basis_conv2d
from neurarium.layers.kan._smooth_bases import make_basis

POOL = ("bspline", "radial", "chebyshev", "wavelet", "fourier")
NOISE = 0.3


class SelectableKAN(nn.Module, ABC):
    """What the linear and the convolutional layer share: a pool, a gate for every node, and its choice.

    Attributes:
        names: of the bases.
        gate_logits: [nodes, bases], or [1, bases] with one gate for the layer.
        choice: [nodes]: which basis a node has chosen, -1 while it has not.
        temperature: of the "gumbel" gate; lower it while training.
    """

    choice: Tensor

    def __init__(
        self, inputs: int, outputs: int, window: tuple[int, ...], bases: Sequence[str | Basis] | None, size: int,
        gate: str, granularity: str, generator: torch.Generator | None, device: Any, dtype: torch.dtype | None,
    ) -> None:  # fmt: skip
        super().__init__()
        if gate not in ("softmax", "sigmoid", "gumbel"):
            raise ValueError(f"gate must be 'softmax', 'sigmoid' or 'gumbel', not {gate!r}")
        if granularity not in ("node", "layer"):
            raise ValueError(f"granularity must be 'node' or 'layer', not {granularity!r}")
        pool = list(POOL if bases is None else bases)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.names = [b if isinstance(b, str) else type(b).__name__ for b in pool]
        if not pool or len(set(self.names)) < len(pool):
            raise ValueError(f"bases must be different ones, at least one, not {self.names}")
        degree = min(3, size - 1)
        self.bases = nn.ModuleList(
            make_basis(b, inputs, size - degree, degree, (-1.0, 1.0), **where) if isinstance(b, str) else b
            for b in pool
        )
        self.gate, self.granularity, self.temperature = gate, granularity, 1.0
        self.inputs, self.outputs, self.window = inputs, outputs, window
        self.coefficients = nn.ParameterList(
            torch.empty(outputs, inputs, b.size, *window, **where) for b in self._bases()
        )  # fmt: skip
        self.base_weight = nn.Parameter(torch.empty(outputs, inputs, *window, **where))
        self.gate_logits = nn.Parameter(torch.zeros(outputs if granularity == "node" else 1, len(pool), **where))
        self.register_buffer("choice", torch.full((outputs,), -1, device=device))
        self.reset_parameters(generator)

    def _bases(self) -> list[Basis]:
        return list(self.bases)  # type: ignore[arg-type]

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh values; every basis' share of a node has the same spread on standard normal inputs."""
        bound = 1 / math.sqrt(self.inputs * math.prod(self.window))
        device = "cpu" if generator is None else generator.device
        probe = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
        probe = (torch.erfinv(2 * probe - 1) * math.sqrt(2)).expand(self.inputs, -1)

        def fill(parameter: Tensor, size: float) -> None:
            drawn = torch.rand(parameter.shape, generator=generator, device=device)
            parameter.copy_((drawn * 2 - 1) * size)

        for basis, coefficients in zip(self._bases(), self.coefficients, strict=True):
            spread = 1.0
            if not coefficients.is_meta:
                values = copy.deepcopy(basis).double().cpu().columns(probe)
                spread = float(values.var(2).sum(1).mean().sqrt())
            fill(coefficients, NOISE * bound * math.sqrt(3) / spread)
        fill(self.base_weight, bound)
        self.gate_logits.zero_()
        self.choice.fill_(-1)

    def gates(self) -> Float[Tensor, "nodes bases"]:
        """Each basis' weight in each node: the trained gate, or 1 for the chosen basis and 0 for the others."""
        logits = self.gate_logits.expand(self.outputs, -1)
        if self.gate == "sigmoid":
            free = logits.sigmoid()
        elif self.gate == "gumbel" and self.training:
            free = gumbel_softmax(logits, self.temperature, hard=True)
        else:
            free = logits.softmax(1)
        chosen = one_hot(self.choice.clamp_min(0), len(self.names)).to(free.dtype)
        return torch.where(self.choice[:, None] >= 0, chosen, free)

    def shares(self, x: Tensor) -> list[Tensor]:
        """What each basis gives to the nodes on an input, before the gate."""
        return [self._product(x, b, c) for b, c in zip(self._bases(), self.coefficients, strict=True)]

    @torch.no_grad()
    def choose(self, nodes: Tensor, bases: Tensor) -> None:
        """Let nodes keep one basis each. The gate's weight goes into the coefficients, so what is kept stays as it is.

        Args:
            nodes: indices.
            bases: an index into the pool for each.
        """
        weights = self.gates()
        for node, basis in zip(nodes.tolist(), bases.tolist(), strict=True):
            self.coefficients[basis][node] *= weights[node, basis]
        self.choice[nodes] = bases.to(self.choice)

    def forward(self, x: Tensor) -> Tensor:
        """The base function's sum and the gated sum of all bases."""
        gates = self.gates()
        output = self._base(x)
        for a, (basis, coefficients) in enumerate(zip(self._bases(), self.coefficients, strict=True)):
            gate = gates[:, a].view(-1, *[1] * (coefficients.dim() - 1))
            output = output + self._product(x, basis, coefficients * gate)
        return output

    def grouped(self) -> GroupedKAN:
        """The layer without what was not chosen: nodes in groups by their basis. Every node must have chosen."""
        if bool((self.choice < 0).any()):
            raise ValueError(f"{int((self.choice < 0).sum())} nodes have not chosen a basis yet: call select first")
        return GroupedKAN(self)

    @abstractmethod
    def _product(self, x: Tensor, basis: Basis, weight: Tensor) -> Tensor: ...

    @abstractmethod
    def _base(self, x: Tensor) -> Tensor: ...

    def extra_repr(self) -> str:
        return (
            f"{self.inputs}, {self.outputs}, bases={self.names}, gate={self.gate!r}, granularity={self.granularity!r}"
        )


@final
class GroupedKAN(nn.Module):
    """A selected layer after pruning; made by `SelectableKAN.grouped`.

    Each basis is evaluated once, for the nodes that use it; it costs what a layer of one basis costs.
    """

    order: Tensor

    def __init__(self, layer: SelectableKAN) -> None:
        super().__init__()
        used = sorted(set(layer.choice.tolist()))
        rows = [(layer.choice == a).nonzero().flatten() for a in used]
        self.names = [layer.names[a] for a in used]
        self.bases = nn.ModuleList(layer._bases()[a] for a in used)
        self.coefficients = nn.ParameterList(
            nn.Parameter(layer.coefficients[a].detach()[r].clone()) for a, r in zip(used, rows, strict=True)
        )
        self.base_weight = layer.base_weight
        self.register_buffer("order", torch.cat(rows).argsort())
        self.dim = 1 if layer.window else -1
        self.kind, self.window = type(layer), layer.window
        self.stride, self.padding = getattr(layer, "stride", None), getattr(layer, "padding", None)

    def forward(self, x: Tensor) -> Tensor:
        """The base function's sum and each node's own basis."""
        parts = [
            self.kind._product(self, x, b, c)  # type: ignore[arg-type]
            for b, c in zip(self.bases, self.coefficients, strict=True)
        ]
        base: Tensor = self.kind._base(self, x)  # type: ignore[arg-type]
        return base + torch.cat(parts, self.dim).index_select(self.dim, self.order)

    def extra_repr(self) -> str:
        groups = [f"{name}: {len(c)}" for name, c in zip(self.names, self.coefficients, strict=True)]
        return ", ".join(groups)


@final
class SelectableKANLinear(SelectableKAN):
    """Kolmogorov-Arnold layer that weighs several bases in each node and can keep the best of them alone.

    ``y_j = Σ_i w_ji silu(x_i) + Σ_a gate_ja Σ_i Σ_m c_jim B^a_m(x_i)``. While all bases are there it costs as much as a
    layer for each; `neurarium.search.BasisSelection` lets the nodes choose and removes the rest.

    Args:
        in_features: size of an input.
        out_features: size of an output.
        bases: names or `Basis` objects, all different; spline, radial, Chebyshev, wavelet, Fourier by default.
        size: functions of each named basis, even, at least 2.
        gate: "softmax"; "sigmoid" for independent weights; "gumbel" for one basis at a time, drawn while training.
        granularity: one gate for each "node", or one for the "layer".
        generator: of the initial values.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: an unknown option, no basis, or two of one name.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bases: Sequence[str | Basis] | None = None,
        size: int = 8,
        gate: str = "softmax",
        granularity: str = "node",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, (), bases, size, gate, granularity, generator, device, dtype)

    def _product(self, x: Tensor, basis: Basis, weight: Tensor) -> Tensor:
        return basis_linear(x, basis, weight)

    def _base(self, x: Tensor) -> Tensor:
        return linear(silu(x), self.base_weight)


@final
class SelectableKANConv2d(SelectableKAN):
    """`SelectableKANLinear` as a convolution: every output channel weighs the bases and keeps one (S-ConvKAN).

    Put a normalisation behind it, as the convolutional networks of this kind do. Padding stands for functions of 0.

    Args:
        in_channels: channels of an input.
        out_channels: channels of an output.
        kernel_size: of the window.
        stride: of the window.
        padding: on all sides.
        bases: names or `Basis` objects.
        size: functions of each named basis.
        gate: "softmax", "sigmoid" or "gumbel".
        granularity: one gate for each "node" (output channel), or one for the "layer".
        generator: of the initial values.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: an unknown option, no basis, or two of one name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bases: Sequence[str | Basis] | None = None,
        size: int = 8,
        gate: str = "softmax",
        granularity: str = "node",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        window = _pair(kernel_size)
        super().__init__(in_channels, out_channels, window, bases, size, gate, granularity, generator, device, dtype)
        self.stride, self.padding = _pair(stride), _pair(padding)

    def _product(self, x: Tensor, basis: Basis, weight: Tensor) -> Tensor:
        return basis_conv2d(x, basis, weight, self.stride, self.padding)

    def _base(self, x: Tensor) -> Tensor:
        return conv2d(silu(x), self.base_weight, None, self.stride, self.padding)
