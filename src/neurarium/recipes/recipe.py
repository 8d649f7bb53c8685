"""What a recipe is: how one idea is applied to a person's own supervised problem, and the knobs that it has.

To add one, write ``recipes/<role>/<slug>.py`` with one class and give it a line in ``__init__.pyi``; nothing else has
to know of it. An idea that ends in gradients is a `GradientRecipe`: it says what differs from plain training, as data,
and one loop that all share does the rest (the same batches and initial weights, early stopping on validation, the
budget)::

    @final
    class DFA(GradientRecipe):
        \"\"\"Direct feedback alignment: each block learns from a random projection of the output error.\"\"\"

        slug = "dfa"
        paper = "dfa"
        traits = Traits("rule")
        knobs = {"learning_rate": rate(5e-4)}

        def plan(self, problem, knobs, progress):
            model = problem.make_model(progress.seed)
            return Plan(model, rule=DirectFeedbackAlignment(model, problem.loss))

Anything else is a `Recipe` and writes ``train`` itself; inside, `learn` trains a network as everyone's are trained.
The docstring's first sentence is what a comparison says of the idea. Default knobs are chosen on seeds and data that no
page reports. `neurarium.testing.check_recipe` holds every recipe to the contract.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from torch import Tensor, nn

from neurarium.recipes.knobs import Knob, Knobs
from neurarium.recipes.problem import Problem

T = TypeVar("T")
Role = Literal[
    "reference", "rule", "optimizer", "objective", "order", "layers", "ensemble", "search", "compressor", "memory"
]  # fmt: skip


class Progress(Protocol):
    """What a recipe is given of the run it is part of."""

    @property
    def seed(self) -> int:
        """Everything random in a training is a function of it."""

    def record(self, **values: float | str) -> None:
        """Keep a row of a curve."""

    def track(self, items: Iterable[T], what: str = "steps") -> Iterator[T]:
        """Show how far the training is."""


@dataclass(frozen=True)
class Traits:
    """What kind of idea a recipe is, for choosing among them.

    Args:
        role: where the idea acts. A "reference" is what one would use without this house.
        targets: "classes" or "numbers" where it works for one of them only.
        inputs: "vectors" or "images" where it works for one of them only.
        shrinks: the network that predicts in the end is smaller than the one brought.
        own_model: it learns with a model of its own and not with the network brought.
    """

    role: Role
    targets: Literal["any", "classes", "numbers"] = "any"
    inputs: Literal["any", "vectors", "images"] = "any"
    shrinks: bool = False
    own_model: bool = False


@dataclass(frozen=True)
class Predictor:
    """What a training gives.

    Args:
        predict: inputs to scores [batch, classes] or to values [batch] (of the standardised target).
        size: bytes that have to be kept to predict.
        costs: further numbers to show: "parameters", "step_bytes", "steps" ...
    """

    predict: Callable[[Tensor], Tensor]
    size: int
    costs: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, **costs: float) -> Predictor:
        """A network, put in evaluation mode."""
        model.eval()
        tensors = {t.data_ptr(): t for t in model.state_dict(keep_vars=True).values() if isinstance(t, Tensor)}
        parameters = float(sum(p.numel() for p in model.parameters()))
        return cls(model, sum(t.nbytes for t in tensors.values()), {"parameters": parameters, **costs})


class Recipe(ABC):
    """How one idea is applied to a supervised problem; constructed without arguments, holds no state."""

    slug: ClassVar[str]
    """Its name on the command line, and the name of its file (with ``-`` for ``_``)."""
    paper: ClassVar[str] = ""
    """The slug of the study that tests the idea's claims; empty for a reference."""
    traits: ClassVar[Traits]
    """What kind of idea it is."""
    knobs: ClassVar[Mapping[str, Knob]] = {}
    """What can be tuned."""

    def fits(self, problem: Problem) -> str:
        """Why the idea cannot be applied to this problem, in a few words; empty if it can."""
        targets = "classes" if problem.classes else "numbers"
        if self.traits.targets not in ("any", targets):
            return f"needs {self.traits.targets} as targets, and these are {targets}"
        inputs = "images" if problem.images else "vectors"
        if self.traits.inputs not in ("any", inputs):
            return f"is for {self.traits.inputs}, and the inputs are {inputs}"
        return ""

    @abstractmethod
    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Learn from the problem's training part; choices are made on its validation part.

        Args:
            problem: what to learn.
            knobs: a value for each of the recipe's knobs.
            progress: seed, curves, and how far the training is.
        """

    @classmethod
    def about(cls) -> str:
        """The docstring's first sentence."""
        return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Every knob's default."""
        return {name: knob.default for name, knob in cls.knobs.items()}
