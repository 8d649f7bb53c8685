"""Class-distance normalized variance: the size of class clouds against the distance of their centres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.collapse._class_moments import ClassMoments
from neurarium.probes.collapse._features import feature_batches


@dataclass(frozen=True)
class ClassVariance(ProbeResult):
    """V(p, q) = (Var_p + Var_q) / (2 |mu_p - mu_q|^2) of every pair of classes.

    Args:
        pairwise: [classes, classes], the diagonal 0; infinite where two means coincide.
        average: mean over pairs of distinct classes; infinite where one pair is.
        per_class: mean over the pairs of each class.
        counts: examples of each class.
        classes: labels in rising order, the order of all rows.
    """

    pairwise: Float[Tensor, "classes classes"]
    average: float
    per_class: Float[Tensor, classes]
    counts: Float[Tensor, classes]
    classes: Int[Tensor, classes]

    def summary(self) -> str:
        """The average, the worst pair, and pairs of classes whose means coincide."""
        worst = int(self.pairwise.argmax())
        p, q = (int(self.classes[i]) for i in divmod(worst, len(self.classes)))
        lost = int(self.pairwise.isinf().triu().sum())
        note = f"; the means of {lost} pair(s) coincide" if lost else ""
        largest = f"largest {self.pairwise.max():.4g} (classes {p} and {q})"
        return f"CDNV {self.average:.4g} over {len(self.classes)} classes; {largest}{note}"

    def plot(self, ax: Any) -> Any:
        """A heat map of the pairs."""
        ax.imshow(self.pairwise.cpu().numpy(), origin="lower")
        ax.set(xlabel="class", ylabel="class", title="class-distance normalized variance")
        return ax


def class_distance_normalized_variance(
    model_or_features: nn.Module | Tensor,
    data: Iterable[Any] | Tensor,
    layer: str | None = None,
    unbiased: bool = False,
) -> ClassVariance:
    """CDNV of all pairs of classes (Galanti, György and Hutter, 2021, section 2) in one pass.

    It does not change under rotation, shift or scaling of the features. No distance between examples is computed.

    Args:
        model_or_features: a network, in evaluation mode for this; or features [examples, features].
        data: the network's loader; or labels [examples].
        layer: what is a feature: by default what enters the linear layer that is used last; otherwise the output of
            the submodule of this name, ``""`` for the model's own.
        unbiased: divide variances by n - 1, and take Var_p/n_p + Var_q/n_q off the squared distance of the means,
            which a small sample makes too large. A distance that noise then makes negative counts as zero.

    Raises:
        ValueError: fewer than two classes, a class with one example where ``unbiased``, or what `feature_batches`
            refuses.
    """
    moments = ClassMoments()
    for features, labels in feature_batches(model_or_features, data, layer):
        moments.update(features, labels)
    classes, counts = moments.classes, moments.counts
    if len(classes) < 2:
        raise ValueError("the variance of classes needs examples of at least two classes")
    if unbiased and float(counts.min()) < 2:
        single = int(classes[counts.argmin()])
        raise ValueError(f"unbiased variances need two examples of every class; class {single} has one")
    pairwise = pairwise_variance(moments, unbiased)
    k = len(classes)
    per_class = pairwise.sum(1) / (k - 1)
    return ClassVariance(pairwise, float(per_class.mean()), per_class, counts, classes)


def pairwise_variance(moments: ClassMoments, unbiased: bool = False) -> Float[Tensor, "classes classes"]:
    """V of all pairs, 0 on the diagonal."""
    counts, means, variances = moments.counts, moments.means, moments.variances
    square = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").square()
    if unbiased:
        variances = variances * counts / (counts - 1)
        square = (square - variances[:, None] / counts[:, None] - variances / counts).clamp_min(0)
    pairwise = (variances[:, None] + variances) / (2 * square)
    pairwise = torch.where(square == 0, torch.inf, pairwise)
    return pairwise.fill_diagonal_(0)
