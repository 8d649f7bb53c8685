"""Adapting the scales and shifts of normalisation layers by a loss of the predictions: TENT and pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from neurarium.learning.test_time._test_time import TestTimeAdaptation
from neurarium.objectives import prediction_entropy

NORMALISATIONS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


class Tent(TestTimeAdaptation):
    """One step of entropy descent per batch on the scale and shift of every normalisation layer.

    (Wang et al., 2021: fully test-time adaptation by entropy minimisation.)

    Args:
        model: a trained classifier in evaluation mode.
        layers: names of the normalisation layers; by default all that have a scale and shift.
        bn, loss, options: see `TestTimeAdaptation`; batch statistics by default.

    Raises:
        ValueError: there is no such layer.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        *,
        bn: str = "batch",
        loss: Callable[[Tensor], Tensor] = prediction_entropy,
        **options: Any,
    ) -> None:
        found = {name: m for name, m in model.named_modules() if isinstance(m, NORMALISATIONS) and m._parameters}
        if layers is not None and (unknown := [name for name in layers if name not in found]):
            raise ValueError(
                f"no normalisation layer is called {unknown[0]!r}; there are: {', '.join(found) or 'none'}"
            )
        chosen = list(found.values()) if layers is None else [found[name] for name in layers]
        trained = [p for layer in chosen for p in layer.parameters(recurse=False)]
        if not trained:
            raise ValueError("model has no normalisation layer with a scale and shift, so there is nothing to adapt")
        super().__init__(model, trained=trained, bn=bn, loss=loss, **options)


class PseudoLabel(Tent):
    """As `Tent`, but descending the cross-entropy with the model's own confident predictions as labels (Lee, 2013).

    Args:
        model: a trained classifier in evaluation mode.
        layers: see `Tent`.
        threshold: predictions of at least this probability serve as labels; 0 takes all.
        options: see `TestTimeAdaptation`.

    Raises:
        ValueError: there is no such layer, or the threshold is not in [0, 1).
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str] | None = None, *, threshold: float = 0.0, **options: Any
    ) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, not {threshold}")
        super().__init__(model, layers, loss=lambda logits: pseudo_label_loss(logits, threshold), **options)


def pseudo_label_loss(logits: Float[Tensor, "batch classes"], threshold: float = 0.0) -> Tensor:
    """Cross-entropy with the arg max as label, over examples at least ``threshold`` sure; a mean over the batch."""
    probability, label = logits.detach().softmax(-1).max(-1)
    return (cross_entropy(logits, label, reduction="none") * (probability >= threshold)).mean()
