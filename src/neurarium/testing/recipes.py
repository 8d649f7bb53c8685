"""The contract of recipes, as checks with names of their own."""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from neurarium.data import Arrays, Split
from neurarium.lab.registry import entries
from neurarium.recipes import Choice, Problem, Recipe
from neurarium.recipes.catalogue import source
from neurarium.recipes.recipe import Predictor
from neurarium.testing.contract import blobs, require, same

T = TypeVar("T")


class Watched:
    """A progress that keeps what is recorded."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.rows: list[dict[str, float | str]] = []

    def record(self, **values: float | str) -> None:
        """Keep a row."""
        self.rows.append(values)

    def track(self, items: Iterable[T], what: str = "steps") -> Iterator[T]:
        """The items."""
        return iter(items)


class ResidualNet(nn.Module):
    """Two transformer layers around vectors: what conversions of residual blocks look for."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.entry = nn.Linear(8, 16)
        self.blocks = nn.Sequential(
            *[nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)]
        )
        self.leave = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 8] -> [batch, outputs]."""
        out: Tensor = self.leave(self.blocks(self.entry(x)[:, None])[:, 0])
        return out


def toy_problems(steps: int = 150) -> dict[str, Problem]:
    """Small problems with an easy answer: classes, numbers and images; a plain stack and a residual network."""
    x, y = blobs(examples=160)
    numbers = 100 + 10 * x @ torch.linspace(-1, 1, 8)
    found = {}
    for kind, target, classes in (("classes", y, ("a", "b", "c")), ("numbers", numbers, ())):
        whole = Arrays(x, target)
        split = Split(whole[:112], whole[112:136], whole[136:], classes, kind)
        outputs = max(1, len(classes))
        for name, make in (("plain", plain(outputs)), ("residual", lambda outputs=outputs: ResidualNet(outputs))):
            found[f"{kind}, {name}"] = Problem.of(split, make, steps=steps, batch_size=16)
    images = Arrays(x.repeat(1, 8).unflatten(1, (1, 8, 8)), y)
    split = Split(images[:112], images[112:136], images[136:], ("a", "b", "c"), "images")
    found["images"] = Problem.of(split, small_image_net, steps=steps, batch_size=16, images=True)
    return found


def small_image_net() -> nn.Module:
    """A hidden layer on the pixels of an image [1, 8, 8]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 3))


def plain(outputs: int) -> Callable[[], nn.Module]:
    """A stack of linear layers with GELU, whose input the activation must keep."""
    return lambda: nn.Sequential(
        nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, outputs)
    )  # fmt: skip


def fitting(recipe: Recipe) -> Problem:
    """The first toy problem that the recipe fits."""
    for problem in toy_problems().values():
        if not recipe.fits(problem):
            return problem
    raise LookupError(f"{recipe.slug} fits none of the toy problems")


@dataclass(frozen=True)
class Trained:
    """A training at default knobs: what came out, what was recorded, and the examples as they were before."""

    problem: Problem
    predictor: Predictor
    rows: list[dict[str, float | str]]
    before: tuple[Arrays, Arrays]


@lru_cache(maxsize=4)
def trained(recipe: Recipe) -> Trained:
    """Train once on the first toy problem that fits; several checks look at the result."""
    problem, watched = fitting(recipe), Watched()
    before = tuple(Arrays(part.x.clone(), part.y.clone()) for part in (problem.train, problem.validation))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a method may say that the toy is too small to tell it much
        predictor = recipe.train(problem, recipe.defaults(), watched)
    return Trained(problem, predictor, watched.rows, (before[0], before[1]))


def check_description(recipe: Recipe) -> None:
    """A slug that is the file's name, one sentence that says what the idea is, a paper that has a study."""
    kind = type(recipe)
    require("@final" in inspect.getsource(kind), kind, "must be marked @final: a variant is a recipe of its own")
    sentence = recipe.about()
    require(20 < len(sentence) < 140 and sentence.endswith("."), kind, "must begin its docstring with one sentence")
    if kind.__module__.startswith("neurarium."):
        stem = source(recipe.slug).stem
        require(recipe.slug == stem.replace("_", "-"), kind, f"must have the slug of its file, {stem!r}")
        require(not recipe.paper or recipe.paper in entries(), kind, f"names a paper without a study, {recipe.paper!r}")
        require(bool(recipe.paper) or recipe.traits.role == "reference", kind, "must name its paper")


