"""Networks that never fall along chosen inputs, by construction, and the same guarantee for a network that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurarium.layers import InputUnits, MonotonicActivation, MonotonicLinear, swap
from neurarium.layers.monotonic._monotonic_activation import RATIOS, Function
from neurarium.layers.monotonic._monotonic_linear import SignedWeight, check_directions
from neurarium.layers.monotonic._parts import RISING
from neurarium.training import copy_module

CURVED = {1: (1.0, 0.0, 0.0), -1: (0.0, 1.0, 0.0)}


class MonotonicNet(nn.Module):
    """A network whose outputs never fall along inputs of direction 1, and never rise along those of direction -1.

    Architecture 1 is a chain of `MonotonicLinear`; architecture 2 sends every input through units of its own first
    (Runje and Shankaranarayana, Fig. 3 and 4). The output is linear: add a sigmoid (`BCEWithLogitsLoss`) or a sum of
    ordered thresholds outside.

    Args:
        monotonicity: 1, -1 or 0 for each input.
        hidden: sizes of the hidden layers.
        outputs: number of outputs, all with the same directions.
        architecture: 1 or 2.
        activation: of the hidden layers, see `MonotonicActivation`.
        ratios: of convex, concave and bounded units.
        curvature: 1 for an input along which the output is to be convex, -1 for concave, 0 for neither; one per input,
            or one for all. Inputs of each curvature have a chain of their own, and the chains' outputs are added.
        categories: input -> number of categories, for inputs that hold category numbers from 0; each is embedded. Their
            direction and curvature must be 0.
        dropout: after each hidden layer, in training.
        generator: of the initial values; torch's global one by default.

    Shape:
        x: [..., inputs]; output: [..., outputs].

    Raises:
        ValueError: directions or curvatures that are not -1, 0 or 1, categories that are held, or no hidden layer.
    """

    def __init__(
        self,
        monotonicity: Sequence[int],
        hidden: Sequence[int] = (24, 24),
        outputs: int = 1,
        architecture: Literal[1, 2] = 1,
        activation: str | Function = "elu",
        ratios: Sequence[float] = RATIOS,
        curvature: int | Sequence[int] = 0,
        categories: Mapping[int, int] | None = None,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if architecture not in (1, 2):
            raise ValueError(f"architecture must be 1 or 2, not {architecture!r}")
        if not hidden:
            raise ValueError("hidden must name at least one layer")
        inputs = len(monotonicity)
        directions = check_directions(list(monotonicity), inputs, 1)[0].tolist()
        bends = check_directions(curvature, inputs, 1)[0].tolist()
        categories = dict(categories or {})
        for column in categories:
            if not 0 <= column < inputs or directions[column] or bends[column]:
                raise ValueError(f"category input {column} must be one of the {inputs} inputs, with direction 0")
        self.monotonicity = tuple(directions)
        self.embeddings = nn.ModuleDict()
        for column, count in sorted(categories.items()):
            self.embeddings[str(column)] = nn.Embedding(count, min(8, (count + 1) // 2))
        self.columns: dict[str, list[int]] = {}
        self.chains = nn.ModuleDict()
        for bend, name in ((0, "plain"), (1, "convex"), (-1, "concave")):
            columns = [i for i in range(inputs) if bends[i] == bend and i not in categories]
            held = [directions[i] for i in columns]
            if bend == 0:
                held += [0] * sum(e.embedding_dim for e in self.embeddings.values())  # type: ignore[misc]
            if held:
                kinds = CURVED.get(bend, tuple(ratios))
                self.columns[name] = columns
                self.chains[name] = _chain(
                    held, hidden, outputs, architecture, activation, kinds, dropout, generator
                )  # fmt: skip

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The sum of the chains."""
        total: Tensor | None = None
        for name, chain in self.chains.items():
            parts = [x[..., i : i + 1] for i in self.columns[name]]
            if name == "plain":
                parts += [embed(x[..., int(i)].long()) for i, embed in self.embeddings.items()]
            output = chain(torch.cat(parts, -1))
            total = output if total is None else total + output
        if total is None:  # pragma: no cover - there is at least one chain
            raise ValueError("the network has no inputs")
        return total

    @torch.no_grad()
    def balance_(self, x: Float[Tensor, "batch inputs"]) -> MonotonicNet:
        """Set the biases so that every unit's mean input over some examples is 0, and return the network.

        Weights of one sign add up, so that deep or wide networks start with large outputs; this takes the mean out. It
        is not of the paper.
        """
        hooks = [
            module.register_forward_pre_hook(_center)
            for module in self.modules() if isinstance(module, MonotonicLinear) and module.bias is not None
        ]  # fmt: skip
        try:
            self(x)
        finally:
            for hook in hooks:
                hook.remove()
        return self


def _center(layer: MonotonicLinear, given: tuple[Tensor]) -> None:
    mean = given[0].flatten(0, -2).mean(0)
    layer.bias.copy_(-(layer.constrained_weight() @ mean))  # type: ignore[union-attr]


def _chain(
    held: list[int], hidden: Sequence[int], outputs: int, architecture: int, activation: str | Function,
    ratios: Sequence[float], dropout: float, generator: torch.Generator | None,
) -> nn.Sequential:  # fmt: skip
    layers: list[nn.Module] = []
    first: list[int] | int = held
    size = len(held)
    if architecture == 2:
        units = max(hidden[0] // 4, 1)
        layers.append(InputUnits(size, units, held, activation, ratios, generator=generator))
        first, size = [abs(t) for t in held for _ in range(units)], size * units
    for width in hidden:
        layers.append(MonotonicLinear(size, width, first, activation, ratios, generator=generator))
        if dropout:
            layers.append(nn.Dropout(dropout))
        first, size = 1, width
    layers.append(MonotonicLinear(size, outputs, first, None, generator=generator))
    return nn.Sequential(*layers)


def constrain(model: nn.Module, monotonicity: Sequence[int], activation: str | Function | None = "elu") -> nn.Module:
    """A copy of a network of linear layers and activations that is monotonic, and stays so however it is trained.

    The weights of the first linear layer get the inputs' directions and all others a plus sign, by parametrizations
    (`torch.nn.utils.parametrize`): optimizers and checkpoints see the free weights. Activations become
    `MonotonicActivation`, without which the network would be convex. What a ``forward`` does between its modules is not
    seen here: `neurarium.probes.certify` proves the whole.

    Args:
        model: a network whose first linear layer reads the inputs.
        monotonicity: 1, -1 or 0 for each input.
        activation: of the new activations; None to keep the network's own.

    Raises:
        ValueError: there is no linear layer, the directions do not fit the first one, or a part is of no kind that
            keeps directions; the message names it.
    """
    model = copy_module(model)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("model has no nn.Linear whose weights could be held")
    for place, layer in enumerate(linear):
        signs = check_directions(1 if place else list(monotonicity), layer.in_features, layer.out_features)
        parametrize.register_parametrization(layer, "weight", SignedWeight(signs.to(layer.weight.device)))
    if activation is not None:
        model = swap(model, ACTIVATIONS, lambda name, old: MonotonicActivation(activation), inplace=True).model
    for name, module in model.named_modules():
        leaf = next(module.children(), None) is None
        if leaf and not isinstance(module, (SignedWeight, nn.Linear, *RISING)):
            raise ValueError(f"{name} ({type(module).__name__}) is of no kind that keeps the direction of its inputs")
    return model


ACTIVATIONS = (nn.ReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.Mish)
