"""A network that maps a function to a function: one part reads the function, one the place, and both are multiplied."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import Sine
from neurarium.models.operators._stacked_branch import StackedBranch

Split = Literal["both", "branch", "trunk", "independent"]
Part = nn.Module | Sequence[nn.Module]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU, "gelu": nn.GELU, "sin": Sine,
}  # fmt: skip


class DeepONet(nn.Module):
    """``G(u)(y) = Σ_k branch_k(u) trunk_k(y) + b`` (Lu et al. 2021) over any two modules.

    The branch reads a function at fixed sensors, the trunk a place. Several outputs come in one of four ways: "both"
    cuts the numbers of branch and trunk into as many groups, "branch" and "trunk" cut those of one and share the
    other's, "independent" has a branch and a trunk for each output.

    Args:
        branch: a module [functions, sensors] -> [functions, width]; for "independent" one for each output. Functions of
            any other shape will do where the module takes them.
        trunk: a module [..., dim] -> [..., width]; for "independent" one for each output.
        outputs: numbers at a place.
        split: how several outputs come about; None for one.
        bias: whether each output has a constant, 0 at the start.
        transform: ``transform(u, y, s) -> s``, for what holds by law: zero at the border, say.

    Raises:
        ValueError: ``split`` does not fit ``outputs``, or not as many modules as it wants.
    """

    def __init__(
        self,
        branch: Part,
        trunk: Part,
        outputs: int = 1,
        split: Split | None = None,
        bias: bool = True,
        transform: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if outputs < 1 or split not in (None, "both", "branch", "trunk", "independent"):
            raise ValueError(
                f"outputs must be at least 1, and split both, branch, trunk or independent, not {outputs}, {split!r}"
            )
        if (split is None) != (outputs == 1):
            raise ValueError(
                f"split must say how {outputs} outputs come about" if outputs > 1 else "split is for several outputs"
            )
        many = outputs if split == "independent" else 1
        self.branches, self.trunks = _modules(branch, many, "branch"), _modules(trunk, many, "trunk")
        self.outputs, self.split, self.transform = outputs, split, transform
        like = next(self.parameters(), torch.empty(0))
        self.bias = nn.Parameter(torch.zeros(outputs, device=like.device, dtype=like.dtype)) if bias else None

    @classmethod
    def mlp(
        cls,
        sensors: int,
        dim: int = 1,
        width: int = 40,
        depth: int = 2,
        stacked: bool = False,
        activation: str = "relu",
        outputs: int = 1,
        split: Split | None = None,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> DeepONet:
        """The paper's networks: perceptrons with Glorot's normal weights; the trunk's last layer is activated too.

        Args:
            sensors: numbers in which a function comes.
            dim: of a place.
            width: of all layers, the last included (for each output where it is split).
            depth: layers of branch and trunk.
            stacked: the branch is ``width`` networks with one hidden layer and one output each.
            activation: "relu", "tanh", "silu", "gelu" or "sin".
            outputs: numbers at a place.
            split: how several outputs come about.
            bias: whether each output has a constant.
            generator: of the initial weights.
            device: where the parameters live.
            dtype: of the parameters.

        Raises:
            ValueError: an unknown activation, a size below 1, or what `DeepONet` refuses.
        """
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        if min(sensors, dim, width, depth) < 1:
            raise ValueError("sensors, dim, width and depth must be at least 1")
        act, where = ACTIVATIONS[activation], {"generator": generator, "device": device, "dtype": dtype}
        many = outputs if split == "independent" else 1
        wide = {"branch": width * outputs if split in ("both", "branch") else width,
                "trunk": width * outputs if split in ("both", "trunk") else width}  # fmt: skip

        def branch() -> nn.Module:
            if stacked:
                return StackedBranch(sensors, width, wide["branch"], act(), **where)
            return nn.Sequential(*_layers([sensors, *[width] * (depth - 1), wide["branch"]], act, where)[:-1])

        def trunk() -> nn.Module:
            return nn.Sequential(*_layers([dim, *[width] * (depth - 1), wide["trunk"]], act, where))

        return cls([branch() for _ in range(many)], [trunk() for _ in range(many)], outputs, split, bias)

    def forward(
        self, u: Float[Tensor, " functions *sensors"], y: Float[Tensor, "*rows dim"], aligned: bool | None = None
    ) -> Float[Tensor, "functions *places outputs"]:
        """The answers.

        Args:
            u: functions at the sensors.
            y: a place for each function [functions, dim], places of its own for each [functions, places, dim], or
                places that all share [places, dim].
            aligned: whether ``y`` [.., dim] holds shared places. Found from the sizes where it is None and they differ;
                with as many places as functions it must be said.

        Returns:
            [functions, outputs] for a place for each, else [functions, places, outputs].

        Raises:
            ValueError: another number of sensors, branch and trunk of different width, or an ``aligned`` that is
                missing or contradicts the shapes.
        """
        if y.dim() == 2 and aligned is None:
            if len(u) == len(y):
                raise ValueError(
                    f"u has {len(u)} functions and y {len(y)} places: say aligned=True if all functions share the "
                    "places, aligned=False if each function has one"
                )
            aligned = len(u) != len(y)
        if (y.dim() == 3 and aligned) or (not aligned and len(y) != len(u)):
            raise ValueError(f"y {list(y.shape)} does not hold places for {len(u)} functions with aligned={aligned}")
        b, t = self._numbers(self.branches, u, "branch"), self._numbers(self.trunks, y, "trunk")
        if b.shape[-1] != t.shape[-1]:
            raise ValueError(f"branch gives {b.shape[-1]} numbers and trunk {t.shape[-1]}; they must be as many")
        if aligned:
            s = torch.einsum("nok,pok->npo", b.expand(-1, self.outputs, -1), t.expand(-1, self.outputs, -1))
        else:
            s = ((b if y.dim() == 2 else b[:, None]) * t).sum(-1)
        s = s if self.bias is None else s + self.bias
        return s if self.transform is None else self.transform(u, y, s)

    def _numbers(self, parts: nn.ModuleList, x: Tensor, name: str) -> Tensor:
        """What branch or trunk gives, [..., outputs or 1, width]."""
        wanted = _first_width(parts[0])
        if wanted and x.shape[-1] != wanted:
            what = "u must have {} sensors" if name == "branch" else "y must have {} coordinates"
            raise ValueError(f"{what.format(wanted)}, not {x.shape[-1]}")
        found = torch.stack([part(x) for part in parts], -2)
        if self.split not in ("both", name):
            return found
        if found.shape[-1] % self.outputs:
            raise ValueError(f"{name} gives {found.shape[-1]} numbers, which {self.outputs} outputs cannot share")
        return found.squeeze(-2).unflatten(-1, (self.outputs, -1))

    def extra_repr(self) -> str:
        return f"outputs={self.outputs}" + (f", split={self.split!r}" if self.split else "")


def place_gradient(s: Float[Tensor, "*shape"], y: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*shape dim"]:
    """``∂s/∂y`` with its graph, for losses that hold an equation; apply it again for second derivatives.

    Args:
        s: answers of a `DeepONet` at ``y`` (or one of their derivatives); each depends on its own place alone.
        y: the places, which must have required gradients when ``s`` was computed.

    Raises:
        ValueError: ``s`` was not computed from ``y``, or ``y`` does not require gradients.
    """
    if not y.requires_grad:
        raise ValueError("y must require gradients before the network is called: y.requires_grad_()")
    # The gradient of Σ w s is linear in w, and its derivative in w is what is wanted, for shared places, too.
    weights = torch.ones_like(s, requires_grad=True)
    (summed,) = torch.autograd.grad(s, y, weights, create_graph=True, allow_unused=True)
    if summed is None:
        raise ValueError("s was not computed from y")
    parts = [
        torch.autograd.grad(summed[..., i].sum(), weights, create_graph=True, materialize_grads=True)[0]
        for i in range(y.shape[-1])
    ]
    return torch.stack(parts, -1)


def _modules(part: Part, many: int, name: str) -> nn.ModuleList:
    found = nn.ModuleList([part] if isinstance(part, nn.Module) else part)
    if len(found) != many:
        raise ValueError(f"{name} must be {many} module{'s' * (many > 1)}, not {len(found)}")
    return found


def _layers(sizes: list[int], act: Callable[[], nn.Module], where: dict[str, Any]) -> list[nn.Module]:
    """Linear layers, an activation after each."""
    generator, parts = where["generator"], []
    for a, b in itertools.pairwise(sizes):
        linear = nn.Linear(a, b, device=where["device"], dtype=where["dtype"])
        nn.init.xavier_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        parts += [linear, act()]
    return parts


def _first_width(module: nn.Module) -> int:
    """What the first layer takes; 0 where it cannot be read."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    width = getattr(module, "in_features", 0)
    return width if isinstance(width, int) else 0
