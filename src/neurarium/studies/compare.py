"""Ideas side by side on a person's own data and network: the study that ``neurarium compare`` builds.

Every arm is one recipe, references among them; see `neurarium.studies.idea` for what happens in an arm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurarium.lab import Curve, Paper, RequestError, Scatter, Study
from neurarium.lab.registry import Entry
from neurarium.recipes import catalogue, find
from neurarium.recipes.catalogue import slugs, source
from neurarium.studies import idea
from neurarium.studies.brought import chosen, code_of, identified, load_scaled, make_problem
from neurarium.studies.idea import Settings

ENTRY = Entry("compare", "", "neurarium.studies.idea", Path(idea.__file__).resolve())


def study(
    base: Settings, names: Sequence[str], kind: str = "idea", epochs: int = 0
) -> tuple[Entry, Study, dict[str, str]]:
    """The study that compares ideas, its entry, and who was left out and why.

    Of "all" ideas those that do not fit these data and this network are left out.

    Args:
        base: data, network and budget.
        names: slugs, or "all".
        kind: "idea", or "rule" for learning rules alone, beside backpropagation.
        epochs: passes over the training examples in place of steps; 0 for the steps of `base`.

    Raises:
        RequestError: an idea does not exist or, asked for by name, does not fit; or none is left.
    """
    known = slugs() if kind == "idea" else ["backprop", *by_role("rule")]
    wanted, everything = chosen(names, known, kind)
    split, images = load_scaled(base)
    problem = make_problem(base, split, images)
    steps = epochs * len(problem.batches(0)) if epochs else problem.steps
    base = dataclasses.replace(identified(base), steps=steps, batch_size=problem.batch_size)
    left_out = {slug: reason for slug in wanted if (reason := find(slug).fits(problem))}
    for slug, reason in left_out.items():
        if not everything:
            raise RequestError(f"{slug} does not fit these data and this network: {reason}")
    fitting = [slug for slug in wanted if slug not in left_out]
    if not fitting:
        raise RequestError("no idea fits these data and this network")
    arms = {
        slug: dataclasses.replace(
            base, idea=slug, code=code_of(base.model, source(slug)), knobs=knobs_for(slug, base.knobs)
        )
        for slug in fitting
    }
    metric = problem.metric
    definition = Study(
        paper=Paper(f"Ideas on {Path(base.data).name}", "", 2026),
        trial=idea.trial,
        arms=arms,
        figures=[
            Curve(
                title=f"Validation {metric} against training seconds",
                x="seconds",
                y=f"validation_{metric}",
            ),
            Scatter(title=f"Test {metric} against training seconds", x="training_seconds", y=metric),
            Scatter(title=f"Test {metric} against milliseconds of a prediction", x="prediction_ms", y=metric),
            Scatter(title=f"Test {metric} against bytes kept", x="bytes", y=metric),
        ],
    )
    return ENTRY, definition, left_out


def knobs_for(slug: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given knobs that this idea has."""
    return {name: value for name, value in given.items() if name in find(slug).knobs}


def by_role(*roles: str) -> list[str]:
    """The slugs of recipes with one of these roles."""
    return [slug for slug, recipe in catalogue().items() if recipe.traits.role in roles]
