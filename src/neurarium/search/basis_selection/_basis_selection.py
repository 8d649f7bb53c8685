"""The stages of S-KAN: nodes choose their basis, and what was not chosen leaves the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.layers import SelectableKAN
from neurarium.training import call, evaluation, replace_module


@dataclass(frozen=True)
class BasisChoice:
    """What one node chose.

    Args:
        layer: qualified name of its layer.
        node: index of the node.
        basis: name of the basis.
        margin: the best score minus the next, by the best; 1 is certain.
    """

    layer: str
    node: int
    basis: str
    margin: float


class BasisSelection:
    """Lets the nodes of a network's selectable layers choose, then prunes (stages 2 and 3 of S-KAN).

    Train with all bases first. Then `select` on a batch, train on, `prune`, train on. As a callback of
    `neurarium.training.fit`, or called as ``selection(step)`` in a loop of your own, it does so by itself.

    Attributes:
        choices: what every node chose, once it has.
        change: layer -> relative change of its output on the batch by the last selection (spread of the difference).

    Args:
        model: a network with `SelectableKANLinear` or `SelectableKANConv2d` layers; changed in place by `prune`.
        criterion: "contribution" is the gate times the spread of the basis' share over the batch, "weight" the gate
            alone.
        rounds: 1 lets all nodes choose at once; with more, each `select` settles the most certain share of them.
        optimizer: its state moves with the kept coefficients (L-BFGS starts anew).
        x: a batch, for use as a callback.
        select_at: step of the first selection, for use as a callback; further rounds follow evenly until ``prune_at``.
        prune_at: step of the pruning, for use as a callback.

    Raises:
        ValueError: no selectable layer, or one with a single basis; an unknown criterion; rounds below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Literal["contribution", "weight"] = "contribution",
        rounds: int = 1,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        x: Any = None,
        select_at: int = 0,
        prune_at: int = 0,
    ) -> None:
        if criterion not in ("contribution", "weight"):
            raise ValueError(f"criterion must be 'contribution' or 'weight', not {criterion!r}")
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {rounds}")
        self.model, self.criterion, self.rounds, self.optimizer = model, criterion, rounds, optimizer
        layers = list(self._layers())
        if not layers:
            raise ValueError(f"nothing to act on: {type(model).__name__} has no selectable Kolmogorov-Arnold layer")
        for name, layer in layers:
            if len(layer.names) < 2:
                raise ValueError(f"{name} has a pool of one basis; there is nothing to select")
        self.x, self.prune_at, self._round = x, prune_at, 0
        between = (prune_at - select_at) // rounds if prune_at else 0
        self.select_at = {select_at + r * between for r in range(rounds)}
        self.choices: list[BasisChoice] = []
        self.change: dict[str, float] = {}

    def _layers(self) -> Iterator[tuple[str, SelectableKAN]]:
        return ((n, m) for n, m in self.model.named_modules() if isinstance(m, SelectableKAN))

    def __call__(self, step: int, loss: float = 0.0) -> None:
        """Select and prune if it is time."""
        if step in self.select_at:
            self.select(self.x)
        if step == self.prune_at:
            self.prune()

    @torch.no_grad()
    def select(self, x: Any) -> list[BasisChoice]:
        """Let nodes choose on a batch of the network's inputs; the most certain first where there are rounds.

        Returns:
            All choices so far.
        """
        inputs: dict[str, Tensor] = {}
        hooks = [
            layer.register_forward_pre_hook(lambda m, args, name=name: inputs.update({name: args[0]}))
            for name, layer in self._layers()
        ]
        try:
            with evaluation(self.model):
                call(self.model, x)
        finally:
            for hook in hooks:
                hook.remove()
        self._round += 1
        with evaluation(self.model):
            for name, layer in self._layers():
                if name in inputs:
                    self._choose(name, layer, inputs[name])
        return self.choices

    def _choose(self, name: str, layer: SelectableKAN, given: Tensor) -> None:
        before = layer(given)
        scores = layer.gates()
        if self.criterion == "contribution":
            shares = [s.movedim(1, -1) if layer.window else s for s in layer.shares(given)]
            scores = scores * torch.stack([s.flatten(0, -2).std(0) for s in shares], 1)
        if layer.granularity == "layer":
            scores = scores.mean(0, keepdim=True).expand_as(scores)
        best = scores.topk(2, dim=1)
        margins = 1 - best.values[:, 1] / best.values[:, 0].clamp_min(torch.finfo(scores.dtype).tiny)
        free = (layer.choice < 0).nonzero().flatten()
        left = max(1, self.rounds - self._round + 1)
        count = len(free) if layer.granularity == "layer" else -(-len(free) // left)
        nodes = free[margins[free].argsort(descending=True)[:count]]
        bases = best.indices[nodes, 0]
        layer.choose(nodes, bases)
        self.choices += [
            BasisChoice(name, n, layer.names[a], float(margins[n]))
            for n, a in zip(nodes.tolist(), bases.tolist(), strict=True)
        ]
        self.change[name] = float((layer(given) - before).std() / before.std().clamp_min(1e-12))

    @torch.no_grad()
    def prune(self) -> nn.Module:
        """Take out what was not chosen; the optimizer's state moves along. There is no way back.

        Returns:
            The model (a new one only where the model itself was a selectable layer).

        Raises:
            ValueError: some nodes have not chosen.
        """
        layers = list(self._layers())
        if not layers:
            raise ValueError("the network is pruned already; what was removed cannot come back")
        for name, layer in layers:
            small = layer.grouped()
            if self.optimizer is not None:
                self._move(layer, small)
            self.model = replace_module(self.model, name, small)
        return self.model

    def _move(self, old: SelectableKAN, new: nn.Module) -> None:
        """Exchange the old layer's parameters for the kept rows, with the optimizer's state of these rows."""
        optimizer = self.optimizer
        assert optimizer is not None
        kept: dict[nn.Parameter, tuple[nn.Parameter, Tensor]] = {}
        for name, parameter in zip(new.names, new.coefficients, strict=True):  # type: ignore[arg-type]
            a = old.names.index(name)
            kept[old.coefficients[a]] = (parameter, (old.choice == a).nonzero().flatten())
        gone = {old.gate_logits, *old.coefficients}
        for group in optimizer.param_groups:
            group["params"] = [kept[p][0] if p in kept else p for p in group["params"] if p in kept or p not in gone]
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.state.clear()  # its history is of vectors of another length
            optimizer._params = optimizer.param_groups[0]["params"]
            optimizer._numel_cache = None
            return
        for before in gone:
            state = optimizer.state.pop(before, {})
            if before in kept and state:
                after, rows = kept[before]
                optimizer.state[after] = {
                    k: v[rows].clone() if isinstance(v, Tensor) and v.shape == before.shape else v
                    for k, v in state.items()
                }
