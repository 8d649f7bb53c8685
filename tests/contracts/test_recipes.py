"""Every recipe against the contract, and the contract against recipes that break it."""

import math
import time
from dataclasses import replace
from functools import cache
from typing import final

import pytest
import torch

from neurarium.recipes import GradientRecipe, Plan, Real, Recipe, Traits
from neurarium.recipes.catalogue import find, slugs
from neurarium.recipes.recipe import Predictor
from neurarium.testing import RECIPE_CHECKS, ContractError, second_device
from neurarium.testing.recipes import Watched, toy_problems


@pytest.mark.parametrize("check", RECIPE_CHECKS)
@pytest.mark.parametrize("slug", slugs())
def test_recipe(slug, check):
    RECIPE_CHECKS[check](recipe(slug))


@cache
def recipe(slug):
    """One object for all checks, which then train it once."""
    return find(slug)


@pytest.mark.parametrize("slug", slugs())
def test_a_recipe_trains_on_another_device(slug):
    device = second_device.register()
    found = recipe(slug)
    for problem in toy_problems(steps=20).values():
        train, validation = problem.train.to(device), problem.validation.to(device)
        moved = replace(problem, train=train, validation=validation, device=device)
        if not found.fits(moved):
            predictor = found.train(moved, found.defaults(), Watched())
            assert math.isfinite(moved.scores(predictor.predict, validation)[problem.metric])
            return
    raise AssertionError(f"{slug} fits no toy problem")


@final
class Breaks(GradientRecipe):
    """A recipe that breaks one rule of the contract at a time."""

    slug = "breaks"
    paper = "dfa"
    traits = Traits("rule")
    knobs = {"learning_rate": Real(1e-4, 1e-2, 1e-3, log=True)}  # noqa: RUF012
    fault = ""

    def plan(self, problem, knobs, progress):
        seed = time.perf_counter_ns() % 1000 if self.fault == "reproducible" else progress.seed
        if self.fault == "data untouched":
            problem.train.x.mul_(1.5)
        return Plan(problem.make_model(seed))

    def fits(self, problem):
        return "no" if self.fault == "fits" else super().fits(problem)

    def train(self, problem, knobs, progress):
        if self.fault == "budget":
            progress.record(step=10 * problem.steps)
        if self.fault == "learning":
            return Predictor(lambda x: torch.zeros(len(x), problem.outputs), 1)
        if self.fault == "prediction":
            return Predictor(lambda x: x.mean() + torch.zeros(len(x), problem.outputs), 1)
        return super().train(problem, knobs, progress)


@pytest.mark.parametrize("check", ["fits", "prediction", "learning", "reproducible", "budget", "data untouched"])
def test_a_broken_recipe_is_caught_by_the_check_of_that_name(check):
    good, bad = Breaks(), Breaks()
    RECIPE_CHECKS[check](good)
    bad.fault = check
    with pytest.raises(ContractError):
        RECIPE_CHECKS[check](bad)


def test_a_default_outside_its_range_and_a_variant_by_inheritance_are_caught(monkeypatch):
    monkeypatch.setattr(Breaks, "knobs", {"learning_rate": Real(1e-4, 1e-2, 1.0)})
    with pytest.raises(ContractError, match="default"):
        RECIPE_CHECKS["knobs"](Breaks())

    class Variant(Recipe):
        """Not final."""

        slug = "variant"

        def train(self, problem, knobs, progress):
            raise NotImplementedError

    with pytest.raises(ContractError, match="@final"):
        RECIPE_CHECKS["description"](Variant())
