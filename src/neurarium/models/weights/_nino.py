"""NiNo: a graph network over the neurons of a model forecasts where its parameters are going (Knyazev et al., 2024)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from neurarium.data._saved import read_saved
from neurarium.models.weights._forecaster import BoundForecaster, Forecaster
from neurarium.models.weights._graph_layouts import neural_graph
from neurarium.models.weights._neuron_graph import KINDS, POSITIONS, SLOTS, NeuralGraph


class NiNo(Forecaster):
    """Neuron interaction and nowcasting (sections 3 and 4).

    Edges carry the last ``context`` scaled values of their parameters and the kind of layer; nodes carry Laplacian
    positions. Messages flow from neuron to neuron, modulated by the edges; edges are updated from their two neurons; a
    readout gives each parameter's future as a change of its last state.

    The released networks stop updating edges before the last layer of messages, which then reaches no output and is not
    computed here; ``final_edge_update`` lets it count.

    Args:
        context: snapshots it sees.
        horizon: the furthest snapshot it forecasts.
        hidden: width of nodes and edges.
        layers: layers of messages.
        vocabulary: size of a learned embedding of token neurons, which ties it to one tokenizer; 0 for none.
        final_edge_update: update the edges after the last layer as well.
        chunk: edges worked on at a time when no gradient is wanted; bounds the memory beyond edges x hidden numbers.
        edge_share: share of the edges that send messages when it is used, drawn anew each time (0.05 for very big
            models); all of them while it is trained.
        generator: source of the initial weights.

    Raises:
        ValueError: a size below 1 or a share outside (0, 1].
    """

    def __init__(
        self,
        context: int = 5,
        horizon: int = 40,
        hidden: int = 128,
        layers: int = 3,
        *,
        vocabulary: int = 0,
        final_edge_update: bool = False,
        chunk: int = 100_000,
        edge_share: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        if min(hidden, layers, chunk) < 1 or vocabulary < 0:
            raise ValueError("hidden, layers and chunk must be at least 1, vocabulary at least 0")
        if not 0 < edge_share <= 1:
            raise ValueError(f"edge_share must be above 0 and at most 1, not {edge_share}")
        config = {"hidden": hidden, "layers": layers, "vocabulary": vocabulary, "final_edge_update": final_edge_update}
        super().__init__(context, horizon, config)
        self.chunk = chunk
        self.edge_share = edge_share
        self.draws = 0
        self.kind = nn.Embedding(len(KINDS), hidden)
        self.node = nn.Linear(POSITIONS, hidden)
        self.token = nn.Embedding(vocabulary + 1, hidden) if vocabulary else None
        self.edge = nn.Linear(SLOTS * context, hidden)
        self.messages = nn.ModuleList(EdgeModulatedMessages(hidden) for _ in range(layers))
        updates = layers if final_edge_update else layers - 1
        self.updates = nn.ModuleList(EdgeUpdate(hidden) for _ in range(updates))
        self.readout = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, SLOTS * horizon))
        self.initialise(generator)

    def bind(
        self,
        model: nn.Module,
        *,
        heads: int | None = None,
        fallback: Literal["edges-only"] | None = "edges-only",
        blocks: str | None = None,
    ) -> BoundNiNo:
        """This network for one model, whose graph and positions are worked out once.

        Args:
            model: the network whose parameters are forecast.
            heads: attention heads where the model does not say.
            fallback: what to do with layers that the graph does not know; None refuses them.
            blocks: name of a list of layers; each of them then is a graph of its own, to save memory (what comes before
                and after them goes with the first and the last).

        Raises:
            ValueError: the graph cannot be built, or there is no such list.
        """
        return BoundNiNo(self, model, [(part, None) for part in _parts(model, heads, fallback, blocks)])

    def forward(
        self,
        edges: Float[Tensor, "slices edges slots context"],
        graph: NeuralGraph,
        positions: Float[Tensor, "nodes positions"],
        k: int | None = None,
    ) -> Float[Tensor, "slices edges slots *horizon"]:
        """Scaled future values on the edges, ``k`` snapshots ahead or at every horizon."""
        source, target = graph.edge_index.to(edges.device)
        slots, kinds = edges.shape[2], graph.edge_type.to(edges.device)
        projection = self.edge.weight[:, : slots * self.context]  # slots that no edge of this model uses hold zeros

        def encode(part: slice) -> Tensor:
            return linear(edges[:, part].flatten(2), projection, self.edge.bias) + self.kind(kinds[part])

        e = self._over_edges(encode, len(kinds))
        x = self.node(positions.to(edges))
        if self.token is not None:
            x = x + self.token(graph.tokens.to(edges.device).clamp(max=self.token.num_embeddings - 1))
        x = x.expand(len(edges), -1, -1)
        for messages, update in zip(self.messages, self.updates):
            x = silu(messages(x, e, source, target, *self._sample(len(kinds))))
            e = self._over_edges(partial(_updated, update, x, e, source, target), len(kinds), e)
        weight, bias = (p.unflatten(0, (SLOTS, self.horizon))[:slots] for p in self.readout[2].parameters())
        if k is not None:
            weight, bias = weight[:, k - 1 : k], bias[:, k - 1 : k]

        def read(part: slice) -> Tensor:
            change = linear(silu(self.readout[0](e[:, part])), weight.flatten(0, 1), bias.flatten())
            return edges[:, part, :, -1:] + change.unflatten(-1, (slots, -1))

        future = self._over_edges(read, len(kinds))
        return future if k is None else future[..., 0]

    def _over_edges(self, function: Callable[[slice], Tensor], count: int, into: Tensor | None = None) -> Tensor:
        """A function of a stretch of edges on all of them; without gradients in chunks, in place where it can be."""
        if torch.is_grad_enabled() or count <= self.chunk:
            return function(slice(0, count))
        parts = [slice(start, min(start + self.chunk, count)) for start in range(0, count, self.chunk)]
        if into is None:
            return torch.cat([function(part) for part in parts], dim=1)
        for part in parts:
            into[:, part] = function(part)
        return into

    def _sample(self, count: int) -> tuple[int, Tensor | None]:
        """How many edges send messages at a time, and which ones do (None for all)."""
        if torch.is_grad_enabled():
            return count, None
        if self.edge_share == 1:
            return self.chunk, None
        self.draws += 1  # no global random numbers: all ranks of a distributed run draw the same edges
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.draws))
        return self.chunk, order[: max(1, int(count * self.edge_share))]


def _updated(update: nn.Module, x: Tensor, e: Tensor, source: Tensor, target: Tensor, part: slice) -> Tensor:
    return update(x, e[:, part], source[part], target[part])


class EdgeModulatedMessages(nn.Module):
    """x_i <- L(L([x_i, mean_j e'])) with e' = scale(e) * L([x_i, x_j]) + shift(e) on the edges j -> i (section 4.2).

    Args:
        hidden: width of nodes and edges.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(hidden, 2 * hidden)
        self.pair = nn.Linear(2 * hidden, hidden)
        self.update = nn.Linear(2 * hidden, hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self,
        x: Float[Tensor, "slices nodes hidden"],
        e: Float[Tensor, "slices edges hidden"],
        source: Int[Tensor, edges],
        target: Int[Tensor, edges],
        chunk: int,
        share: Int[Tensor, some] | None = None,
    ) -> Float[Tensor, "slices nodes hidden"]:
        """New nodes; ``chunk`` edges at a time, only those of ``share`` if it is given."""
        at_target, at_source = self.pair.weight.chunk(2, dim=1)
        to, from_ = linear(x, at_target, self.pair.bias), linear(x, at_source)  # at the nodes: far fewer than edges
        if share is not None:
            e, source, target = e[:, share], source[share], target[share]
        total = torch.zeros_like(x)
        for edges, start, end in zip(e.split(chunk, dim=1), source.split(chunk), target.split(chunk)):
            scale, shift = self.modulation(edges).chunk(2, dim=-1)
            message = torch.addcmul(shift, scale, to.index_select(1, end) + from_.index_select(1, start))
            total = total.index_add(1, end, message)
        degree = torch.bincount(target, minlength=x.shape[1]).clamp(min=1)
        return self.out(self.update(torch.cat([x, total / degree[:, None]], dim=-1)))


class EdgeUpdate(nn.Module):
    """e <- L(SiLU(L e + L x_source + L x_target)) (section 4.2).

    Args:
        hidden: width of nodes and edges.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.edge = nn.Linear(hidden, hidden)
        self.source = nn.Linear(hidden, hidden)
        self.target = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self,
        x: Float[Tensor, "slices nodes hidden"],
        e: Float[Tensor, "slices edges hidden"],
        source: Int[Tensor, edges],
        target: Int[Tensor, edges],
    ) -> Float[Tensor, "slices edges hidden"]:
        """New edges."""
        at_source, at_target = self.source(x).index_select(1, source), self.target(x).index_select(1, target)
        return self.out(silu(self.edge(e) + at_source + at_target))


class BoundNiNo(BoundForecaster):
    """A `NiNo` and the graph of the model that it forecasts, or several graphs of its parts.

    Args:
        forecaster: the network.
        model: the model.
        parts: graphs that hold one stretch of the parameter vector after the other, each with the positions of its
            neurons (None for the graph's own).
    """

    def __init__(self, forecaster: NiNo, model: nn.Module, parts: list[tuple[NeuralGraph, Tensor | None]]) -> None:
        super().__init__(forecaster, model)
        self.nino = forecaster
        self.parts = [(graph, graph.positions if positions is None else positions) for graph, positions in parts]

    def forecasts(
        self,
        scaled: Float[Tensor, "slices parameters context"],
        k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "slices parameters *horizon"]:
        """Scaled future states; a ``generator`` flips the arbitrary signs of the positions."""
        device = self.nino.kind.weight.device
        vectors = []
        stretches = scaled.split([graph.parameters for graph, _ in self.parts], dim=1)
        for (graph, positions), stretch in zip(self.parts, stretches, strict=True):
            if generator is not None:
                positions = positions * (2 * torch.randint(2, (POSITIONS,), generator=generator) - 1)
            edges = torch.stack([graph.to_edges(states) for states in stretch.to(device)])
            future = self.nino(edges.to(self.nino.kind.weight.dtype), graph, positions, k)
            vectors.append(torch.stack([graph.to_vector(part) for part in future]))
        return torch.cat(vectors, dim=1).to(scaled)


def _parts(
    model: nn.Module, heads: int | None, fallback: Literal["edges-only"] | None, blocks: str | None
) -> list[NeuralGraph]:
    graph = neural_graph(model, heads=heads, fallback=fallback)
    if blocks is None:
        return [graph]
    starts, end, seen = [], 0, set()
    for name, parameter in model.named_parameters():
        if name.startswith(blocks + "."):
            number = name.removeprefix(blocks + ".").partition(".")[0]
            if number not in seen:
                seen.add(number)
                starts.append(end)
        end += parameter.numel()
    if not starts:
        raise ValueError(f"blocks names {blocks!r}, but no parameter's name begins with it")
    edges = [0, *starts[1:], end]
    return [graph.subgraph(slice(a, b)) for a, b in itertools.pairwise(edges)]


def load_released(path: str | Path) -> NiNo:
    """A network as its authors released it (``nino.pt``, ``nino_no_posw.pt`` and ``nino_h32.pt``).

    Raises:
        ValueError: the file holds something else.
    """
    file = read_saved(path, "the release of NiNo")
    state = file.get("state_dict", file)
    if "edge_out.fc.2.weight" not in state:
        raise ValueError(f"{path} is not a released NiNo with a graph network: it has no edge_out.fc.2.weight")
    names = {
        "layer_embed": "kind", "node_proj.fc.0": "node", "edge_proj.fc.0": "edge", "wte_pos_enc_layer": "token",
        "edge_out.fc": "readout", "gnn.convs": "messages", "gnn.edge_update": "updates", "edge_encoder": "modulation",
        "pre_nns.0.0": "pair", "post_nns.0.0": "update", ".lin1.": ".out.", ".lin.": ".out.", ".lin_e.": ".edge.",
        ".lin_s.": ".source.", ".lin_t.": ".target.",
    }  # fmt: skip
    ours = {}
    for name, tensor in state.items():
        for theirs, own in names.items():
            name = name.replace(theirs, own)
        ours[name] = tensor
    layers = len({name.split(".")[1] for name in ours if name.startswith("messages.")})
    updates = len({name.split(".")[1] for name in ours if name.startswith("updates.")})
    hidden = ours["kind.weight"].shape[1]
    nino = NiNo(
        context=ours["edge.weight"].shape[1] // SLOTS, horizon=len(ours["readout.2.bias"]) // SLOTS, hidden=hidden,
        layers=layers, vocabulary=len(ours["token.weight"]) - 1 if "token.weight" in ours else 0,
        final_edge_update=updates == layers,
    )  # fmt: skip
    nino.load_state_dict(ours)
    return nino
