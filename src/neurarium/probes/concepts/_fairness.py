"""How a classifier treats groups, and how much of a protected attribute its features carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class GroupRates(ProbeResult):
    """How often each group gets the favourable prediction.

    Args:
        groups: group labels.
        rates: share of favourable predictions in each group.
        overall: share among all.
    """

    groups: tuple[int, ...]
    rates: tuple[float, ...]
    overall: float

    @property
    def disparate_impact(self) -> float:
        """Lowest rate divided by the highest: 1 if groups are treated alike (and 1 where no group is favoured ever)."""
        return min(self.rates) / max(self.rates) if max(self.rates) > 0 else 1.0

    @property
    def demographic_disparity(self) -> float:
        """Sum over groups of the distance of their rate from the overall one."""
        return sum(abs(rate - self.overall) for rate in self.rates)

    def summary(self) -> str:
        """Rates, impact and disparity."""
        rates = ", ".join(f"group {g}: {rate:.2f}" for g, rate in zip(self.groups, self.rates, strict=True))
        return f"{rates}; disparate impact {self.disparate_impact:.2f}, disparity {self.demographic_disparity:.2f}"

    def plot(self, ax: Any) -> Any:
        """A bar per group."""
        ax.bar([str(group) for group in self.groups], self.rates)
        ax.axhline(self.overall, linestyle=":")
        ax.set(xlabel="group", ylabel="favourable predictions")
        return ax


def group_rates(predictions: Tensor, groups: Tensor, favourable: int = 1) -> GroupRates:
    """Rates of a favourable prediction by group, with disparate impact and demographic disparity.

    Args:
        predictions: predicted classes ``[examples]`` of any model.
        groups: protected attribute ``[examples]``, whole numbers.
        favourable: the class that is good for a person.

    Raises:
        ValueError: numbers of examples differ, or fewer than two groups.
    """
    if predictions.shape != groups.shape:
        raise ValueError(f"there are {len(predictions)} predictions for {len(groups)} group labels")
    present = groups.unique()
    if len(present) < 2:
        raise ValueError("groups must hold at least two groups")
    good = (predictions == favourable).double()
    rates = [float(good[groups == group].mean()) for group in present]
    return GroupRates(tuple(present.tolist()), tuple(rates), float(good.mean()))


@dataclass(frozen=True)
class Leakage(ProbeResult):
    """What a linear reader recovers of an attribute.

    Args:
        accuracy: of logistic regression on unseen examples.
        majority: share of the commonest class there: what guessing reaches.
    """

    accuracy: float
    majority: float

    @property
    def leakage(self) -> float:
        """Accuracy above guessing."""
        return self.accuracy - self.majority

    def summary(self) -> str:
        """Accuracy beside guessing."""
        return f"the attribute is read with accuracy {self.accuracy:.2f}; guessing reaches {self.majority:.2f}"

    def plot(self, ax: Any) -> Any:
        """Two bars."""
        ax.bar(["logistic regression", "guessing"], [self.accuracy, self.majority])
        ax.set(ylabel="accuracy")
        return ax


def attribute_leakage(features: Tensor, attribute: Tensor, l2: float = 1e-4) -> Leakage:
    """Logistic regression of a protected attribute on features: first half to train, second half to test.

    Args:
        features: ``[examples, dims]``, standardised here; the projection of a latent onto a concept's subspace, say.
        attribute: classes ``[examples]``, whole numbers of any kind.
        l2: penalty on the squared weights.

    Raises:
        ValueError: numbers of examples differ, or there are fewer than four.
    """
    if len(features) != len(attribute) or len(features) < 4:
        raise ValueError(f"need as many labels as features, at least 4; got {len(features)} and {len(attribute)}")
    x = features.detach().double()
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-12)
    half = len(x) // 2
    classes, attribute = attribute.to(x.device).unique(return_inverse=True)
    # nn.Linear itself would draw from torch's random state
    reader = nn.utils.skip_init(nn.Linear, x.shape[1], len(classes), dtype=torch.float64, device=x.device)
    nn.init.zeros_(reader.weight)
    nn.init.zeros_(reader.bias)
    optimizer = torch.optim.LBFGS(reader.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = cross_entropy(reader(x[:half]), attribute[:half]) + l2 * reader.weight.square().sum()
            loss.backward()
        return loss

    optimizer.step(closure)
    unseen = attribute[half:]
    with torch.no_grad():
        accuracy = float((reader(x[half:]).argmax(1) == unseen).double().mean())
    return Leakage(accuracy, float(unseen.bincount().max() / len(unseen)))
