"""One walk for every conversion of a network that exists: which layers were exchanged, which were not, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from neurarium.training import copy_module, replace_module, select_modules
from neurarium.training._naming import Choice

Kinds = type[nn.Module] | tuple[type[nn.Module], ...]
Replacement = Callable[[str, Any], nn.Module | str | None]
"""``replacement(name, module)``: the new module (or the same one, changed), or why there is none, or None to pass."""

FUNCTIONS: Mapping[Any, Callable[[], nn.Module]] = {
    F.relu: nn.ReLU, F.relu6: nn.ReLU6, F.gelu: nn.GELU, F.silu: nn.SiLU, F.mish: nn.Mish, F.softplus: nn.Softplus,
    F.elu: nn.ELU, F.leaky_relu: nn.LeakyReLU, F.logsigmoid: nn.LogSigmoid, F.hardswish: nn.Hardswish,
    F.hardtanh: nn.Hardtanh, F.hardsigmoid: nn.Hardsigmoid, F.celu: nn.CELU, F.selu: nn.SELU,
}  # fmt: skip
"""Activations that a module may hold as an attribute (torch's transformer layers do) -> the module that is the same."""


@dataclass(frozen=True)
class Conversion:
    """What became of a network.

    Args:
        model: the converted network.
        changed: qualified name of a layer -> what was there.
        skipped: qualified name of a layer that one might expect to be changed and that was not -> why.
    """

    model: nn.Module
    changed: Mapping[str, str]
    skipped: Mapping[str, str]

    def summary(self) -> str:
        """A line for what was changed, and one for each layer that was not."""
        lines = [f"{len(self.changed)} changed: {', '.join(name or 'the model' for name in self.changed)}"]
        return "\n".join(lines + [f"not changed: {name or 'the model'}: {why}" for name, why in self.skipped.items()])

    def __str__(self) -> str:
        return self.summary()


def swap(
    model: nn.Module,
    kinds: Kinds,
    replacement: Replacement,
    *,
    include: Choice | None = None,
    exclude: Choice = (),
    inplace: bool = False,
    cannot: Mapping[type[nn.Module] | str, str] | None = None,
    looked_for: str = "",
) -> Conversion:
    """Put other layers in the place of a network's, wherever they are.

    A module that is used in several places stays one module. What is inside an exchanged module is not looked at.
    Activations that a module holds as a function are offered as the module that does the same. A layer is left, and
    named, where the exchange would lose something: a ``forward`` of its own in a subclass, hooks, a parametrization, a
    weight that another layer shares, a weight that attention reads without calling the layer.

    Args:
        model: any module.
        kinds: the classes of modules to exchange.
        replacement: ``replacement(name, module)`` gives the new module, or the same one after changing it; a sentence
            that says why there is none; or None where there is nothing to do.
        include: names, patterns or kinds of the modules to exchange; all by default (see `training.select_modules`).
        exclude: which of those to leave alone.
        inplace: change the model itself instead of a copy.
        cannot: kinds (or names of classes that torch does not have) that hold what ``kinds`` hold, but in a form that
            is not exchanged -> why. They are named.
        looked_for: what to say was looked for, where nothing is found; the names of the kinds by default.

    Returns:
        The model, what was changed and what was not.

    Raises:
        ValueError: nothing was changed; the message says what was looked for and what was left.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    chosen = _chosen(model, include, exclude)
    model = model if inplace else copy_module(model)
    made: dict[int, nn.Module] = {}
    changed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    done: tuple[str, ...] = ()
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if done and name.startswith(done):
            continue
        reason = next((why for kind, why in (cannot or {}).items() if _is(module, kind)), "")
        if reason and (chosen is None or name in chosen):
            skipped[name] = reason
        for attribute, function in _functions(module):
            _offer_function(module, name, attribute, function, kinds, replacement, chosen, changed, skipped)
        if not isinstance(module, kinds) or (chosen is not None and name not in chosen):
            continue
        before = _describe(module)
        if id(module) not in made:
            new = replacement(name, module)
            why = new if isinstance(new, str) else _loses(model, name, module, new, kinds)
            if why:
                skipped[name] = why
            elif isinstance(new, nn.Module):
                made[id(module)] = new
        if id(module) in made:
            new = made[id(module)]
            if new is not module:
                model = replace_module(model, name, new)
                done += (f"{name}.",) if name else ("",)
            changed[name] = before
    if not changed:
        wanted = looked_for or ", ".join(kind.__name__ for kind in kinds)
        reasons = "".join(f"; {name or 'the model'}: {why}" for name, why in skipped.items())
        raise ValueError(f"nothing to convert in {type(model).__name__}: looked for {wanted}{reasons}")
    _close_shortcuts(model, changed)
    return Conversion(model, changed, skipped)


def _is(module: nn.Module, kind: type[nn.Module] | str) -> bool:
    return type(module).__name__ == kind if isinstance(kind, str) else isinstance(module, kind)


def _chosen(model: nn.Module, include: Choice | None, exclude: Choice) -> set[str] | None:
    if include is None and exclude == ():
        return None
    found = {id(module) for module in select_modules(model, include, exclude).values()}
    return {name for name, module in model.named_modules(remove_duplicate=False) if id(module) in found}


def _loses(
    model: nn.Module, name: str, old: nn.Module, new: nn.Module | None, kinds: tuple[type[nn.Module], ...]
) -> str:
    """Why the new module cannot stand where the old one does; empty where it can."""
    if new is None or new is old:
        return ""
    kind = next(kind for kind in kinds if isinstance(old, kind))
    if kind is not nn.Module and type(old).forward is not kind.forward and kind.forward is not nn.Module.forward:
        return f"{type(old).__name__} has a forward of its own"
    stay = set(new.modules())
    gone = [module for module in old.modules() if module not in stay]
    if any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in gone):
        return "has hooks, which a new layer would lose"
    if any(parametrize.is_parametrized(module) for module in gone):
        return "is parametrized, which a new layer would lose; see torch.nn.utils.parametrize.remove_parametrizations"
    owner = model.get_submodule(name.rpartition(".")[0]) if name else model
    if isinstance(owner, nn.MultiheadAttention):
        return f"{type(owner).__name__} reads its weight without calling it"
    kept, inside = {id(p) for p in new.parameters()}, f"{name}." if name else ""
    lost = {id(p) for p in old.parameters()} - kept
    for other, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in lost and not other.startswith(inside):
            return f"shares a parameter with {other}, and the new layer would not"
    return ""


def _functions(module: nn.Module) -> list[tuple[str, Any]]:
    found = []
    for attribute, value in vars(module).items():
        try:
            known = callable(value) and value in FUNCTIONS
        except TypeError:  # has no hash
            continue
        if known:
            found.append((attribute, value))
    return found


def _offer_function(
    module: nn.Module, name: str, attribute: str, function: Any, kinds: tuple[type[nn.Module], ...],
    replacement: Replacement, chosen: set[str] | None, changed: dict[str, str], skipped: dict[str, str],
) -> None:  # fmt: skip
    """Offer a function that a module holds, as the module that does the same."""
    place, stand_in = f"{name}.{attribute}" if name else attribute, FUNCTIONS[function]()
    if not isinstance(stand_in, kinds) or (chosen is not None and name not in chosen):
        return
    new = replacement(place, stand_in.train(module.training))
    if isinstance(new, str):
        skipped[place] = new
    elif isinstance(new, nn.Module):
        setattr(module, attribute, new)
        changed[place] = f"{function.__name__}()"


def _describe(module: nn.Module) -> str:
    """The module on one line; containers by their name."""
    return type(module).__name__ if next(module.children(), None) is not None else repr(module)


def _close_shortcuts(model: nn.Module, changed: Mapping[str, str]) -> None:
    """Torch's transformer layers have a fast path for evaluation that goes around their parts: close it."""
    for name, module in model.named_modules():
        if not any(place.startswith(f"{name}." if name else "") for place in changed):
            continue
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = module.enable_nested_tensor = False
