"""Units that several networks share, found by their activation maps on the same images.

A unit of an anchor network and a unit of another match where each is among the other's best; a unit of the anchor with
a match in every network is a Rosetta neuron (Dravid et al., 2023). What shuffled images give says how high a
correlation chance alone produces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._maps import Maps, at_size
from neurarium.probes.similarity._unit_correlation import UnitCorrelation, _derangement
from neurarium.probes.similarity._units import unit_layers
from neurarium.training import evaluation

FEW = 50
"""Below so many images correlations are unreliable, and the summary says so."""


@dataclass(frozen=True)
class RosettaDictionary(ProbeResult):
    """Shared units, best first.

    Args:
        units: unit of the anchor, counted through its layers.
        partners: its unit in each model, counted through that model's layers, [units, models].
        scores: correlation of their maps, [units, models].
        cluster: units of one concept share a number.
        null: score that chance reaches in each model: a quantile over the anchor's units of the best score with
            shuffled images.
        models: names.
        layers: names of the layers of the anchor (first) and of each model.
        sizes: units of each of these layers.
        anchor_units: units of the anchor that were looked at.
        images: how many images were seen.
        pictures: a few images.
        maps: maps of the units on them, anchor first, [units][models + 1], each [images, height, width].
    """

    units: Int[Tensor, " units"]
    partners: Int[Tensor, "units models"]
    scores: Float[Tensor, "units models"]
    cluster: Int[Tensor, " units"]
    null: Float[Tensor, " models"]
    models: tuple[str, ...]
    layers: tuple[tuple[str, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    anchor_units: int
    images: int
    pictures: Tensor
    maps: tuple[tuple[Tensor, ...], ...]

    @property
    def concepts(self) -> int:
        """Rosetta neurons, those of one concept counted once."""
        return len(self.cluster.unique())

    def entries(self) -> list[dict[str, Any]]:
        """The dictionary as plain data: for each Rosetta neuron its layer and channel in every network, and scores."""
        found = []
        for row in range(len(self.units)):
            places = {"anchor": self.place(0, int(self.units[row]))}
            for k, name in enumerate(self.models):
                places[name] = self.place(k + 1, int(self.partners[row, k]))
            scores = dict(zip(self.models, self.scores[row].tolist()))
            found.append({"concept": int(self.cluster[row]), "places": places, "scores": scores})
        return found

    def place(self, network: int, unit: int) -> tuple[str, int]:
        """Layer and channel of a unit; network 0 is the anchor."""
        for layer, size in zip(self.layers[network], self.sizes[network]):
            if unit < size:
                return layer, unit
            unit -= size
        raise IndexError("there are not so many units")

    @torch.no_grad()
    def maps_of(
        self, network: str, model: nn.Module, batch: Any, grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch units height width"]:
        """The maps of the shared units in one network on any images, at the largest of their sizes.

        Args:
            network: "anchor" or the name of a model.
            model: that network.
            batch: images as that network takes them (latents, for a generator).
            grid: as in `mine_rosetta`.

        Raises:
            ValueError: no such network, or there are no shared units.
        """
        names = ("anchor", *self.models)
        if network not in names or not len(self.units):
            raise ValueError(f"network must be one of {', '.join(names)}, and there must be units; not {network!r}")
        at = names.index(network)
        with evaluation(model):
            layers = Maps(model, self.layers[at], grid).read(batch)
        maps = [channel for value in layers.values() for channel in value.unbind(1)]
        chosen = [maps[unit] for unit in (self.units if at == 0 else self.partners[:, at - 1]).tolist()]
        size = (max(part.shape[1] for part in chosen), max(part.shape[2] for part in chosen))
        return torch.cat([at_size(part[:, None], size) for part in chosen], 1)

    def summary(self) -> str:
        """How many, of how many, and against what chance gives."""
        few = f"; only {self.images} images: correlations are unreliable" if self.images < FEW else ""
        chance = ", ".join(f"{name} {float(level):.2f}" for name, level in zip(self.models, self.null))
        score = f", mean score {float(self.scores.mean()):.2f}" if len(self.units) else ""
        return (
            f"{len(self.units)} of {self.anchor_units} units of the anchor ({self.concepts} concepts) have a match in "
            f"all of {len(self.models)} networks{score}; chance reaches {chance}{few}"
        )

    def plot(self, ax: Any, index: int = 0) -> Any:
        """Maps of one Rosetta neuron: a row per image, a column per network, the image in front.

        Args:
            ax: axes.
            index: which one, from the best.
        """
        ax.set_axis_off()
        if not len(self.units):
            ax.text(0.5, 0.5, "no Rosetta neurons", ha="center", va="center", transform=ax.transAxes)
            return ax
        size = max(self.pictures.shape[-2:])
        columns = [_grey(self.pictures)] + [_unit_scale(part.double()) for part in self.maps[index]]
        tiles = [at_size(column[:, None], (size, size))[:, 0] for column in columns]
        gap = torch.ones(len(self.pictures), size, max(size // 14, 1), dtype=torch.float64)
        joined = torch.cat([part for tile in tiles for part in (tile.cpu(), gap)][:-1], 2)
        ax.imshow(joined.flatten(0, 1), cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
        step = size + gap.shape[2]
        for column, name in enumerate(("image", "anchor", *self.models)):
            ax.text(column * step + size / 2, -size / 14, name, ha="center", va="bottom", fontsize="x-small")
        return ax


def mine_rosetta(
    anchor: nn.Module,
    models: Mapping[str, nn.Module],
    images: Iterable[Any],
    layers: Mapping[str, Sequence[str]] | None = None,
    *,
    generator: bool = False,
    prepare: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    k: tuple[int, int] = (1, 5),
    mutual: bool = True,
    null_quantile: float = 0.95,
    shuffle: bool = False,
    merge: float = 0.5,
    grid: tuple[int, int] | None = None,
    precision: torch.dtype = torch.float32,
    seed: int = 0,
) -> RosettaDictionary:
    """Find the units that an anchor network shares with all of several others (Dravid et al., 2023, section 3).

    Scores are Pearson correlations over images and positions, at the larger size of the two maps, in one pass without
    keeping activations.

    Args:
        anchor: the network whose units are looked for: any model of images, or a generator.
        models: the others, by name.
        images: batches of images (tensors or ``(x, ...)``), or of latents where the anchor is a generator.
        layers: names of layers, by the model's name ("anchor" for the anchor); activation modules by default.
        generator: the anchor makes the images that the others see.
        prepare: for a model, what is done to the images before (its size and normalisation), by its name.
        k: a pair counts where the other's unit is among the anchor unit's best k[0] and the anchor's among the other
            unit's best k[1].
        mutual: without it the first condition is enough (a control).
        null_quantile: a match must beat this quantile of what the anchor's units reach with shuffled images.
        shuffle: look for matches on images in another order for the other networks (a control: there should be none).
        merge: units of the anchor that correlate by more belong to one concept (average linkage).
        grid: rows and columns of tokens where they are no square.
        precision: of the products of one batch.
        seed: of the shuffled order.

    Raises:
        ValueError: no model, no images, batches of one image, or an unknown layer.
    """
    if not models:
        raise ValueError("models must hold at least one network")
    names = layers or {}
    readers = {"anchor": Maps(anchor, list(names.get("anchor", ())) or unit_layers(anchor), grid)}
    for name, model in models.items():
        readers[name] = Maps(model, list(names.get(name, ())) or unit_layers(model), grid)
    true, null = ({name: _Table(precision) for name in models} for _ in range(2))
    own = _Table(precision)
    draw = torch.Generator().manual_seed(seed)
    kept: Any = None
    count = 0
    with torch.no_grad(), evaluation(anchor, *models.values()):
        for batch in images:
            first = batch[0] if isinstance(batch, (tuple, list)) else batch
            kept = first[:6] if kept is None else kept
            seen = _images(anchor, first, generator)
            maps = readers["anchor"].read(first)
            order = _derangement(len(first), draw).to(first.device)
            own.update(maps, maps)
            for name in models:
                shown = prepare[name](seen) if prepare and name in prepare else seen
                theirs = readers[name].read(shown)
                turned = {layer: value[order] for layer, value in theirs.items()}
                true[name].update(maps, turned if shuffle else theirs)
                null[name].update(maps, turned if not shuffle else {n: v[order] for n, v in turned.items()})
            count += len(first)
    if count == 0:
        raise ValueError("images gave no batches")
    tables = {name: table.matrix() for name, table in true.items()}
    levels = torch.stack([null[name].matrix().amax(1).quantile(null_quantile) for name in models])
    pairs = []
    for level, table in zip(levels, tables.values()):
        matched = mutual_neighbours(table, *k) if mutual else best_neighbours(table, k[0])
        pairs.append({a: b for a, b in reversed(matched.tolist()) if float(table[a, b]) > float(level)})
    shared = sorted(set.intersection(*(set(part) for part in pairs)))
    partners = (
        torch.tensor([[part[unit] for part in pairs] for unit in shared]).long().reshape(len(shared), len(models))
    )
    scores = torch.stack(
        [table[shared, partners[:, i].to(table.device)] for i, table in enumerate(tables.values())], 1
    ).cpu().double()  # fmt: skip
    best = scores.mean(1).argsort(descending=True)
    units = torch.tensor(shared).long()[best]
    cluster = concepts(own.matrix()[units][:, units].cpu(), merge)
    found = (units, partners[best], scores[best])
    shown_maps, pictures = _pictures(anchor, readers, kept, generator, prepare, found[0], found[1])
    return RosettaDictionary(
        *found, cluster, levels.cpu(), tuple(models), tuple(reader.units.layers for reader in readers.values()),
        tuple(tuple(reader.sizes.values()) for reader in readers.values()), sum(readers["anchor"].sizes.values()),
        count, pictures, shown_maps,
    )  # fmt: skip


class _Table:
    """Correlations of all maps of one network with all of another; layers of one size go together."""

    def __init__(self, precision: torch.dtype) -> None:
        self.precision = precision
        self.sums: dict[tuple[Any, Any], UnitCorrelation] = {}
        self.columns: list[dict[Any, list[int]]] = [{}, {}]

    def update(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        groups = [_by_size(maps) for maps in (a, b)]
        for side, maps in enumerate((a, b)):
            if not self.columns[side]:
                start = 0
                for value in maps.values():
                    self.columns[side].setdefault(value.shape[2:], []).extend(range(start, start + value.shape[1]))
                    start += value.shape[1]
        enlarged: dict[Any, Tensor] = {}

        def at(side: int, of: Any, size: Any) -> Tensor:
            if (side, of, size) not in enlarged:
                large = at_size(groups[side][of], size)
                enlarged[side, of, size] = large.permute(0, 2, 3, 1).flatten(0, 2)
            return enlarged[side, of, size]

        for i in groups[0]:
            for j in groups[1]:
                size = (max(i[0], j[0]), max(i[1], j[1]))
                total = self.sums.setdefault((i, j), UnitCorrelation(within=False, precision=self.precision))
                total.update(at(0, i, size), at(1, j, size))

    def matrix(self) -> Tensor:
        """All correlations, in the order of the layers."""
        rows, columns = (sum(map(len, side.values())) for side in self.columns)
        whole: Tensor | None = None
        for (i, j), total in self.sums.items():
            part = total.table().matrix
            if whole is None:
                whole = part.new_zeros(rows, columns)
            at = torch.tensor(self.columns[0][i], device=part.device)[:, None]
            whole[at, torch.tensor(self.columns[1][j], device=part.device)] = part
        return torch.zeros(0, 0) if whole is None else whole


def _by_size(maps: Mapping[str, Tensor]) -> dict[Any, Tensor]:
    found: dict[Any, list[Tensor]] = {}
    for value in maps.values():
        found.setdefault(value.shape[2:], []).append(value)
    return {size: torch.cat(parts, 1) for size, parts in found.items()}


def best_neighbours(table: Float[Tensor, "rows columns"], k: int) -> Int[Tensor, "pairs 2"]:
    """(row, column) of each row's k largest entries, best first for each row."""
    k = min(k, table.shape[1])
    columns = table.topk(k, 1).indices
    rows = torch.arange(len(table), device=table.device)[:, None].expand(-1, k)
    return torch.stack([rows.flatten(), columns.flatten()], 1)


