"""Lottery tickets: sparse sub-networks that train as well as the whole, found by iterative magnitude pruning."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.compression.pruning._masking import Masks, largest, prunable
from neurarium.training import Handle, on_step, unwrap_optimizer

Rates = Mapping[str | type[nn.Module], float]


class LotteryTicket:
    """Magnitude pruning with rewinding of one model, in place (Frankle & Carbin 2018, Section 2).

    Build it *before* training: it remembers the initial values. Then, round by round, train the model with any
    optimizer that `attach` was called on, and call `prune_and_rewind`. Biases and normalisation parameters are never
    pruned; they are rewound with the rest.

    Args:
        model: any module with linear or convolutional weights, freshly initialised.
        rate: share of the *remaining* weights that a round prunes.
        rates: other rates for some layers, by module name or class (``{nn.Conv2d: 0.1, "head": 0.0}``); a name wins.
        scope: ``"layer"`` ranks every layer by itself, ``"global"`` all weights together, at the one ``rate``.
        output_rate: rate of the output layer, the last one defined. By default half its rate, as in the paper's
            layer-wise networks; with ``scope="global"`` the output layer is not pruned unless this equals ``rate``.
        rewind: iteration to rewind to; 0 is the paper's. Later work found that large networks need a few hundred.
        exclude: names or shell patterns of layers that are not pruned.

    Raises:
        ValueError: there is nothing to prune, a rate is not in [0, 1), or a name matches no layer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rate: float = 0.2,
        rates: Rates | None = None,
        scope: Literal["layer", "global"] = "layer",
        output_rate: float | None = None,
        rewind: int = 0,
        exclude: Sequence[str] = (),
    ) -> None:
        if scope not in ("layer", "global"):
            raise ValueError(f"scope must be 'layer' or 'global', not {scope!r}")
        if rewind < 0:
            raise ValueError(f"rewind must not be negative, not {rewind}")
        weights = prunable(model)
        self.model = model
        self.scope = scope
        self.rewind = rewind
        self.round = 0
        self.rates = _layer_rates(model, rate, rates or {}, scope, output_rate, exclude)
        self.masks = Masks({name: weights[name] for name in self.rates})
        self.total = sum(weight.numel() for weight in weights.values())
        self._untouched = self.total - sum(weights[name].numel() for name in self.rates)
        self._start = _snapshot(model)
        self._steps = 0
        self._origin: dict[str, Tensor] | None = self._start if rewind == 0 else None

    @property
    def density(self) -> float:
        """``P_m``: share left of all linear and convolutional weights, excluded ones among them."""
        kept = sum(kept for kept, _ in self.masks.counts().values())
        return (kept + self._untouched) / self.total

    def report(self) -> dict[str, float]:
        """Share of the weights left in every layer that is pruned."""
        return {name: kept / total for name, (kept, total) in self.masks.counts().items()}

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Hold the mask through every step of a new optimizer; the handle's ``remove()`` ends it.

        With ``rewind=k`` this also counts the steps of the first round and remembers the weights after ``k``.

        Raises:
            ValueError: the optimizer has taken steps already; its momenta belong to an earlier round.
        """
        if unwrap_optimizer(optimizer).state:
            raise ValueError(
                "the optimizer has already taken steps: each round starts from the initial weights with a new "
                "optimizer, and attach(optimizer) comes before its first step"
            )
        handle = self.masks.attach(optimizer)
        if self._origin is None:
            handle.add(on_step(optimizer, after=lambda _: self._count_step()).remove)
        return handle

    def prune(self, rounds: int = 1) -> None:
        """Prune the weights of smallest magnitude as they are now and go on from there (no rewinding).

        Args:
            rounds: how many rounds' worth to prune at once; more than one is one-shot pruning.

        Raises:
            ValueError: the weights are still the initial ones, or are not finite.
        """
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {rounds}")
        if self._is_untrained():
            raise ValueError(
                "the weights are still the initial ones, so there is nothing to rank: build LotteryTicket before "
                "training (it remembers the initial weights), train, then prune"
            )
        if self.rewind and self._origin is None:
            raise ValueError(
                f"rewind={self.rewind}, but only {self._steps} steps were seen: call attach(optimizer) before training "
                "and train for more steps"
            )
        self.masks.keep(self._survivors(rounds))
        self.round += rounds

    def reset(self) -> None:
        """Put the remembered values back, masked; every parameter and buffer, bit for bit."""
        if self._origin is None:
            raise ValueError(f"rewind={self.rewind}: the weights of that iteration have not been seen yet")
        self.model.load_state_dict(self._origin)
        self.masks.zero_weights()

    def prune_and_rewind(self, rounds: int = 1) -> float:
        """`prune`, then `reset`; returns the new density."""
        self.prune(rounds)
        self.reset()
        return self.density

    def ticket(self) -> nn.Module:
        """The winning ticket: a plain copy of the model at its rewound values, pruned weights zero."""
        twin = copy.deepcopy(self)
        twin.reset()
        return twin.model

    def reinitialized(self, seed: int, initialize: Callable[[nn.Module], object] | None = None) -> LotteryTicket:
        """The control with the same mask on new initial values (Section 2, "random reinitialization").

        Args:
            seed: seed of the new values; torch's global state is left as it was.
            initialize: ``initialize(model)`` redraws every parameter; by default each submodule's
                ``reset_parameters()``. Give yours where the model was initialised in another way.

        Returns:
            A ticket on a copy of the model, ready to `attach` and train.

        Raises:
            ValueError: no ``initialize`` was given and a pruned layer cannot reset itself.
        """
        twin = copy.deepcopy(self)
        devices = sorted({p.device.index or 0 for p in twin.model.parameters() if p.device.type == "cuda"})
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            (initialize or _reset_parameters)(twin.model)
        twin._start = twin._origin = _snapshot(twin.model)
        twin.masks.zero_weights()
        return twin

    def random_mask(self, seed: int) -> LotteryTicket:
        """The control with a random mask of the same density in every layer, on the same initial values.

        Follow it with `reinitialized` for random values too.

        Returns:
            A ticket on a copy of the model, ready to `attach` and train.
        """
        twin = copy.deepcopy(self)
        generator, masks = torch.Generator().manual_seed(seed), {}
        for name, (kept, total) in twin.masks.counts().items():
            mask = torch.zeros(total, dtype=torch.bool)
            mask[torch.randperm(total, generator=generator)[:kept]] = True
            masks[name] = mask.view_as(twin.masks[name])
        twin.masks.keep(masks)
        twin.reset()
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Masks, remembered and present weights, and the round: all that a search needs to go on."""
        return {
            "round": self.round,
            "masks": {name: self.masks[name].clone() for name in self.masks},
            "start": self._start,
            "origin": self._origin,
            "model": _snapshot(self.model),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the place of another ticket on a model of the same structure.

        Raises:
            ValueError: the state is of other layers.
        """
        if set(state["masks"]) != set(self.masks):
            raise ValueError(f"the state masks {sorted(state['masks'])}, this ticket {sorted(self.masks)}")
        self.model.load_state_dict(state["model"])
        self.masks.keep(state["masks"])
        self._start, self._origin = state["start"], state["origin"]
        self.round = int(state["round"])

    def _survivors(self, rounds: int) -> dict[str, Tensor]:
        """The masks after pruning the present weights."""
        scores = {name: weight.detach().abs() for name, weight in self.masks.targets.items()}
        left = {name: kept for name, (kept, _) in self.masks.counts().items()}
        if self.scope == "layer":
            return {
                name: largest(scores[name], _left(left[name], rate, rounds, name), self.masks[name])
                for name, rate in self.rates.items()
            }
        rate = next(iter(self.rates.values()))
        names, sizes = list(scores), [score.numel() for score in scores.values()]
        joint = largest(
            torch.cat([scores[name].flatten() for name in names]),
            _left(sum(left.values()), rate, rounds, "the model"),
            torch.cat([self.masks[name].flatten() for name in names]),
        )
        masks = {name: part.view_as(scores[name]) for name, part in zip(names, joint.split(sizes))}
        for name, mask in masks.items():
            if left[name] and not bool(mask.any()):
                _warn_of_empty(name)
                masks[name] = largest(scores[name], 1, self.masks[name])
        return masks

    def _is_untrained(self) -> bool:
        origin, masks = self._origin or self._start, self.masks
        return all(torch.equal(w.detach(), origin[n].to(w.device) * masks[n]) for n, w in masks.targets.items())

    def _count_step(self) -> None:
        self._steps += 1
        if self._origin is None and self._steps == self.rewind:
            self._origin = _snapshot(self.model)


def _layer_rates(
    model: nn.Module, rate: float, rates: Rates, scope: str, output_rate: float | None, exclude: Sequence[str]
) -> dict[str, float]:
    """The rate of every layer that is pruned, by parameter name."""
    weights = list(prunable(model))
    output = weights[-1]
    if scope == "global":
        if rates or output_rate not in (None, rate):
            raise ValueError("scope='global' ranks all weights together: give one rate, and exclude what is not pruned")
        spared = [output] if output_rate is None and len(weights) > 1 else []
        if not (left := [name for name in prunable(model, exclude) if name not in spared]):
            raise ValueError("exclude leaves only the output layer, which is pruned with output_rate=rate")
        return dict.fromkeys(left, _checked(rate))
    modules = dict(model.named_modules())
    for key in rates:
        if not any(_matches(key, name, modules) for name in weights):
            raise ValueError(f"rates has {key!r}, which matches no prunable layer; they are {', '.join(weights)}")
    result = {}
    for name in prunable(model, exclude):
        hits = [key for key in rates if _matches(key, name, modules)]
        named = [key for key in hits if isinstance(key, str)]
        result[name] = rates[(named or hits)[0]] if hits else rate
        if name == output and not named:
            result[name] = result[name] / 2 if output_rate is None else output_rate
    return {name: _checked(value) for name, value in result.items()}


def _matches(key: str | type[nn.Module], parameter: str, modules: Mapping[str, nn.Module]) -> bool:
    module = parameter.rpartition(".")[0]
    return key in (parameter, module) if isinstance(key, str) else isinstance(modules[module], key)


def _checked(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError(f"a pruning rate must be at least 0 and below 1, not {rate}")
    return rate


def _left(count: int, rate: float, rounds: int, name: str) -> int:
    """Weights left of ``count`` after some rounds, each rounded to whole weights; never none."""
    for _ in range(rounds):
        after = count - round(rate * count)
        if after < 1 <= count:
            _warn_of_empty(name)
            after = 1
        count = after
    return count


def _warn_of_empty(name: str) -> None:
    warnings.warn(f"pruning would leave no weight in {name}; one is kept", stacklevel=4)


def _reset_parameters(model: nn.Module) -> None:
    pruned = {id(weight) for weight in prunable(model).values()}
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        elif any(id(p) in pruned for p in module.parameters(recurse=False)):
            raise ValueError(f"{name} has no reset_parameters(); say how to draw new values with initialize=")


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
