"""How an estimator of scikit-learn becomes a predictor."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor


def fitted(estimator: Any, problem: Problem) -> Predictor:
    """Fit a scikit-learn estimator on the training part; inputs are one vector per example."""
    estimator.fit(vectors(problem.train.x), problem.train.y.cpu().numpy())

    def predict(x: Tensor) -> Tensor:
        if not problem.classes:
            return torch.as_tensor(estimator.predict(vectors(x)), dtype=torch.float32, device=x.device)
        scores = np.full((len(x), problem.outputs), -np.inf)
        scores[:, estimator.classes_] = np.log(estimator.predict_proba(vectors(x)).clip(1e-12))
        return torch.as_tensor(scores.clip(-30), dtype=torch.float32, device=x.device)

    return Predictor(predict, len(pickle.dumps(estimator)))


def vectors(x: Tensor) -> np.ndarray:
    """Inputs [examples, features] as scikit-learn takes them."""
    return x.flatten(1).cpu().numpy()