def mutual_neighbours(table: Float[Tensor, "rows columns"], k_row: int = 1, k_col: int = 1) -> Int[Tensor, "pairs 2"]:
    """Pairs that choose each other: the column is among the row's best k_row, the row among the column's best k_col."""
    pairs = best_neighbours(table, k_row)
    back = torch.zeros_like(table, dtype=torch.bool)
    back.scatter_(0, table.topk(min(k_col, len(table)), 0).indices, True)
    return pairs[back[pairs[:, 0], pairs[:, 1]]]


def concepts(correlations: Float[Tensor, "units units"], threshold: float) -> Int[Tensor, " units"]:
    """Clusters by average linkage; members correlate by more than the threshold on average."""
    if len(correlations) < 2:
        return torch.zeros(len(correlations), dtype=torch.long)
    distance = (1 - correlations.double()).clamp_min(0)
    distance = ((distance + distance.T) / 2).fill_diagonal_(0)
    tree = linkage(squareform(distance.numpy(), checks=False), "average")
    return torch.as_tensor(fcluster(tree, 1 - threshold, "distance")).long() - 1


def _images(anchor: nn.Module, batch: Tensor, generator: bool) -> Tensor:
    return anchor(batch) if generator else batch


def _pictures(
    anchor: nn.Module,
    readers: Mapping[str, Maps],
    kept: Tensor,
    generator: bool,
    prepare: Mapping[str, Callable[[Tensor], Tensor]] | None,
    units: Tensor,
    partners: Tensor,
) -> tuple[tuple[tuple[Tensor, ...], ...], Tensor]:
    """Maps of the shared units on the first images."""
    with torch.no_grad(), evaluation(*(reader.units.model for reader in readers.values())):
        seen = _images(anchor, kept, generator)
        every = []
        for k, (name, reader) in enumerate(readers.items()):
            shown = kept if name == "anchor" else prepare[name](seen) if prepare and name in prepare else seen
            maps = [channel for value in reader.read(shown).values() for channel in value.unbind(1)]
            chosen = units if k == 0 else partners[:, k - 1]
            every.append([maps[unit].cpu() for unit in chosen.tolist()])
    return tuple(zip(*every)), seen.cpu()


def _grey(images: Tensor) -> Tensor:
    while images.dim() > 3:
        images = images.double().mean(1)
    return _unit_scale(images.double())


def _unit_scale(maps: Tensor) -> Tensor:
    low, high = maps.amin(), maps.amax()
    return (maps - low) / (high - low).clamp_min(1e-12)
