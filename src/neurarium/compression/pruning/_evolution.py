"""Sparse evolutionary training: weak connections are dropped and as many new ones grow, once per epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from neurarium.compression.pruning._masking import Masks
from neurarium.layers import Conversion, SparseLinear, draw_positions, epsilon_density, swap
from neurarium.layers.sparse._sparse_linear import DENSE


class SparseEvolution:
    """Rewires the sparse layers of one model, in place (Mocanu et al. 2018, Algorithm 1).

    Every `evolve` drops from each layer the share ``zeta`` of positive weights and of negative weights that is closest
    to zero, and grows as many connections at places that are free, drawn uniformly (a place just freed may be drawn).
    What the optimizer remembers of a connection goes where the connection goes; new ones begin with none.

    The number of connections never changes, except in the last call, which only drops. Layers are every `SparseLinear`
    of the model or, with ``masks``, the dense weights that those hold sparse: slower, but for convolutions, too.

    It is also a callback of `neurarium.training.fit`: ``callbacks=[evolution]`` with ``every`` set.

    Args:
        model: a network with sparse layers; `random_sparse` makes one.
        optimizer: trains the model; may be left out if it keeps no state.
        zeta: share of the connections of either sign that moves, in (0, 1).
        grow_init: value of new connections: ``"init"`` draws from the initial distribution of a *dense* layer,
            uniform within ``1/√in_features``; ``"zero"`` is 0. Both are small against trained weights, so that what
            does not grow is dropped again.
        every: steps between two calls when used as a callback (an epoch's); 0 leaves it to you to call `evolve`.
        steps: step at which the callback makes the last call, which only drops; 0 for none.
        masks: evolve these masked weights instead.
        generator: source of new places and values.

    Raises:
        ValueError: an argument is out of its range, the model has no sparse layer, or the optimizer holds none of them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        zeta: float = 0.3,
        grow_init: str = "init",
        every: int = 0,
        steps: int = 0,
        masks: Masks | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if not 0 < zeta < 1:
            raise ValueError(f"zeta must be between 0 and 1, not {zeta}")
        if grow_init not in ("init", "zero"):
            raise ValueError(f"grow_init must be 'init' or 'zero', not {grow_init!r}")
        self.layers = dict(sparse_layers(model)) if masks is None else {}
        if masks is None and not self.layers:
            raise ValueError("the model has no SparseLinear layer: make them with random_sparse(model), or give masks")
        trained = masks.targets.values() if masks is not None else [layer.values for layer in self.layers.values()]
        if optimizer is not None:
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            if not all(id(parameter) in held for parameter in trained):
                raise ValueError("the optimizer does not hold the sparse layers: build it from this model's parameters")
        self.optimizer, self.masks = optimizer, masks
        self.zeta, self.grow_init = zeta, grow_init
        self.every, self.steps, self.generator = every, steps, generator

    def __call__(self, step: int, loss: float) -> None:
        """Evolve when an epoch ends; a callback of `fit`."""
        if step == self.steps:
            self.evolve(last=True)
        elif self.every and step % self.every == 0:
            self.evolve()

    @torch.no_grad()
    def evolve(self, last: bool = False) -> dict[str, int]:
        """Drop and regrow in every layer.

        Args:
            last: only drop; the network keeps about ``1 − zeta`` of its connections.

        Returns:
            Connections dropped, by layer.
        """
        dropped: dict[str, int] = {}
        for name, layer in self.layers.items():
            dropped[name] = self._evolve_sparse(layer, last)
        for name in self.masks or ():
            dropped[name] = self._evolve_masked(name, last)
        if isinstance(self.optimizer, torch.optim.LBFGS):
            # its curvature is of all parameters at once, in their old places
            self.optimizer.state.clear()
            self.optimizer._numel_cache = None
        return dropped

    def _evolve_sparse(self, layer: SparseLinear, last: bool) -> int:
        values = layer.values
        keep = strongest(values, self.zeta)
        places = layer.positions()
        kept = places[keep]
        removed = len(places) - len(kept)
        grown = kept[:0] if last else self._grow(layer.in_features * layer.out_features, removed, kept)
        order = torch.cat([kept, grown]).argsort()
        fresh = self._initial(len(grown), layer.in_features, values)

        def carry(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([old[keep], new])[order]

        state = self.optimizer.state.get(values, {}) if self.optimizer is not None else {}
        for key, entry in state.items():
            if isinstance(entry, Tensor) and entry.shape == values.shape:
                state[key] = carry(entry, entry.new_full((len(grown),), self._beginning(key, values)))
        # the parameter itself stays, so that the optimizer and whoever else holds it sees the new values
        values.data = carry(values.detach(), fresh)
        values.grad = None
        layer.set_positions(torch.cat([kept, grown])[order])
        return removed

    def _evolve_masked(self, name: str, last: bool) -> int:
        if self.masks is None:
            return 0
        weight, mask = self.masks.targets[name], self.masks[name].flatten()
        places = mask.nonzero().squeeze(1)
        flat = weight.detach().flatten()
        kept = places[strongest(flat[places], self.zeta)]
        removed = len(places) - len(kept)
        grown = kept[:0] if last else self._grow(weight.numel(), removed, kept)
        before, mask = mask.clone(), torch.zeros_like(mask)
        mask[kept] = True
        moved = before ^ mask
        moved[grown] = True
        flat = torch.where(mask, flat, 0)
        flat[grown] = self._initial(len(grown), weight[0].numel(), flat)
        mask[grown] = True
        weight.copy_(flat.view_as(weight))
        weight.grad = None
        state = self.optimizer.state.get(weight, {}) if self.optimizer is not None else {}
        for key, entry in state.items():
            if isinstance(entry, Tensor) and entry.shape == weight.shape:
                entry.masked_fill_(moved.view_as(weight), self._beginning(key, weight))
        self.masks.keep({name: mask.view_as(weight)})
        return removed

    def _beginning(self, key: str, parameter: Tensor) -> float:
        """What an optimizer remembers of a weight before its first step: nothing, but for two of them."""
        setting = {"step_size": "lr", "sum": "initial_accumulator_value"}.get(key)  # of Rprop, of Adagrad
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        mine = (group for group in groups if any(p is parameter for p in group["params"]))
        return float(next(mine, {}).get(setting, 0.0)) if setting else 0.0

    def _grow(self, total: int, count: int, kept: Tensor) -> Tensor:
        return draw_positions(total, count, kept, self.generator).to(kept.device)

    def _initial(self, count: int, inputs: int, like: Tensor) -> Tensor:
        if self.grow_init == "zero":
            return like.new_zeros(count)
        bound = inputs**-0.5
        return torch.empty(count, dtype=like.dtype).uniform_(-bound, bound, generator=self.generator).to(like.device)


def strongest(values: Tensor, zeta: float) -> Tensor:
    """Which values stay: all but the ⌊ζ · count⌋ of each sign that are closest to zero, and exact zeros.

    Signs are ranked apart (the k-th smallest of each is the threshold), equal values in their order.
    """
    keep = values != 0
    for signed in (values, -values):
        positive = signed > 0
        count = int(zeta * int(positive.sum()))
        if count == 0:
            continue
        threshold = signed[positive].kthvalue(count).values
        weaker, tied = positive & (signed < threshold), signed == threshold
        keep &= ~weaker & ~(tied & (tied.cumsum(0) <= count - weaker.sum()))
    return keep


def sparse_layers(model: nn.Module) -> Iterator[tuple[str, SparseLinear]]:
    """The `SparseLinear` layers of a model by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, SparseLinear))


def random_sparse(
    model: nn.Module,
    epsilon: float = 20.0,
    *,
    density: float | None = None,
    skip_last: bool = True,
    generator: torch.Generator | None = None,
) -> Conversion:
    """A copy of a model whose linear layers are random sparse ones, freshly initialised (Erdős–Rényi graphs).

    Args:
        model: any module with linear layers; left untouched.
        epsilon: connections per unit, counting both sides: a layer gets ``ε (n_in + n_out)`` of them. A layer that
            would have more than all stays dense.
        density: the same share of every layer instead.
        skip_last: leave the last linear layer dense, as the paper does where classes are few.
        generator: source of places and values.

    Returns:
        The copy, the layers that are sparse now, and those that are not and why.

    Raises:
        ValueError: no layer becomes sparse, ``epsilon`` is not positive, or ``density`` is not in (0, 1].
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]

    def replacement(name: str, old: nn.Linear) -> nn.Module | str:
        share = epsilon_density(epsilon, old.in_features, old.out_features) if density is None else density
        if skip_last and name == linear[-1]:
            return "the last linear layer stays dense (skip_last)"
        if share == 1:
            return "is too small to have fewer connections than all"
        new = SparseLinear(
            old.in_features, old.out_features, share, old.bias is not None, generator=generator,
            device=old.weight.device, dtype=old.weight.dtype,
        )  # fmt: skip
        if bare := int((new.crow.diff() == 0).sum()):
            warnings.warn(f"{bare} of the {old.out_features} units of {name} have no incoming connection", stacklevel=4)
        return new

    return swap(model, nn.Linear, replacement, cannot=DENSE, looked_for="linear layers that could be sparser")
