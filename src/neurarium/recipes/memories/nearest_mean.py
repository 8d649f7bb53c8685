"""The class whose mean is nearest."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from neurarium.continual import NearestMeanClassifier
from neurarium.recipes._observing import observed
from neurarium.recipes.knobs import Choice, Knobs
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class NearestMean(Recipe):
    """Nearest mean: the class whose mean input is nearest; one pass, and nothing is trained."""

    slug = "nearest-mean"
    paper = "nmc"
    traits = Traits("memory", targets="classes", own_model=True)
    knobs = {"metric": Choice(("euclidean", "cosine", "normalized-mean"), "euclidean")}

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Average the inputs of each class; the validation part sets how sure the answers are."""
        learner = NearestMeanClassifier(metric=knobs["metric"])
        predictor = observed(learner, problem, progress.seed, lambda x: by_class(learner, problem, x))
        learner.fit_temperature(problem.validation.x, problem.validation.y.tolist())
        return predictor


def by_class(learner: NearestMeanClassifier, problem: Problem, x: Tensor) -> Tensor:
    """Log-probabilities with a column per class index."""
    found = learner.predict_proba(x).clamp_min(1e-12).log()
    scores = found.new_full((len(x), problem.outputs), -30.0)
    scores[:, torch.as_tensor(list(learner.classes))] = found
    return scores
