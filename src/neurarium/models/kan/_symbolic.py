"""Edges of a Kolmogorov-Arnold network as functions with a name: finding them, and layers made of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import KANLinear
from neurarium.models.kan._functions import EDGE_FUNCTIONS, EdgeFunction, chosen
from neurarium.models.kan._kan import KAN

SITES = 128
STEPS = 101
ZOOMS = 3
REACH = 10.0
CANCELLING = 30.0
"""A function whose mean is so many times its spread only bends like a straight line or a parabola, and would be taken
for one (``600 cos(x / 10) - 600`` for ``3 x²``)."""


@dataclass(frozen=True)
class Suggestion:
    """A function for an edge: ``φ(x) ≈ c · f(a·x + b) + d``.

    Args:
        name: of the function.
        r2: share of the edge's variance that it explains.
        cost: what `snap` minimises, complexity and misfit together.
        a: factor inside.
        b: shift inside.
        c: factor outside.
        d: shift outside.
    """

    name: str
    r2: float
    cost: float
    a: float
    b: float
    c: float
    d: float


class SymbolicKANLinear(nn.Module):
    """A Kolmogorov-Arnold layer some or all of whose edges are named functions ``c · f(a·x + b) + d``.

    Args:
        numeric: the layer of curves; its mask is taken away where an edge is named.
        functions: [outputs, inputs] nest of names, None where the edge stays a curve.
        affine: [4, outputs, inputs]: a, b, c, d of each edge; trained.
        library: what the names stand for.
    """

    def __init__(
        self,
        numeric: KANLinear,
        functions: list[list[str | None]],
        affine: Float[Tensor, "4 outputs inputs"],
        library: Mapping[str, EdgeFunction] = EDGE_FUNCTIONS,
    ) -> None:
        super().__init__()
        self.numeric = numeric
        self.functions = functions
        self.library = dict(library)
        self.affine = nn.Parameter(affine.to(numeric.coefficients))
        self.in_features, self.out_features = numeric.in_features, numeric.out_features
        with torch.no_grad():
            for j, i, _ in self.named_edges():
                numeric.mask[j, i] = False

    def named_edges(self) -> list[tuple[int, int, str]]:
        """(output, input, name) of every edge with a name."""
        return [(j, i, name) for j, row in enumerate(self.functions) for i, name in enumerate(row) if name is not None]

    @property
    def curves_left(self) -> Tensor:
        """Which edges are still curves [outputs, inputs]."""
        return self.numeric.mask

    def edges(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs inputs"]:
        """The value of every edge by itself."""
        values = self.numeric.edges(x)
        groups: dict[str, list[tuple[int, int]]] = {}
        for j, i, name in self.named_edges():
            groups.setdefault(name, []).append((j, i))
        for name, places in groups.items():  # each function once for all its edges
            outputs, inputs = torch.tensor(places, device=x.device).t()
            a, b, c, d = self.affine[:, outputs, inputs]
            value = c * self.library[name].torch(a * x[:, inputs] + b) + d
            values = values.index_put((torch.arange(len(x), device=x.device)[:, None], outputs, inputs), value)
        return values

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Sum the edges into each output."""
        rows = x.reshape(-1, self.in_features)
        output = self.edges(rows).sum(2)
        if self.numeric.bias is not None:
            output = output + self.numeric.bias
        return output.reshape(*x.shape[:-1], self.out_features)

    def edge_std(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "outputs inputs"]:
        """Standard deviation of every edge over a batch."""
        return self.edges(x).std(0)


def suggest(
    model: KAN,
    x: Float[Tensor, "batch inputs"],
    layer: int,
    output: int,
    input: int,
    library: Mapping[str, EdgeFunction] = EDGE_FUNCTIONS,
    simplicity: float = 0.8,
) -> list[Suggestion]:
    """Named functions for one edge, the cheapest first.

    Each is fitted by a search over ``a`` and ``b`` in [-10, 10], 101 values each, zoomed three times, with ``c`` and
    ``d`` by least squares. Cost: ``simplicity · complexity + (1 - simplicity) · log2(1 + 1e-5 - R²)``, as released.
    Functions whose argument would cross a pole or leave their domain on the batch are not fitted.

    Args:
        model: the network; edges that are named already are fitted again.
        x: inputs of the network, on which the edge is looked at.
        layer: which layer, from 0.
        output: which output of the layer.
        input: which input of the layer.
        library: the functions; a dictionary of your own works.
        simplicity: weight of the complexity, in [0, 1].
    """
    with torch.no_grad():
        given = model.trace(x)[layer]
        order = given[:, input].sort().indices
        picks = order[torch.linspace(0, len(order) - 1, min(SITES, len(order))).round().long()]
        sites = given[picks]
        values = model.layers[layer].edges(sites)[:, output, input]
        fitted = _fits(sites[:, input].double().cpu(), values.double().cpu(), library)
    found = []
    for name, (r2, a, b, c, d) in fitted.items():
        cost = simplicity * library[name].complexity + (1 - simplicity) * float(torch.log2(torch.tensor(1 + 1e-5 - r2)))
        found.append(Suggestion(name, r2, cost, a, b, c, d))
    return sorted(found, key=lambda s: s.cost)


