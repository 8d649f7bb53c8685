"""Ideas side by side on a person's own data and network, from Python and for ``neurarium compare``.

Every arm is one recipe, references among them; `neurarium.studies.idea` says what happens in an arm. With a budget the
ideas are thinned out on validation examples first (`halving`), with tuning every arm's knobs are chosen on them
(`tuning`); the test examples are scored at the end, by the arms of the final table alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from neurarium.lab import Curve, Finding, Paper, RequestError, Scatter, Study
from neurarium.lab.engine import Engine
from neurarium.lab.executors import Processes
from neurarium.lab.registry import Entry
from neurarium.lab.runner import Job, Listener, Request
from neurarium.recipes import Problem, Recipe, find
from neurarium.recipes.catalogue import slugs, source
from neurarium.studies import idea
from neurarium.studies.brought import chosen, code_of, identified, load_scaled, make_problem
from neurarium.studies.halving import finalists, ladder
from neurarium.studies.idea import Settings
from neurarium.studies.tuning import Tuned, tuned

ENTRY = Entry("compare", "", "neurarium.studies.idea", Path(idea.__file__).resolve())
COSTS = {"training_seconds": "training", "prediction_ms": "predicting", "bytes": "keeping"}
"""What a comparison weighs against the score, and what each is the cost of."""
Kind = Literal["idea", "rule", "compressor"]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        finding: the final table: every arm's scores on test examples with intervals over seeds, and its costs.
        metric: the score that arms are ordered by, "accuracy" or "r2".
        about: idea -> one sentence.
        left_out: idea -> why it cannot be applied here.
        dropped: idea -> when it was dropped, with a budget.
        tuned: arm -> its best draw, with tuning.
        notes: what was done to columns of the table.
    """

    finding: Finding
    metric: str
    about: Mapping[str, str]
    left_out: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def ranking(self) -> list[str]:
        """The arms that finished, the best mean score first."""
        done = [arm for arm, found in self.finding.arms.items() if self.metric in found.metrics]
        return sorted(done, key=lambda arm: -self.finding.arms[arm].metrics[self.metric].mean)

    def pareto(self, cost: str) -> list[str]:
        """The arms that no other arm beats at the score without costing more, cheapest first.

        Args:
            cost: "training_seconds", "prediction_ms" or "bytes".
        """
        front: list[str] = []
        arms = {arm: self.finding.arms[arm].metrics for arm in self.ranking()}
        for arm in sorted((a for a in arms if cost in arms[a]), key=lambda a: (arms[a][cost].mean, -self._score(a))):
            if not front or self._score(arm) > self._score(front[-1]):
                front.append(arm)
        return front

    def best(self) -> str:
        """The arm with the best mean score."""
        return self.ranking()[0]

    def _score(self, arm: str) -> float:
        return self.finding.arms[arm].metrics[self.metric].mean


def compare(
    data: str | Path,
    target: str = "",
    model: str | Callable[..., nn.Module] = "mlp",
    ideas: str | Sequence[str] = "all",
    *,
    tune: int = 0,
    budget: float = 0.0,
    seeds: int = 3,
    steps: int = 0,
    epochs: int = 0,
    batch_size: int = 0,
    examples: int = 0,
    knobs: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    missing: Literal["impute", "refuse"] = "impute",
    kind: Kind = "idea",
    jobs: int | None = None,
    ray: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    fresh: bool = False,
    listener: Listener | None = None,
) -> Comparison:
    """Compare ideas on your data and network; what the store has is not run again.

    Args:
        data: a data set's name, or the path of a table, an array file or a folder of images.
        target: target column of a table, or file of an array's targets.
        model: "mlp"; or a function or class that gives a network, itself or as "package.module:name". It must be
            importable by that name. With parameters it is called with ``(in_features, out_features)``.
        ideas: slugs, or "all" that fit; "package.module:name" is a recipe of your own. References (backprop, linear,
            trees, neighbours) are ideas like others.
        tune: draws of every arm's knobs, chosen on validation examples; 0 for defaults only.
        budget: seconds to spend in all, about; ideas are then dropped in rounds. 0 for no limit.
        seeds: of the final table.
        steps: optimizer steps of a training at most; 0 for a number that suits the data.
        epochs: passes over the training examples in place of steps; 0 for steps.
        batch_size: examples per step; 0 for a number that suits the data.
        examples: train on so many only; 0 for all.
        knobs: values for those ideas that have them (``{"learning_rate": 1e-3}``).
        drop: columns of a table to leave out.
        keep: columns of a table to take although they would be left out.
        missing: "impute" or "refuse" gaps in a table.
        kind: "idea" for everything, "rule" for learning rules, "compressor" for what ends in a smaller network.
        jobs: trials at a time; None for one per core, 0 for this process.
        ray: run on Ray: "local", "auto" or a cluster's address.
        device: torch device of every trial.
        threads: torch threads of each trial.
        fresh: run again what the store has.
        listener: told what happens.

    Raises:
        RequestError: an idea does not exist or, asked for by name, does not fit; or none is left.
        DataError: what is wrong with the data.

    Example:
        >>> from neurarium.studies.compare import compare
        >>> found = compare("iris", ideas="backprop,linear", steps=60, seeds=1, jobs=0)
        >>> sorted(found.finding.arms)
        ['backprop', 'linear']
    """
    base = Settings(
        str(data), target, model_name(model), tuple(drop), tuple(keep), missing, steps=steps, batch_size=batch_size,
        examples=examples, knobs=dict(knobs or {}),
    )  # fmt: skip
    request = Request("small", seeds, fresh=fresh, device=device, threads=threads)
    contest = Contest(base, names_in(ideas), kind, epochs)
    search = Engine(dataclasses.replace(request, seeds=1), jobs, ray, listener)
    if isinstance(search.executor, Processes):
        search.executor.preload("neurarium.studies.preload")
    arms = contest.arms
    dropped: dict[str, str] = {}
    if budget:
        references = [arm for arm in arms if find(arm).traits.role == "reference"]
        runners = {arm: settings for arm, settings in arms.items() if arm not in references}
        share = 0.5 if tune else 1.0  # the rest is for the draws
        plan = ladder(
            contest.problem, len(runners), len(references), seeds, share * budget, search.executor.jobs
        )  # fmt: skip
        left, dropped = finalists(runners, plan.rungs, plan, contest.problem.metric, search, ENTRY)
        limit = plan.limit(plan.final_steps)
        arms = {
            arm: dataclasses.replace(arms[arm], steps=plan.final_steps, seconds=limit)
            for arm in (*references, *sorted(left))
        }
    best = tuned(arms, tune, search, ENTRY) if tune else {}
    for arm, draw in best.items():
        if draw.changed:
            arms = {**arms, f"{arm} (tuned)": dataclasses.replace(arms[arm], knobs=draw.knobs)}
    (finding,) = Engine(request, jobs, ray, listener).run([Job(ENTRY, final_study(contest, arms))])
    about = {slug: find(slug).about() for slug in contest.wanted}
    found = Comparison(finding, contest.problem.metric, about, contest.left_out, dropped, best, contest.notes)
    return dataclasses.replace(found, finding=dataclasses.replace(finding, figures=marked(found)))


