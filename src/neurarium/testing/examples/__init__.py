"""How each component is used, for the seam checks: one line each, a function of a `World`.

Modules give the module and its inputs; everything else is used once and gives what came out. Layers, rules, strategies
and compressors need no line. What takes a ``generator`` is given one. Every file of this folder is read: a room's own,
or that of one family of ideas.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from neurarium.testing.world import Example, ModuleExample


def _gathered(kind: str) -> dict[str, Any]:
    """One table made of those of all files."""
    found: dict[str, Any] = {}
    for file in pkgutil.iter_modules(__path__):
        found |= getattr(importlib.import_module(f"{__name__}.{file.name}"), kind, {})
    return found


MODULES: dict[str, ModuleExample] = _gathered("MODULES")
"""Module's name -> the module and its inputs."""

EXAMPLES: dict[str, Example] = _gathered("EXAMPLES")
"""Component's name -> one use of it."""
