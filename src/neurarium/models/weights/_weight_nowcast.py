"""Forecasts parameter by parameter, without the graph: weight nowcasting and its stronger form."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.models.weights._forecaster import BoundForecaster, Forecaster
from neurarium.models.weights._graph_layouts import neural_graph

EPSILON = 1e-6


class WeightNowcast(Forecaster):
    """One small network for every parameter alone, on its last ``context`` values.

    With ``plus`` it is the stronger baseline of Knyazev et al. (2024): states scaled tensor by tensor, an embedding
    of the kind of layer, all horizons at once as changes of the last state, four linear layers. Without, it is our
    reading of weight nowcaster networks (Jang and Han, 2023): each parameter is scaled by its own five values, the
    network knows nothing of its layer and forecasts the next value, and is applied to its own forecasts as often as
    needed.

    Args:
        context: snapshots it sees.
        horizon: the furthest snapshot it forecasts.
        hidden: width of the network.
        plus: the stronger form.
        chunk: parameters worked on at a time when no gradient is wanted.
        generator: source of the initial weights.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        context: int = 5,
        horizon: int = 40,
        hidden: int = 128,
        *,
        plus: bool = True,
        chunk: int = 1_000_000,
        generator: torch.Generator | None = None,
    ) -> None:
        if min(hidden, chunk) < 1:
            raise ValueError(f"hidden and chunk must be at least 1, not {hidden} and {chunk}")
        super().__init__(context, horizon, {"hidden": hidden, "plus": plus})
        self.plus = plus
        self.chunk = chunk
        self.entry = nn.Linear(context, hidden)
        self.kind = nn.Embedding(15, hidden) if plus else None
        sizes = [hidden] * (4 if plus else 2) + [horizon if plus else 1]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.network = nn.Sequential(*layers[:-1])
        self.initialise(generator)

    def bind(self, model: nn.Module) -> BoundWeightNowcast:
        """This network for one model; of its structure only the kinds of its layers are used."""
        return BoundWeightNowcast(self, model)

    def forward(
        self, values: Float[Tensor, "slices parameters context"], kinds: Int[Tensor, parameters]
    ) -> Float[Tensor, "slices parameters outputs"]:
        """Changes of the last value: at every horizon, or (without ``plus``) at the next snapshot."""
        hidden = self.entry(values)
        if self.kind is not None:
            hidden = hidden + self.kind(kinds)
        else:
            hidden = nn.functional.silu(hidden)
        return self.network(hidden)


class BoundWeightNowcast(BoundForecaster):
    """A `WeightNowcast` and the kinds of layers that a model's parameters belong to."""

    def __init__(self, forecaster: WeightNowcast, model: nn.Module) -> None:
        super().__init__(forecaster, model)
        self.network = forecaster
        graph = neural_graph(model, fallback="edges-only")
        self.kinds = graph.to_vector(graph.edge_type[:, None].expand(graph.entries.shape))

    def forecasts(
        self,
        scaled: Float[Tensor, "slices parameters context"],
        k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "slices parameters *horizon"]:
        """Scaled future states."""
        size = scaled.shape[1] if torch.is_grad_enabled() else self.network.chunk
        like = self.network.entry.weight  # states may be kept on another device
        parts = zip(scaled.split(size, dim=1), self.kinds.split(size))
        found = [self._part(values.to(like), kinds.to(like.device), k) for values, kinds in parts]
        return torch.cat(found, dim=1).to(scaled)

    def _part(self, values: Tensor, kinds: Tensor, k: int | None) -> Tensor:
        if self.network.plus:
            future = values[..., -1:] + self.network(values, kinds)
            return future if k is None else future[..., k - 1]
        steps = []
        for _ in range(k or self.horizon):
            mean, std = values.mean(-1, keepdim=True), values.std(-1, keepdim=True) + EPSILON
            following = values[..., -1:] + self.network((values - mean) / std, kinds) * std
            values = torch.cat([values[..., 1:], following], dim=-1)
            steps.append(following)
        return torch.cat(steps, dim=-1) if k is None else steps[-1][..., 0]
