"""Streaming correlation of the units of two networks: one pass over the data, no activation kept.

Sums are taken about the first batch's means, so that nothing is lost where a unit's mean is large beside its deviation.
What has to stay in memory is one matrix per pair of layers, however many samples there are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._correlation_table import CorrelationTable, correlation_of
from neurarium.probes.similarity._matching import KINDS, match_units
from neurarium.probes.similarity._units import Units, kept_tokens, resized, rows, unit_layers
from neurarium.training import evaluation

Control = Literal["rotation", "shuffle", "untrained"]
BLOCK = 256
"""Units in a strip of a layer's products with itself, of which the part below the diagonal is not computed."""


class UnitCorrelation:
    """Adds up the moments of two sets of units, batch by batch.

    Args:
        within: also the correlations among a's units and among b's (for `CorrelationTable.rotated`, `sparse_mapping`,
            `co_cluster`).
        precision: of the products of one batch. Batches are added up in float64 whatever it is; float32 doubles the
            speed and keeps about six digits.
    """

    def __init__(self, within: bool = True, precision: torch.dtype = torch.float64) -> None:
        self.within, self.precision = within, precision
        self.samples = 0
        self._shifts: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._products: dict[str, Tensor] = {}

    def update(self, a: Float[Tensor, "samples a"], b: Float[Tensor, "samples_b b"] | None = None) -> None:
        """Add samples.

        Args:
            a: activations of one network's units.
            b: activations of the other's for the same samples; None: a's own.

        Raises:
            ValueError: different numbers of samples, or an activation that is not finite (its unit is named).
        """
        parts = [a] if b is None else [a, b.to(a.device)]
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"a has {len(parts[0])} samples, b has {len(parts[1])}; both must see the same ones")
        if len(a) == 0:
            return
        wide = torch.float32 if a.device.type == "mps" else torch.float64
        precision = torch.promote_types(torch.float32, self.precision) if wide == torch.float64 else torch.float32
        parts = [part.detach().to(precision) for part in parts]
        if not self._shifts:
            self._shifts = [part.mean(0) for part in parts]
            self._sums = [torch.zeros_like(shift, dtype=wide) for shift in self._shifts]
        centred = [part - shift for part, shift in zip(parts, self._shifts, strict=True)]
        for name, total, part in zip("ab", self._sums, centred):
            summed = part.sum(0, dtype=wide)
            if not bool(torch.isfinite(summed).all()):
                unit = int(torch.nonzero(~torch.isfinite(summed))[0])
                raise ValueError(f"unit {unit} of {name} has an activation that is not finite")
            total += summed
        first, last = centred[0], centred[-1]
        self._add("ab", first, last)
        if b is not None:
            for name, part in (("aa", first), ("bb", last)):
                if self.within:
                    self._add(name, part, part)
                else:
                    self._products[name] = self._products.get(name, 0) + part.square().sum(0, dtype=wide)
        self.samples += len(a)

    @property
    def units(self) -> int:
        """Units of b (of a, where it is correlated with itself)."""
        return len(self._shifts[-1])

    def _add(self, name: str, a: Tensor, b: Tensor) -> None:
        wide = self._sums[0].dtype
        if name not in self._products:
            self._products[name] = torch.zeros(a.shape[1], b.shape[1], dtype=wide, device=a.device)
        total = self._products[name]
        if a is not b:
            total += a.T @ b
            return
        for start in range(0, a.shape[1], BLOCK):  # on and above the diagonal only; `table` mirrors it
            part = slice(start, start + BLOCK)
            total[part, start:] += a[:, part].T @ a[:, start:]

    def table(self, layer_a: str = "a", layer_b: str = "b") -> CorrelationTable:
        """The correlations of all samples so far.

        Args:
            layer_a: what to call a's layer.
            layer_b: what to call b's layer.

        Raises:
            ValueError: fewer than two samples.
        """
        if self.samples < 2:
            raise ValueError(f"a correlation needs at least 2 samples, not {self.samples}")
        n = self.samples
        offsets = [total / n for total in self._sums]
        offset = {"a": offsets[0], "b": offsets[-1]}
        mean = {"a": self._shifts[0] + offsets[0], "b": self._shifts[-1] + offsets[-1]}
        alone = len(self._sums) == 1
        squares = {"a": self._products["ab" if alone else "aa"], "b": self._products["ab" if alone else "bb"]}
        std = {
            side: ((square.diagonal() if square.dim() == 2 else square) / n - offset[side] ** 2).clamp_min(0).sqrt()
            for side, square in squares.items()
        }

        def correlations(i: str, j: str) -> Any:  # None where the products were not taken
            product = self._products.get("ab" if alone else i + j)
            if product is None or product.dim() == 1:
                return None
            if alone or i == j:
                product = product.triu() + product.triu(1).T
            covariance = product / n - torch.outer(offset[i], offset[j])
            return correlation_of(covariance, mean[i], std[i], mean[j], std[j])

        matrix = correlations("a", "b")
        within = (matrix, matrix) if alone else (correlations("a", "a"), correlations("b", "b"))
        return CorrelationTable(matrix, mean["a"], std["a"], mean["b"], std["b"], n, *within, layer_a, layer_b)


