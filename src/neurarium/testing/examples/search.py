"""How the components of `neurarium.search` are used."""

from __future__ import annotations

from typing import Any

from neurarium import search
from neurarium.testing.examples._shared import pixels
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "Critic": lambda w: (search.Critic(5, 4), (w.x(6, 5), w.positive(2, 6).round())),
    "RemovalPolicy": lambda w: (search.RemovalPolicy(5, 4), (w.x(6, 5),)),
    "UnidirectionalRemovalPolicy": lambda w: (search.UnidirectionalRemovalPolicy(5, 4), (w.x(6, 5),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "LayerRemovalSearch": lambda w: searched(w, search.LayerRemovalSearch),
    "LayerShrinkSearch": lambda w: searched(w, search.LayerShrinkSearch),
    "ActorCriticRemovalSearch": lambda w: searched(w, search.ActorCriticRemovalSearch),
    "ActorCriticShrinkSearch": lambda w: searched(w, search.ActorCriticShrinkSearch),
}  # fmt: skip


def searched(w: World, kind: Any) -> int:
    """One candidate of an architecture search."""
    found = kind(pixels(w), w.x(2, 8), 0.9)
    candidate = found.ask()
    found.tell(candidate, 0.5)
    return candidate.parameters
