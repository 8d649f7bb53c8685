"""Choosing modules of somebody's network by name, pattern or kind; parameters' names as names of buffers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

Choice = str | type[nn.Module] | Iterable[str | type[nn.Module]]
"""A qualified name, a pattern of names (``"encoder.layers.*.linear1"``), a kind of module, or several of these."""

_DOT = "|"  # stands for the dots of a parameter's name, which a buffer's name may not contain


def select_modules(
    model: nn.Module,
    include: Choice | None = None,
    exclude: Choice = (),
    *,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Module,
    argument: str = "include",
) -> dict[str, nn.Module]:
    """Modules of a network by qualified name, in the order of `named_modules`.

    Args:
        model: any module; a submodule that is used twice is found under its first name.
        include: which: names, patterns with ``*`` and ``?``, kinds; None for all of ``kinds``.
        exclude: which of those to leave out, said in the same way; what is inside an excluded module is left out too.
        kinds: what the caller can act on.
        argument: how the caller's own argument is called, for the messages.

    Raises:
        ValueError: a name or pattern finds nothing, or something that is not of ``kinds``; or nothing is left.
    """
    named = dict(model.named_modules())
    everywhere = dict(model.named_modules(remove_duplicate=False))
    can = [name for name, module in named.items() if isinstance(module, kinds)]
    chosen = set(can)
    if include is not None:
        chosen = set()
        for part in _parts(include):
            found = _matches(part, everywhere, argument)
            firsts = {next(n for n, m in named.items() if m is everywhere[name]) for name in found}
            if isinstance(part, str) and not firsts & set(can):
                raise ValueError(
                    f"{argument}: {part!r} is a {type(everywhere[found[0]]).__name__}, not {_names(kinds)}"
                )
            chosen |= firsts & set(can)
    for part in _parts(exclude):
        for name in _matches(part, everywhere, "exclude"):
            chosen -= {n for n in chosen if n == name or n.startswith(f"{name}.") or not name}
    if not chosen:
        asked = f"{argument}={include!r}" if include is not None else _names(kinds)
        raise ValueError(f"{type(model).__name__} has no module to act on: looked for {asked}")
    return {name: named[name] for name in can if name in chosen}


def find_module(model: nn.Module, name: str, argument: str = "layer") -> nn.Module:
    """The module of a qualified name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    return dict(model.named_modules(remove_duplicate=False))[
        _matches(name, dict(model.named_modules(remove_duplicate=False)), argument)[0]
    ]


def replace_module(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Put a module in the place of the one of this name, in its mode; returns the model, or ``new`` for the root."""
    if not name:
        return new.train(model.training)
    parent, _, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    setattr(owner, child, new.train(owner._modules[child].training))  # type: ignore[union-attr]
    return model


def buffer_key(name: str) -> str:
    """A parameter's qualified name as a name that a buffer may have; `parameter_name` undoes it."""
    return name.replace(".", _DOT)


def parameter_name(key: str) -> str:
    """The qualified name that `buffer_key` made a key of."""
    return key.replace(_DOT, ".")


def _parts(choice: Choice) -> list[str | type[nn.Module]]:
    return [choice] if isinstance(choice, (str, type)) else list(choice)


def _matches(part: str | type[nn.Module], named: dict[str, nn.Module], argument: str) -> list[str]:
    if not isinstance(part, str):
        return [name for name, module in named.items() if isinstance(module, part)]
    found = [part] if part in named else [name for name in named if fnmatchcase(name, part)]
    if not found:
        near = difflib.get_close_matches(part, named, n=1, cutoff=0.0)
        raise ValueError(f"{argument}: the model has no module {part!r}; did you mean {near[0]!r}?")
    return found


def _names(kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> str:
    return ", ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