def check_knobs(recipe: Recipe) -> None:
    """Every default lies in its range, which Optuna understands."""
    for name, knob in recipe.knobs.items():
        require(knob.default in knob, type(recipe), f"must have a default for {name} inside its range")
        inside = knob.to_optuna()._contains(knob.to_optuna().to_internal_repr(knob.default))
        require(inside, type(recipe), f"must have a range for {name} that Optuna can draw the default from")


def check_fits(recipe: Recipe) -> None:
    """Fitting is answered with words, never with an exception, and some small problem fits."""
    answers = {name: recipe.fits(problem) for name, problem in toy_problems().items()}
    for name, answer in answers.items():
        require(isinstance(answer, str), type(recipe), f"must answer fits() with text ({name})")
        require(not answer or len(answer) > 20, type(recipe), f"must say why it does not fit ({name}: {answer!r})")
    require("" in answers.values(), type(recipe), f"must fit one of the toy problems; it says {answers}")


def check_prediction(recipe: Recipe) -> None:
    """Finite scores of the right shape for any number of examples, the same in any company; a size above zero."""
    found = trained(recipe)
    x, problem = found.problem.validation.x, found.problem
    with torch.no_grad():
        whole, few = found.predictor.predict(x), found.predictor.predict(x[:3])
    shape = (len(x), problem.outputs) if problem.classes else (len(x),)
    require(whole.numel() == math.prod(shape), type(recipe), f"must predict scores of shape {shape}")
    require(bool(torch.isfinite(whole).all()), type(recipe), "must predict finite scores")
    alike = torch.allclose(whole[:3], few, atol=1e-4)
    require(alike, type(recipe), "must predict an example alike in any company")
    require(found.predictor.size > 0, type(recipe), "must say how many bytes are kept to predict")


def check_learning(recipe: Recipe) -> None:
    """It is better than chance where the answer is easy."""
    found = trained(recipe)
    scores = found.problem.scores(found.predictor.predict, found.problem.validation)
    least = 0.6 if found.problem.classes else 0.3
    require(scores[found.problem.metric] > least, type(recipe), f"must learn an easy problem; it has {scores}")


def check_reproducible(recipe: Recipe) -> None:
    """Equal seeds give equal predictions, whatever torch's random state was."""
    first = trained(recipe)
    trained.cache_clear()
    torch.manual_seed(1234)
    second = trained(recipe)
    x = first.problem.validation.x
    with torch.no_grad():
        alike = same(first.predictor.predict(x), second.predictor.predict(x))
    require(alike, type(recipe), "must be a function of the seed")


def check_budget(recipe: Recipe) -> None:
    """Its trainings together do not go beyond the problem's steps."""
    found = trained(recipe)
    total, before = 0.0, 0.0
    for row in found.rows:
        step = float(row.get("step", 0.0))
        total += step - before if step > before else step
        before = step
    steps = found.problem.steps
    require(total <= steps + 1, type(recipe), f"must keep to {steps} steps, not {total:.0f}")


def check_data_untouched(recipe: Recipe) -> None:
    """Examples are read and never written; a problem holds no test example that could be looked at."""
    found = trained(recipe)
    for part, copy in zip((found.problem.train, found.problem.validation), found.before, strict=True):
        require(same(part.x, copy.x) and same(part.y, copy.y), type(recipe), "must leave the examples as they are")


def check_corners(recipe: Recipe) -> None:
    """A training goes through at both ends of every knob."""
    problem = replace(fitting(recipe), steps=12)
    for end, place in (("low", 0), ("high", -1)):
        knobs = {n: k.options[place] if isinstance(k, Choice) else getattr(k, end) for n, k in recipe.knobs.items()}
        with warnings.catch_warnings(), contextlib.suppress(FloatingPointError):  # it may diverge, and says so
            warnings.simplefilter("ignore")
            recipe.train(problem, knobs, Watched())


RECIPE_CHECKS: dict[str, Callable[[Recipe], None]] = {
    "description": check_description,
    "knobs": check_knobs,
    "fits": check_fits,
    "corners": check_corners,
    "prediction": check_prediction,
    "learning": check_learning,
    "reproducible": check_reproducible,
    "budget": check_budget,
    "data untouched": check_data_untouched,
}
"""The contract of recipes, check by check."""


def check_recipe(recipe: Recipe) -> None:
    """Hold a recipe to the whole contract.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    for check in RECIPE_CHECKS.values():
        check(recipe)