def snap(
    model: KAN,
    x: Float[Tensor, "batch inputs"],
    library: Mapping[str, EdgeFunction] = EDGE_FUNCTIONS,
    choices: Mapping[tuple[int, int, int], str] | None = None,
    simplicity: float = 0.8,
) -> KAN:
    """A copy of a network with every live edge replaced by the cheapest function for it (`suggest`).

    Train the copy afterwards (`train_kan`): ``a, b, c, d`` are parameters. Edges that do not vary on ``x`` become
    constants.

    Args:
        model: the network, as a rule a pruned one; it is left untouched.
        x: inputs on which edges are looked at.
        library: the functions to choose from.
        choices: names of functions for given edges ``(layer, output, input)``.
        simplicity: weight of the complexity, in [0, 1].

    Raises:
        ValueError: no function fits an edge, an unknown name, or an edge that the model does not have.
    """
    choices = dict(choices or {})
    chosen(set(choices.values()), library)
    snapped = copy.deepcopy(model)
    for level, layer in enumerate(model.layers):
        if not isinstance(layer, KANLinear):
            continue
        with torch.no_grad():
            given = model.trace(x)[level]
            spread, means = layer.edge_std(given), layer.edge_mean(given)
        names: list[list[str | None]] = [[None] * layer.in_features for _ in range(layer.out_features)]
        affine = torch.zeros(4, layer.out_features, layer.in_features)
        affine[0] = affine[2] = 1.0
        for j, i in layer.mask.nonzero().tolist():
            asked = choices.pop((level, j, i), None)
            if float(spread[j, i]) <= 1e-9 * (1 + abs(float(means[j, i]))):
                names[j][i], affine[:, j, i] = "x", torch.tensor([0.0, 0.0, 0.0, float(means[j, i])])
                continue
            some = library if asked is None else {asked: library[asked]}
            found = suggest(model, x, level, j, i, some, simplicity)
            if not found:
                raise ValueError(f"no function of {', '.join(some)} can stand for edge {i} -> {j} of layer {level}")
            best = found[0]
            names[j][i], affine[:, j, i] = best.name, torch.tensor([best.a, best.b, best.c, best.d])
        snapped.layers[level] = SymbolicKANLinear(snapped.layers[level], names, affine, library)
    if choices:
        raise ValueError(f"choices must name live edges (layer, output, input); these are none: {list(choices)}")
    return snapped


def _fits(
    x: Tensor, y: Tensor, library: Mapping[str, EdgeFunction]
) -> dict[str, tuple[float, float, float, float, float]]:
    """R², a, b, c, d of every function that can be fitted to points."""
    found = {}
    centred = y - y.mean()
    for name, function in library.items():
        low, high = torch.full((2,), -REACH, dtype=x.dtype), torch.full((2,), REACH, dtype=x.dtype)
        if name == "x":  # any a and b are as good
            low, high = torch.tensor([1.0, 0.0], dtype=x.dtype), torch.tensor([1.0, 0.0], dtype=x.dtype)
        best, place = -1.0, low
        for _ in range(ZOOMS):
            a, b = (torch.linspace(float(low[k]), float(high[k]), STEPS, dtype=x.dtype) for k in (0, 1))
            argument = a[:, None, None] * x + b[:, None]
            value = function.torch(argument)
            mean = value.mean(-1, keepdim=True)
            value = value - mean
            power = value.square().sum(-1)
            r2 = (value @ centred).square() / (power * centred.square().sum())
            sound = torch.isfinite(r2) & (power > 1e-12 * len(x))
            sound &= mean[..., 0].abs() <= CANCELLING * (power / len(x)).sqrt()
            if function.pieces is not None:
                piece = function.pieces(argument)
                sound &= (piece == piece[..., :1]).all(-1)
            r2 = torch.where(sound, r2, -1.0)
            top = int(r2.argmax())
            if float(r2.flatten()[top]) <= best:
                break
            best, place = float(r2.flatten()[top]), torch.stack([a[top // STEPS], b[top % STEPS]])
            width = (high - low) / (STEPS - 1)
            low, high = place - width, place + width
        if best < 0:
            continue
        value = function.torch(place[0] * x + place[1])
        c = float(((value - value.mean()) @ centred) / (value - value.mean()).square().sum())
        found[name] = (min(best, 1.0), float(place[0]), float(place[1]), c, float(y.mean() - c * value.mean()))
    return found
