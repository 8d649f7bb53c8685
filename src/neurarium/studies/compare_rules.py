"""Learning rules side by side on the user's own data and model: the study that ``neurarium compare`` builds.

Every arm is one rule. All see the same examples in the same order, start from the same weights where they have the
same parameters, and use Adam with the rule's own documented learning rate (or one rate for all, if given). Nothing is
tuned on the test examples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import neurarium.learning
from neurarium.data import Batches, Split, load
from neurarium.lab import Curve, Metrics, Paper, RequestError, Run, Scatter, Study
from neurarium.lab.registry import Entry
from neurarium.lab.study import closest
from neurarium.learning import LearningRule
from neurarium.training import evaluate, fit, peak_bytes


@dataclass(frozen=True)
class Settings:
    """One arm.

    Args:
        data: a data set's name, or the path of the user's file.
        target: target column of a table.
        model: "mlp", or "package.module:name" of a function or class that gives a module.
        rule: slug of the learning rule.
        epochs: passes over the training examples; 0 for `default_epochs`.
        batch_size: examples per step.
        learning_rate: Adam's rate; 0 for the rule's own.
        examples: train on so many only, and test on at most as many; 0 for all.
        digest: SHA-256 of the data file, so that a changed file is a new trial.
    """

    data: str
    target: str = ""
    model: str = "mlp"
    rule: str = "backprop"
    epochs: int = 0
    batch_size: int = 64
    learning_rate: float = 0.0
    examples: int = 0
    digest: str = ""


def trial(settings: Settings, run: Run) -> Metrics:
    """Train with one rule; accuracy (or explained variance, for a regression), seconds, memory of a step, size."""
    split = load_scaled(settings).to(run.device)
    torch.manual_seed(run.seed)
    model = build_model(settings.model, split).to(run.device)
    rule_class = rules()[settings.rule]
    rule = rule_class(model, loss_for(split)).to(run.device)
    optimizer = adam(rule, settings.learning_rate or rule_class.learning_rate)
    loader = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    name, metric = ("accuracy", None) if split.classes else ("r2", explained_variance(split))
    held_out = Batches(split.validation, 1024)
    seconds = 0.0
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        start = time.perf_counter()
        loss = fit(rule, loader, optimizer)[0]
        seconds += time.perf_counter() - start
        run.record(epoch=epoch, loss=loss, seconds=seconds, **{f"validation_{name}": evaluate(rule, held_out, metric)})
    x, y = next(iter(loader))
    return {
        name: evaluate(rule, Batches(split.test, 1024), metric),
        "training_seconds": seconds,
        "step_bytes": peak_bytes(lambda: rule.assign_credit(x, y)),
        "parameters": sum(p.numel() for p in rule.parameters()),
    }


def adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam in one fused pass: three times faster on a CPU, the same steps."""
    return torch.optim.Adam(module.parameters(), learning_rate, fused=True)


def default_epochs(split: Split) -> int:
    """As many passes as come to about 150,000 examples, between 1 and 5."""
    return max(1, min(5, round(150_000 / len(split.train))))


def rules() -> dict[str, type[LearningRule]]:
    """Every learning rule of the room by slug."""
    return {kind.slug: kind for kind in members(neurarium.learning, LearningRule)}


def members(room: ModuleType, base: type) -> list[Any]:
    """The room's public, concrete classes of a kind."""
    found = (getattr(room, name) for name in dir(room))
    kinds = [kind for kind in found if inspect.isclass(kind) and issubclass(kind, base) and kind is not base]
    return [kind for kind in kinds if not inspect.isabstract(kind)]


def kebab_case(name: str) -> str:
    """``TeacherClass`` as ``teacher-class``, ``N2N`` as ``n2n``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])", "-", name).lower()


def load_scaled(settings: Any, flat: bool = True) -> Split:
    """The data, standardised on the training examples; one vector per example for the built-in model.

    Raises:
        RequestError: more examples are asked for than there are.
    """
    split = load(settings.data, target=settings.target or None)
    if not len(split.validation):  # a set with a published split: a tenth of its training examples are held out
        shuffled = split.train.subset(len(split.train))
        cut = len(shuffled) // 10
        split = dataclasses.replace(split, train=shuffled[cut:], validation=shuffled[:cut])
    if settings.examples > len(split.train):
        raise RequestError(f"--examples must be at most {len(split.train)} for {split.name}, not {settings.examples}")
    if settings.examples:
        test = split.test.subset(min(settings.examples, len(split.test)))
        split = dataclasses.replace(split, train=split.train.subset(settings.examples), test=test)
    split = split.scaled()
    return split.flat() if flat and settings.model == "mlp" else split


def loss_for(split: Split) -> Any:
    """Cross-entropy for classes, mean squared error for numbers."""
    return cross_entropy if split.classes else regression_loss


def regression_loss(output: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of outputs of shape [batch] or [batch, 1]."""
    return mse_loss(output.reshape(y.shape), y)


