"""Somebody's classifier, learning from annotations in the place of labels: what all methods of the family share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.objectives.collapse._head_input import HeadInput
from neurarium.objectives.crowd._annotations import Annotations, pairs_of
from neurarium.training import call, find_module


class CrowdModel(nn.Module, ABC):
    """A classifier with a model of those who label.

    Called, it gives the classifier's logits; `loss` and `assign_credit` take annotations in the place of labels, so
    that any optimizer and `fit` train it.

    Args:
        model: the classifier, of your own make.
        num_annotators: A.
        layer: name of its last linear layer; by default the one registered last. What enters it are the features.

    Raises:
        ValueError: no such layer.
    """

    def __init__(self, model: nn.Module, num_annotators: int, layer: str | None = None) -> None:
        super().__init__()
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        if layer is None and not linear:
            raise ValueError("the model has no linear layer; name its last in layer")
        self.layer = linear[-1] if layer is None else layer
        head = find_module(model, self.layer)
        if not isinstance(head, nn.Linear):
            raise ValueError(f"layer {self.layer!r} must be a linear layer, not a {type(head).__name__}")  # noqa: TRY004
        if num_annotators < 1:
            raise ValueError(f"there must be at least one annotator, not {num_annotators}")
        self.model, self.num_annotators = model, num_annotators
        self.num_classes, self.feature_dim = head.out_features, head.in_features

    def forward(self, x: Any) -> Float[Tensor, "batch classes"]:
        """Class logits."""
        return call(self.model, x)

    def predict_proba(self, x: Any) -> Float[Tensor, "batch classes"]:
        """Class probabilities."""
        return self(x).softmax(1)

    def perceive(self, x: Any) -> tuple[Tensor, Tensor]:
        """Class logits, and the features that they come from."""
        with HeadInput(self.model, self.layer) as head:
            logits = call(self.model, x)
            return logits, head.features

    def loss(self, x: Any, annotations: Annotations) -> Float[Tensor, ""]:
        """The loss of a batch; 0 where nobody labelled anything.

        Args:
            x: inputs as the classifier takes them.
            annotations: labels [batch, annotators], -1 where there is none; or rows of the batch, annotators and
                labels, one entry per label that was given.

        Raises:
            ValueError: annotations that do not fit, or a classifier of another width than its last layer.
        """
        logits, features = self.perceive(x)
        if logits.dim() != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"the classifier gives {list(logits.shape)}, but its last layer {self.layer!r} has {self.num_classes} "
                "outputs"
            )
        pairs = pairs_of(annotations, len(logits), self.num_annotators, self.num_classes)
        if not len(pairs[0]):
            return 0 * logits.sum()
        return self.pair_loss(logits, features, *(part.to(logits.device) for part in pairs))

    @abstractmethod
    def pair_loss(
        self,
        logits: Float[Tensor, "batch classes"],
        features: Float[Tensor, "batch features"],
        rows: Int[Tensor, pairs],
        annotators: Int[Tensor, pairs],
        labels: Int[Tensor, pairs],
    ) -> Float[Tensor, ""]:
        """The loss of labels that were given."""

    def assign_credit(self, x: Any, y: Annotations) -> Float[Tensor, ""]:
        """Add the gradient of `loss`, so that `fit` can train it; ``y`` are annotations."""
        loss = self.loss(x, y)
        loss.backward()
        return loss.detach()


def marginal(
    logits: Float[Tensor, "batch classes"], rows: Int[Tensor, pairs], confusion: Float[Tensor, "pairs classes"]
) -> Float[Tensor, pairs]:
    """log p(label | example, annotator): the true class is summed over.

    Args:
        logits: of the classes of each example.
        rows: the example of each label.
        confusion: log P(label | true class).
    """
    return torch.logsumexp(logits.log_softmax(1)[rows] + confusion, 1)
