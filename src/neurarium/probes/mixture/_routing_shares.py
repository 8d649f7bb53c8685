"""Which tokens a router sends where: by expert, by class, by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import KANLinear, MixtureOfExperts
from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation, unpack


@dataclass(frozen=True)
class RoutingShares(ProbeResult):
    """One row for each mixture of experts.

    Args:
        layers: names of the mixtures.
        shares: weight that each expert has in the outputs, summed to 1 over the experts.
        entropy: mean entropy of a token's probabilities, as a share of the largest possible.
        kan_share: sum of the shares of experts that hold Kolmogorov-Arnold layers.
        kan: for each mixture, which experts do.
        kan_by_class: class -> the same sum for the tokens of its examples, for each mixture.
        kan_by_position: the same sum for each place in a sequence [positions], for each mixture; empty where there are
            no sequences of one length.
    """

    layers: tuple[str, ...]
    shares: tuple[Float[Tensor, " experts"], ...]
    entropy: tuple[float, ...]
    kan_share: tuple[float, ...]
    kan: tuple[tuple[bool, ...], ...]
    kan_by_class: Mapping[int, tuple[float, ...]]
    kan_by_position: tuple[tuple[float, ...], ...]

    def summary(self) -> str:
        """A line for each mixture."""
        lines = []
        for name, share, entropy, kan in zip(self.layers, self.shares, self.entropy, self.kan_share, strict=True):
            listed = " ".join(f"{float(s):.2f}" for s in share)
            lines.append(f"{name}: {listed}; entropy {entropy:.2f} of the largest; {kan:.0%} to KAN experts")
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """A bar for each mixture, cut by expert; those that hold Kolmogorov-Arnold layers are hatched."""
        for row, (shares, kan) in enumerate(zip(self.shares, self.kan, strict=True)):
            left = 0.0
            for i, share in enumerate(shares.tolist()):
                ax.barh(row, share, left=left, hatch="//" if kan[i] else None, color=f"C{i % 10}", edgecolor="white")
                left += share
        ax.set(xlabel="share of the outputs", yticks=range(len(self.layers)), yticklabels=self.layers)
        return ax


@torch.no_grad()
def routing(model: nn.Module, loader: Iterable[Any]) -> RoutingShares:
    """Where the tokens of a loader go in every `MixtureOfExperts` of a network.

    Args:
        model: any network.
        loader: batches with labels, which may be anything that a class is to stand for: a task, a formula.

    Raises:
        ValueError: the network has no such layer, or the loader gave no batches.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, MixtureOfExperts)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no MixtureOfExperts whose routing could be looked at")
    tables = {name: _Table(layer) for name, layer in layers.items()}
    hooks = [
        layer.register_forward_pre_hook(lambda m, args, named, t=tables[name]: t.see(m, args, named), with_kwargs=True)
        for name, layer in layers.items()
    ]
    seen = False
    try:
        with evaluation(model):
            for batch in loader:
                x, y = unpack(batch)
                for table in tables.values():
                    table.labels = y
                call(model, x)
                seen = True
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ValueError("the loader gave no batches")
    used = {name: table for name, table in tables.items() if table.tokens}
    classes = sorted({label for table in used.values() for label in table.by_class})
    return RoutingShares(
        tuple(used),
        tuple(table.total.cpu() / table.tokens for table in used.values()),
        tuple(table.entropy / table.tokens for table in used.values()),
        tuple(float(table.total[table.is_kan].sum()) / table.tokens for table in used.values()),
        tuple(tuple(table.is_kan.tolist()) for table in used.values()),
        {label: tuple(table.class_share(label) for table in used.values()) for label in classes},
        tuple(table.position_shares() for table in used.values()),
    )


class _Table:
    """What is summed over the tokens of one mixture."""

    def __init__(self, layer: MixtureOfExperts) -> None:
        kinds = [any(isinstance(m, KANLinear) for m in expert.modules()) for expert in layer.experts]
        like = layer.gate.weight
        exact = torch.promote_types(like.dtype, torch.float32)
        self.is_kan = torch.tensor(kinds, device=like.device)
        self.total = torch.zeros(len(kinds), device=like.device, dtype=exact)
        self.tokens, self.entropy = 0, 0.0
        self.labels: Tensor | None = None
        self.by_class: dict[int, tuple[float, int]] = {}
        self.positions: Tensor | None = None
        self.rows, self.uneven = 0, False

    def see(self, layer: MixtureOfExperts, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Tokens on their way in."""
        x = args[0]
        padding = args[1] if len(args) > 1 else named.get("padding_mask")
        found = layer.route(x)
        weights = torch.zeros_like(found.probabilities).scatter_(1, found.chosen, found.gates)
        there = torch.ones(len(weights), dtype=torch.bool, device=weights.device)
        if padding is not None:
            there = ~padding.flatten()
        p = found.probabilities[there]
        self.total += weights[there].sum(0)
        self.tokens += int(there.sum())
        most = torch.tensor(float(max(2, p.shape[1]))).log()
        self.entropy += float(torch.special.entr(p).sum() / most)
        kan = weights[:, self.is_kan].sum(1)
        if self.labels is not None and self.labels.dim() == 1 and len(weights) % len(self.labels) == 0:
            for label in self.labels.unique().tolist():
                mine = (self.labels == label).repeat_interleave(len(weights) // len(self.labels)) & there
                share, count = self.by_class.get(int(label), (0.0, 0))
                self.by_class[int(label)] = share + float(kan[mine].sum()), count + int(mine.sum())
        if x.dim() == 3 and padding is None:
            along = kan.view(x.shape[:2]).sum(0)
            self.uneven |= self.positions is not None and len(self.positions) != len(along)
            if not self.uneven:
                self.positions = along if self.positions is None else self.positions + along
                self.rows += len(x)

    def class_share(self, label: int) -> float:
        """Of a class."""
        share, count = self.by_class.get(label, (0.0, 0))
        return share / count if count else float("nan")

    def position_shares(self) -> tuple[float, ...]:
        """Of each place."""
        known = self.positions is not None and not self.uneven
        return tuple((self.positions / self.rows).tolist()) if known and self.positions is not None else ()
