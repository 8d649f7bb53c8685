"""MaDL: a classifier and a model of those who label it, trained on the likelihood of what they said."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.objectives.crowd._annotator_performance import AnnotatorPerformance
from neurarium.objectives.crowd._annotator_weights import AnnotatorWeights
from neurarium.objectives.crowd._crowd_model import CrowdModel, marginal


class MaDL(CrowdModel):
    """Multi-annotator deep learning (Herde, Huseljic and Sick, 2023) around somebody's classifier.

    The probability of a label sums over the unknown true class: the classifier says how probable each is, the
    annotator's confusion matrix what this annotator makes of it. Copies of one annotator share a vote. No true label is
    needed::

        madl = MaDL(model, annotators=59)
        fit(madl, CrowdBatches(x, crowd, 64, shuffle=True), torch.optim.AdamW(madl.parameters(), 5e-3), epochs=40)
        madl.predict_proba(x), madl.annotator_accuracy(x)

    Args:
        model: the classifier.
        annotators: their number, or attributes [annotators, attributes] that describe them.
        layer: name of the classifier's last linear layer; by default the one registered last.
        weights: of annotators; True for `AnnotatorWeights()`, False for equal ones.
        confusion: as the following, of `AnnotatorPerformance`.
        instance_dependent: of the same.
        embedding_dim: of the same.
        prior_accuracy: of the same.
        outer_product: of the same.
        residual: of the same.

    Raises:
        ValueError: no such layer, or an argument out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        annotators: int | Float[Tensor, "annotators attributes"],
        *,
        layer: str | None = None,
        weights: AnnotatorWeights | bool = True,
        confusion: str = "full",
        instance_dependent: bool = True,
        embedding_dim: int = 16,
        prior_accuracy: float = 0.8,
        outer_product: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__(model, len(annotators) if isinstance(annotators, Tensor) else annotators, layer)
        self.performance = AnnotatorPerformance(
            annotators, self.num_classes, self.feature_dim, confusion=confusion, instance_dependent=instance_dependent,
            embedding_dim=embedding_dim, prior_accuracy=prior_accuracy, outer_product=outer_product, residual=residual,
        )  # fmt: skip
        self.weights = (AnnotatorWeights() if weights else None) if isinstance(weights, bool) else weights

    def pair_loss(
        self,
        logits: Float[Tensor, "batch classes"],
        features: Float[Tensor, "batch features"],
        rows: Int[Tensor, pairs],
        annotators: Int[Tensor, pairs],
        labels: Int[Tensor, pairs],
    ) -> Float[Tensor, ""]:
        """Minus the weighted mean log-likelihood of the labels, minus the log-prior of the weights' bandwidth."""
        likelihoods = marginal(logits, rows, self.performance.log_likelihoods(features, rows, annotators, labels))
        if self.weights is None:
            return -likelihoods.mean()
        return -(self.weights(self.performance.embeddings())[annotators] * likelihoods).mean() + self.weights.penalty()

    def confusion(self, x: Any, attributes: Tensor | None = None) -> Float[Tensor, "batch annotators classes classes"]:
        """P(annotation | true class) of every annotator on every example.

        Args:
            x: inputs.
            attributes: of annotators that were not learned from, in the place of those that were.
        """
        return self.performance(self.perceive(x)[1], attributes).exp()

    def annotator_accuracy(self, x: Any, attributes: Tensor | None = None) -> Float[Tensor, "batch annotators"]:
        """Probability that an annotator is right on an example: sum_c p(c | x) P[c, c].

        Args:
            x: inputs.
            attributes: of annotators that were not learned from, in the place of those that were.
        """
        logits, features = self.perceive(x)
        right = self.performance(features, attributes).diagonal(dim1=2, dim2=3).exp()
        return (logits.softmax(1)[:, None] * right).sum(2)

    @torch.no_grad()
    def annotator_weights(self) -> Float[Tensor, annotators]:
        """The weight of each annotator's labels; 1 on the mean."""
        embeddings = self.performance.embeddings()
        return torch.ones_like(embeddings[:, 0]) if self.weights is None else self.weights(embeddings)