class Contest:
    """Who takes part: the ideas asked for that fit, with their settings; and who does not, and why.

    Args:
        base: data, network and budget.
        names: slugs, or "all".
        kind: of ideas to choose from.
        epochs: passes over the training examples in place of steps; 0 for the steps of ``base``.

    Raises:
        RequestError: an idea does not exist or, asked for by name, does not fit; or none is left.
    """

    def __init__(self, base: Settings, names: Sequence[str], kind: Kind = "idea", epochs: int = 0) -> None:
        self.wanted, everything = chosen(names, eligible(kind), kind)
        for name in self.wanted:
            known_recipe(name)
        split, images = load_scaled(base)
        self.notes = dict(split.notes)
        self.problem: Problem = make_problem(base, split, images)
        steps = epochs * len(self.problem.batches(0)) if epochs else self.problem.steps
        self.problem = dataclasses.replace(self.problem, steps=steps)
        self.base = dataclasses.replace(identified(base), steps=steps, batch_size=self.problem.batch_size)
        reasons = {slug: find(slug).fits(self.problem) for slug in self.wanted}
        self.left_out = {slug: reason for slug, reason in reasons.items() if reason}
        if self.left_out and not everything:
            slug, reason = next(iter(self.left_out.items()))
            raise RequestError(f"{slug} does not fit these data and this network: {reason}")
        self.arms = {slug: self._settings(slug, find(slug)) for slug in self.wanted if slug not in self.left_out}
        if not self.arms:
            raise RequestError(f"no {kind} fits these data and this network")

    def _settings(self, slug: str, recipe: Recipe) -> Settings:
        given = {name: value for name, value in self.base.knobs.items() if name in recipe.knobs}
        return dataclasses.replace(self.base, idea=slug, code=code_of(self.base.model, source(slug)), knobs=given)


def known_recipe(name: str) -> Recipe:
    """The recipe of a slug or of "package.module:name".

    Raises:
        RequestError: the user's own cannot be found.
    """
    try:
        return find(name)
    except (ImportError, TypeError) as error:
        raise RequestError(f"--ideas {name}: {error}") from error


def eligible(kind: Kind) -> list[str]:
    """The slugs of a kind; rules and compressors have backpropagation beside them."""
    if kind == "idea":
        return slugs()
    known = {slug: find(slug).traits for slug in slugs()}
    fitting = [
        slug for slug, traits in known.items() if (traits.shrinks if kind == "compressor" else traits.role == kind)
    ]
    return ["backprop", *fitting]


def final_study(contest: Contest, arms: Mapping[str, Settings]) -> Study:
    """The study whose trials are scored on test examples."""
    metric = contest.problem.metric
    named = metric.replace("r2", "R²")
    return Study(
        paper=Paper(f"Ideas on {contest.problem.name or Path(contest.base.data).name}", "", 2026),
        trial=idea.trial,
        arms=arms,
        figures=[
            Scatter(title=f"{named.capitalize()} against the cost of {what}", x=cost, y=metric, log_x=True)
            for cost, what in COSTS.items()
        ]
        + [Curve(title=f"Validation {named} against optimizer steps", x="step", y=f"validation_{metric}")],
    )


def marked(found: Comparison) -> list[Any]:
    """The figures, each scatter with a note that names its Pareto set."""
    return [
        dataclasses.replace(figure, note="No arm is both cheaper and better than: " + ", ".join(found.pareto(figure.x)))
        if isinstance(figure, Scatter) else figure
        for figure in found.finding.figures
    ]  # fmt: skip


def model_name(model: str | Callable[..., nn.Module]) -> str:
    """The name by which a worker finds the network.

    Raises:
        RequestError: a function or class that cannot be imported by its name.
    """
    if isinstance(model, str):
        return model
    module, name = getattr(model, "__module__", ""), getattr(model, "__qualname__", "")
    if not name.isidentifier() or module in ("", "__main__"):
        raise RequestError(
            f"model {name or model!r} must be a function or class at the top of a module that can be imported, so that "
            "the processes that train find it"
        )
    return f"{module}:{name}"


def names_in(words: str | Sequence[str]) -> list[str]:
    """``"a,b"`` as a list."""
    return [name for name in words.split(",") if name] if isinstance(words, str) else list(words)
