"""How well a linear classifier on frozen features does: logistic regression, solved to the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.probes._result import ProbeResult
from neurarium.probes.collapse._features import checked, precise


@dataclass(frozen=True)
class LinearProbe(ProbeResult):
    """Accuracy of logistic regression on features.

    Args:
        accuracy: on the queries.
        train_accuracy: on the examples that it was fitted on.
        classes: how many there are.
    """

    accuracy: float
    train_accuracy: float
    classes: int

    def summary(self) -> str:
        """Both accuracies."""
        return f"{self.accuracy:.3f} on queries, {self.train_accuracy:.3f} where it was fitted ({self.classes} classes)"

    def plot(self, ax: Any) -> Any:
        """Three bars."""
        ax.bar(["queries", "fitted on", "chance"], [self.accuracy, self.train_accuracy, 1 / self.classes])
        ax.set(ylabel="accuracy", ylim=(0, 1))
        return ax


def linear_probe(
    features: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor, *, l2: float = 1e-3
) -> LinearProbe:
    """Logistic regression on frozen features, standardised by those that it is fitted on, and its accuracy.

    Args:
        features: of the examples to fit, [examples, features].
        labels: their classes, [examples], whole numbers of any kind.
        queries: features of the examples to judge by, [queries, features].
        query_labels: their classes, [queries].
        l2: penalty on the squared weights, beside the mean loss.

    Raises:
        ValueError: shapes that do not fit, a penalty that is not positive, or fewer than two classes.
    """
    if l2 <= 0:
        raise ValueError(f"l2 must be positive, not {l2}")
    x, y = checked(precise(features), labels)
    unseen, truth = checked(precise(queries), query_labels)
    if x.shape[1] != unseen.shape[1]:
        raise ValueError(f"features and queries must have one width, not {x.shape[1]} and {unseen.shape[1]}")
    classes, target = y.unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError("labels must be of at least two classes")
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-9)
    x, unseen = (x - mean) / deviation, (unseen - mean) / deviation
    # nn.Linear itself would draw from torch's random state
    reader = nn.utils.skip_init(nn.Linear, x.shape[1], len(classes), dtype=x.dtype, device=x.device)
    nn.init.zeros_(reader.weight)
    nn.init.zeros_(reader.bias)
    optimizer = torch.optim.LBFGS(
        reader.parameters(), max_iter=300, tolerance_grad=1e-5, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = cross_entropy(reader(x), target) + l2 * reader.weight.square().sum()
            loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        found, fitted = classes[reader(unseen).argmax(1)], reader(x).argmax(1)
    right, known = (found == truth).double().mean(), (fitted == target).double().mean()
    return LinearProbe(float(right), float(known), len(classes))
