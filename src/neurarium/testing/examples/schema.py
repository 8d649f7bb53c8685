"""How schemas, their models and their games are used."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neurarium import learning, models
from neurarium.testing.world import Example, ModuleExample, World


def cycle() -> Any:
    """A model of two mutually inverse arrows."""
    return models.SchemaModel(
        models.cycle_gan((8,), (6,)), {"f": nn.Linear(8, 6), "g": nn.Linear(6, 8)},
        {"A": nn.Linear(8, 1), "B": nn.Linear(6, 1)},
    )  # fmt: skip


class Arrowed(nn.Module):
    """An arrow of a model, given its name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """``f(x)``."""
        found: Tensor = self.model("f", x)
        return found


MODULES: dict[str, ModuleExample] = {
    "Composite": lambda w: (composite(), (w.x(5, 8),)),
    "SchemaGame": lambda w: (Arrowed(learning.SchemaGame(cycle())), (w.x(5, 8),)),
    "SchemaModel": lambda w: (Arrowed(cycle()), (w.x(5, 8),)),
}

EXAMPLES: dict[str, Example] = {
    "Evaluation": lambda w: violated(w),
}


def composite() -> Any:
    """There and back again as one network."""
    model = cycle()
    return models.Composite(model, model.schema.relations[0][0])


def violated(w: World) -> Any:
    """The violation of the two relations."""
    model = w.new(cycle)
    batch = {"A": w.x(5, 8), "B": w.x(5, 6)}
    return [model.violation(relation, batch) for relation in model.schema.relations]