def explained_variance(split: Split) -> Any:
    """R² of a batch against the variance of the test targets."""
    variance = split.test.y.double().var(unbiased=False)

    def r2(output: Tensor, y: Tensor) -> Tensor:
        return 1 - (output.reshape(y.shape).double() - y).square().mean() / variance

    return r2


def build_model(name: str, split: Split) -> nn.Module:
    """The built-in network, or what the user's function gives.

    A function (or class) with parameters is called with ``in_features`` and ``out_features``.

    Raises:
        RequestError: the name leads nowhere, or what it gives is not a module whose output fits the data.
    """
    outputs = max(len(split.classes), 1)
    inputs = split.train.x[0].numel()
    if name == "mlp":
        return nn.Sequential(
            nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
        )  # fmt: skip
    factory = named_object(name)
    if not callable(factory):
        raise RequestError(f"model {name} is {type(factory).__name__}, not a function or class that gives a module")
    needed = [p for p in inspect.signature(factory).parameters.values() if p.default is p.empty]
    model = factory(inputs, outputs) if len(needed) >= 2 else factory()
    if not isinstance(model, nn.Module):
        raise RequestError(f"model {name} gave {type(model).__name__}, not a torch.nn.Module")
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(split.train.x[:2]).shape)
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(
            f"model {name} does not take inputs of shape {tuple(split.train.x[:2].shape)}: {first}"
        ) from error
    if shape != (2, outputs) and not (outputs == 1 and shape == (2,)):
        raise RequestError(f"model {name} maps 2 examples to shape {shape}; the data want (2, {outputs})")
    return model.train()


def named_object(name: str) -> Any:
    """What "package.module:name" names."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise RequestError(f"model must be 'mlp' or package.module:name, not {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RequestError(
            f"model: cannot import {module_name} ({error}); run where the package can be found"
        ) from None
    if not hasattr(module, attribute):
        raise RequestError(f"model: {module_name} has no {attribute!r}")
    return getattr(module, attribute)


def study(base: Settings, names: Sequence[str]) -> tuple[Entry, Study, list[Path], dict[str, str]]:
    """The study that compares rules, its entry, the further files it depends on, and who was left out and why.

    Of "all" rules those that cannot train this model are left out.

    Raises:
        RequestError: a rule does not exist or, asked for by name, cannot train this model on these data.
    """
    known = rules()
    if not names:
        raise RequestError(f"name at least one rule, or 'all': {', '.join(known)}")
    everything = list(names) == ["all"]
    chosen = list(known) if everything else [closest(name, known, "rule") for name in names]
    name = Path(base.data).name
    split = load_scaled(base)
    base = dataclasses.replace(identified(base), epochs=base.epochs or default_epochs(split))
    left_out = {}
    for slug in chosen:
        reason = refusal(known[slug], build_model(base.model, split), split)
        if reason and not (everything and slug != "backprop"):
            raise RequestError(f"rule {slug} cannot train this model on these data: {reason}")
        if reason:
            left_out[slug] = reason
    arms = {slug: dataclasses.replace(base, rule=slug) for slug in chosen if slug not in left_out}
    metric = "accuracy" if split.classes else "r2"
    definition = Study(
        paper=Paper(f"Learning rules on {name}", "", 2026),
        trial=trial,
        arms=arms,
        figures=[
            Curve(title=f"Validation {metric} against training seconds", x="seconds", y=f"validation_{metric}"),
            Scatter(title=f"Test {metric} against cost", x="training_seconds", y=metric),
        ],
    )
    sources = sources_of(base.model, [known[slug] for slug in arms])
    return Entry("compare", "", "neurarium.studies.compare", Path(__file__).resolve()), definition, sources, left_out


def identified(settings: Any) -> Any:
    """The settings with a data file's absolute path and SHA-256."""
    path = Path(settings.data).expanduser()
    if not path.is_file():
        return settings
    return dataclasses.replace(
        settings, data=str(path.absolute()), digest=hashlib.sha256(path.read_bytes()).hexdigest()
    )


def sources_of(model: str, components: Sequence[type]) -> list[Path]:
    """Files that the trials depend on beside this one: the user's model and the components compared."""
    own = [] if model == "mlp" else [Path(inspect.getfile(sys.modules[model.partition(":")[0]]))]
    return [*own, *(Path(inspect.getfile(component)) for component in components)]


def refusal(rule_class: type[LearningRule], model: nn.Module, split: Split) -> str:
    """Why a rule cannot train on these data, tried on a few examples before anything has run; empty if it can."""
    try:
        rule = rule_class(model, loss_for(split))
        rule.assign_credit(split.train.x[:4], split.train.y[:4])
    except Exception as error:
        return str(error).strip().splitlines()[0] if str(error) else type(error).__name__
    return ""