@dataclass(frozen=True)
class UnitCorrelations(ProbeResult):
    """Correlations of pairs of layers.

    Args:
        tables: table by the names of the two layers.
    """

    tables: Mapping[tuple[str, str], CorrelationTable]

    def __iter__(self) -> Iterator[CorrelationTable]:
        return iter(self.tables.values())

    def __getitem__(self, layers: tuple[str, str] | int) -> CorrelationTable:
        """The table of two layers, by their names or by its place."""
        return list(self.tables.values())[layers] if isinstance(layers, int) else self.tables[layers]

    def summary(self) -> str:
        """A line per pair: matched one to one, and each unit's best partner."""
        lines = []
        for table in self:
            found = [match_units(table, kind).correlations.mean() for kind in KINDS]
            lines.append(
                f"{table.summary()}; matched one to one {float(found[0]):.2f}, best partner {float(found[1]):.2f}"
            )
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """Sorted correlations of matched units, a curve per pair; dotted: each unit's best partner."""
        for table in self:
            (line,) = ax.plot([], [], label=f"{table.layer_a} / {table.layer_b}")
            for kind, style in zip(KINDS, ("-", ":"), strict=True):
                found = match_units(table, kind).correlations.sort(descending=True).values.cpu()
                place = torch.linspace(0, 1, len(found))
                ax.plot(place, found, linestyle=style, color=line.get_color())
        ax.set(
            xlabel="units, best first (share)",
            ylabel="correlation with the partner",
            ylim=(min(0, ax.get_ylim()[0]), 1),
        )
        ax.legend(fontsize="small", title="solid: one to one, dotted: best partner", title_fontsize="small")
        return ax


def unit_correlations(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable[Any],
    layers_a: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    *,
    pairs: Literal["matching", "all"] = "matching",
    reduce: Literal["positions", "mean"] = "positions",
    positions: int | None = None,
    within: bool = True,
    control: Control | None = None,
    exclude: Sequence[int] = (),
    precision: torch.dtype = torch.float64,
    seed: int = 0,
) -> UnitCorrelations:
    """Correlate the units of layers of two networks over the same inputs, in one pass (Li et al., 2015, section 2).

    Both run in evaluation mode without gradients and are left as they were. Maps of different sizes are resized
    bilinearly to the larger one. Where both models are the same object it runs once.

    Args:
        model_a: any module.
        model_b: any module that takes the same batches.
        loader: batches: tensors, tuples ``(x, ...)``, or mappings of arguments (``attention_mask`` leaves padding out).
        layers_a: names of modules; ``"name:input"`` takes what enters one. By default the activation modules, or else
            the linear and convolutional layers.
        layers_b: the same for the other network; by default ``layers_a``.
        pairs: "matching": the first layer with the first, and so on; "all": every layer of a with every one of b.
        reduce: "positions": every position of a map or sequence is a sample; "mean": maps are averaged first.
        positions: use so many positions of each map, drawn once per batch; all by default.
        within: also take the correlations within each layer.
        control: "rotation": b's units in a random orthogonal basis; "shuffle": b sees the examples of each batch in
            another order; "untrained": b with freshly drawn weights.
        exclude: token ids whose positions do not count.
        precision: as in `UnitCorrelation`.
        seed: of positions and controls.

    Raises:
        ValueError: an unknown layer or control, layers that cannot be paired, no samples, an activation that is not
            finite, a control that needs what is not there, or a layer of which all units are dead.
    """
    if control not in (None, "rotation", "shuffle", "untrained"):
        raise ValueError(f"control must be 'rotation', 'shuffle', 'untrained' or None, not {control!r}")
    if control == "rotation" and not within:
        raise ValueError("control='rotation' needs within=True")
    if control == "untrained":
        model_b = untrained(model_b, seed)
    same = model_a is model_b
    names_a = list(layers_a) if layers_a is not None else unit_layers(model_a)
    names_b = list(layers_b if layers_b is not None else layers_a if layers_a is not None else unit_layers(model_b))
    if pairs == "matching" and len(names_a) != len(names_b):
        raise ValueError(
            f"{len(names_a)} layers of a cannot be paired with {len(names_b)} of b; name them or use pairs='all'"
        )
    wanted = [(a, b) for a in names_a for b in names_b] if pairs == "all" else list(zip(names_a, names_b))
    sums = {pair: UnitCorrelation(within, precision) for pair in wanted}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), evaluation(model_a, model_b):
        both = list(dict.fromkeys([*names_a, *names_b])) if same else names_a
        units_a = Units(model_a, both)
        units_b = None if same else Units(model_b, names_b)
        for batch in loader:
            found_a = units_a.samples(batch)
            found_b = found_a if units_b is None else units_b.samples(batch)
            keep = kept_tokens(batch, exclude)
            order = _derangement(len(next(iter(found_b.values()))), generator) if control == "shuffle" else None
            for (a, b), total in sums.items():
                alone = same and a == b and control != "shuffle"
                try:
                    x, y = _samples(found_a[a], found_b[b], keep, reduce, positions, generator, order)
                    total.update(x, None if alone else y)
                except ValueError as error:
                    raise ValueError(f"layers {a!r} and {b!r}: {error}") from None
    tables = {(a, b): total.table(a, b) for (a, b), total in sums.items()}
    for table in tables.values():
        for layer, dead, count in (
            (table.layer_a, table.dead_a, len(table.mean_a)), (table.layer_b, table.dead_b, len(table.mean_b)),
        ):  # fmt: skip
            if len(dead) == count:
                raise ValueError(f"all {count} units of the layer {layer!r} are dead: they never change")
    if control == "rotation":
        turns = {b: seed + i for i, b in enumerate(names_b)}
        tables = {(a, b): table.rotated(turns[b]) for (a, b), table in tables.items()}
    return UnitCorrelations(tables)


def _samples(
    a: Tensor,
    b: Tensor,
    keep: Tensor | None,
    reduce: str,
    positions: int | None,
    generator: torch.Generator,
    order: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The two layers' units over common samples, [samples, units] each."""
    if order is not None:
        b = b[order.to(b.device)]
    if reduce == "mean":
        a, b = (part if part.dim() == 2 else _average(part, keep) for part in (a, b))
    a, b = resized(a, b)
    if a.dim() == 2:
        return a, b
    a, b = a.flatten(2), b.flatten(2)
    if keep is not None and keep.shape[1] != a.shape[2]:
        raise ValueError(f"{a.shape[2]} positions cannot be told from padding by a mask of {keep.shape[1]}")
    if positions is not None:
        chosen = torch.randperm(a.shape[2], generator=generator)[:positions].sort().values
        a, b = (part[:, :, chosen.to(part.device)] for part in (a, b))
        keep = None if keep is None else keep[:, chosen.to(keep.device)]
    return rows(a, keep), rows(b, keep)


def _average(part: Tensor, keep: Tensor | None) -> Tensor:
    """Mean over the positions (that are kept)."""
    if keep is None:
        return part.flatten(2).mean(2)
    share = keep.to(part).unsqueeze(1)
    return (part * share).sum(2) / share.sum(2).clamp_min(1)


def _derangement(count: int, generator: torch.Generator) -> Tensor:
    """An order in which nothing stays in its place.

    Raises:
        ValueError: there is only one thing.
    """
    if count < 2:
        raise ValueError("control='shuffle' needs batches of at least 2 examples")
    cycle = torch.randperm(count, generator=generator)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order


def untrained(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with freshly drawn weights, by each module's ``reset_parameters``; global random state untouched.

    Raises:
        ValueError: a module with parameters of its own cannot draw them again.
    """
    fresh = copy.deepcopy(model)
    devices = list({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed((seed + 1) * 2_654_435_761 % 2**32)  # a network of manual_seed(seed) must not come out again
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                raise ValueError(
                    f"control='untrained': the module {name!r} ({type(module).__name__}) has no reset_parameters(); "
                    "give an untrained network of your own as model_b"
                )
    return fresh
