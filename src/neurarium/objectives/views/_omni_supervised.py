"""OPERA: what tells images apart and what puts them into classes, learned by one backbone at once."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from neurarium.objectives.representation._taps import Taps
from neurarium.objectives.views._contrastive import MomentumEncoder, cosine_momentum, info_nce
from neurarium.objectives.views._hierarchy import HierarchicalSupervision, SupervisionLevel, labelled_cross_entropy
from neurarium.objectives.views._random_views import RandomViews
from neurarium.training import call

ORDERS = ("self->full", "full->self", "shared")


@dataclass(frozen=True)
class OmniLosses:
    """Both supervisions of a pair of views, with their graphs.

    Args:
        instances: mean of the two contrastive losses.
        labels: mean over both views of the cross-entropies, one per set of classes.
        representations: of each view: the lowest projection, through which both supervisions reach the backbone.
        keys: of each view, from the momentum side.
    """

    instances: Tensor
    labels: tuple[Tensor, ...]
    representations: tuple[Tensor, Tensor]
    keys: tuple[Tensor, Tensor]


class OmniSupervised(nn.Module):
    """Contrast of images and classification, on two levels of projections above a backbone (OPERA; Wang et al., 2023).

    The first projection q, which a predictor ends, is to find the other view's key among the keys of all images (as in
    MoCo v3); classes are told from a projection *of q*. After training the projections are thrown away: `features`
    gives what transfers. Any optimizer trains it::

        opera = OmniSupervised(backbone, feature_dim=512, num_classes=10, total_steps=10_000)
        optimizer = torch.optim.AdamW(opera.parameters(), 1e-3)
        fit(opera, loader, optimizer, epochs=20)          # or: opera(view1, view2, target).backward()

    In training mode each forward pass first moves the momentum side by one step. Each view has its own pass, so that
    batch normalisation does not mix views. A label of -1 says that the image has none: it is contrasted all the same.

    Args:
        backbone: the network, of your own make.
        feature_dim: width of its features.
        num_classes: N; several, from fine to coarse, put a level for each on top of each other.
        layer: what is a feature: the output of the submodule of this name, flattened; the backbone's own by default.
        projection_dim: width of all projections.
        hidden_dim: of the projector and the predictor.
        projector_layers: 2, as for convolutional networks; 3 for transformers.
        predictor_norm: batch normalisation after the predictor, as for transformers.
        temperature: of the contrast; the paper has 1 for convolutional networks and .2 for transformers.
        self_weight: of the contrast of a view.
        full_weight: of each classification of a view.
        hierarchy: ``"self->full"`` as published; ``"full->self"``, the reverse; ``"shared"``, both on q.
        momentum: of the slow copy, at the beginning.
        total_steps: of the training, over which the momentum rises to 1 along half a cosine; None for no rise.
        views: draws a view of each image, for `assign_credit`; `RandomViews()` by default.

    Raises:
        ValueError: an argument out of range, or an unknown hierarchy.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_dim: int,
        num_classes: int | Sequence[int],
        *,
        layer: str = "",
        projection_dim: int = 256,
        hidden_dim: int = 4096,
        projector_layers: int = 2,
        predictor_norm: bool = False,
        temperature: float = 0.2,
        self_weight: float = 0.5,
        full_weight: float = 0.5,
        hierarchy: str = "self->full",
        momentum: float = 0.99,
        total_steps: int | None = None,
        views: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        counts = [num_classes] if isinstance(num_classes, int) else list(num_classes)
        if hierarchy not in ORDERS:
            raise ValueError(f"hierarchy must be one of {', '.join(ORDERS)}, not {hierarchy!r}")
        if min(feature_dim, projection_dim, hidden_dim, projector_layers, *counts, total_steps or 1) < 1:
            raise ValueError(
                "feature_dim, num_classes, projection_dim, hidden_dim, projector_layers and total_steps must be >= 1"
            )
        if not 0 <= momentum <= 1 or temperature <= 0 or min(self_weight, full_weight) < 0:
            raise ValueError("momentum must be from 0 to 1, temperature positive, and weights not negative")
        self.backbone, self.layer, self.feature_dim = backbone, layer, feature_dim
        self.num_classes, self.hierarchy = tuple(counts), hierarchy
        self.self_weight, self.full_weight = self_weight, full_weight
        self.momentum, self.total_steps = momentum, total_steps
        self.views = RandomViews() if views is None else views
        width = projection_dim
        self.projector = projection(feature_dim, hidden_dim, width, projector_layers, last_norm=True)
        self.predictor = projection(width, hidden_dim, width, 2, last_norm=predictor_norm)
        self.supervision = HierarchicalSupervision(self._levels(width, temperature))
        self.slow = MomentumEncoder(self._key_path())
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.last: dict[str, Tensor] = {}
        """The parts of the last loss, unweighted and without a graph."""

    def _levels(self, width: int, temperature: float) -> list[SupervisionLevel]:
        """Instances and classes in the order of the hierarchy; the first level's projection is q itself."""
        contrast = functools.partial(info_nce, temperature=temperature)

        def classes(count: int, projector: nn.Module) -> SupervisionLevel:
            head = nn.Linear(width, count, bias=False)
            return SupervisionLevel(projector, labelled_cross_entropy, head, self.full_weight)

        if self.hierarchy == "full->self":
            coarse_first = [
                classes(count, step(width) if i else nn.Identity())
                for i, count in enumerate(reversed(self.num_classes))
            ]
            top = projection(width, width, width, 2, last_norm=False)
            return [*coarse_first, SupervisionLevel(top, contrast, weight=self.self_weight)]
        between = step if self.hierarchy == "self->full" else lambda width: nn.Identity()
        instances = SupervisionLevel(nn.Identity(), contrast, weight=self.self_weight)
        return [instances, *(classes(count, between(width)) for count in self.num_classes)]

    def _key_path(self) -> _KeyPath:
        """What makes keys: all that makes queries but the predictor."""
        levels = list(self.supervision.stack) if self.hierarchy == "full->self" else []
        return _KeyPath(
            self.backbone, self.layer, nn.Sequential(self.projector, *(level.projector for level in levels))
        )

    def features(self, x: Any) -> Float[Tensor, "batch features"]:
        """What the backbone gives, for whatever comes after pre-training.

        Raises:
            ValueError: it is of another width than ``feature_dim``.
        """
        found = features_of(self.backbone, x, self.layer)
        if found.dim() != 2 or found.shape[1] != self.feature_dim:
            raise ValueError(
                f"the backbone gives {list(found.shape[1:])} per example, but feature_dim is {self.feature_dim}"
            )
        return found

    def class_logits(self, x: Any) -> Float[Tensor, "batch classes"]:
        """What the (finest) classification level says of examples."""
        outputs = self.supervision.represent(self.predictor(self.projector(self.features(x))))[1]
        return outputs[-2] if self.hierarchy == "full->self" else outputs[1]

    def losses(self, view1: Any, view2: Any, target: Tensor | Sequence[Tensor]) -> OmniLosses:
        """Both supervisions; the momentum side stays where it is.

        Args:
            view1: a view of each image.
            view2: another.
            target: labels [batch], from 0, -1 for unknown; one such tensor per set of classes where there are several.

        Raises:
            ValueError: labels out of range, not one per image, or another number of them than sets of classes.
        """
        targets = self._checked(target)
        if self.training and len(targets[0]) < 2:
            raise ValueError("a batch must hold at least 2 images: one has nothing to differ from")
        projected = [self.projector(self.features(view)) for view in (view1, view2)]
        if any(len(part) != len(targets[0]) for part in projected):
            counts = ", ".join(str(len(part)) for part in (*projected, targets[0]))
            raise ValueError(f"view1, view2 and target must be of as many images, not {counts}")
        keys = (self.slow(view1), self.slow(view2))
        representations, parts = [], []
        for part, key in zip(projected, reversed(keys), strict=True):
            representations.append(self.predictor(part))
            outputs = self.supervision.represent(representations[-1])[1]
            known = [*reversed(targets), key] if self.hierarchy == "full->self" else [key, *targets]
            found = self.supervision.losses(outputs, known)
            parts.append([found[-1], *reversed(found[:-1])] if self.hierarchy == "full->self" else found)
        instances, *labels = [(a + b) / 2 for a, b in zip(*parts, strict=True)]
        return OmniLosses(instances, tuple(labels), (representations[0], representations[1]), keys)

    def forward(self, view1: Any, view2: Any, target: Tensor | Sequence[Tensor]) -> Float[Tensor, ""]:
        """The weighted sum of both supervisions, over both views.

        Args:
            view1: a view of each image, in whatever form the backbone takes.
            view2: another.
            target: labels as in `losses`.
        """
        if self.training:
            self.follow()
        found = self.losses(view1, view2, target)
        self.last = {"instances": found.instances.detach(), "labels": sum(found.labels).detach()}  # type: ignore[union-attr]
        return 2 * (self.self_weight * found.instances + self.full_weight * sum(found.labels))

    def follow(self) -> None:
        """Move the momentum side by one step of its schedule."""
        momentum = self.momentum
        if self.total_steps is not None:
            momentum = cosine_momentum(min(int(self.steps), self.total_steps), self.total_steps, self.momentum)
        self.slow.update(self._key_path(), momentum)
        self.steps += 1

    def assign_credit(self, x: Shaped[Tensor, batch * shape], y: Int[Tensor, batch]) -> Float[Tensor, ""]:
        """Add the gradient of the loss on two fresh views of a batch, so that `fit` can train it.

        Args:
            x: images as `views` takes them.
            y: labels, -1 for unknown.
        """
        loss = self(self.views(x), self.views(x), y)
        loss.backward()
        return loss.detach()

    def _checked(self, target: Tensor | Sequence[Tensor]) -> list[Tensor]:
        targets = [target] if isinstance(target, Tensor) else list(target)
        if len(targets) != len(self.num_classes):
            raise ValueError(
                f"target must be one tensor per set of classes, {len(self.num_classes)}, not {len(targets)}"
            )
        for labels, count in zip(targets, self.num_classes, strict=True):
            if len(labels) and (int(labels.min()) < -1 or int(labels.max()) >= count):
                raise ValueError(
                    f"target must be from 0 to {count - 1}, or -1, not {int(labels.min())} to {int(labels.max())}"
                )
        return targets


class _KeyPath(nn.Module):
    """Backbone and projections, as one network to follow."""

    def __init__(self, backbone: nn.Module, layer: str, projections: nn.Module) -> None:
        super().__init__()
        self.backbone, self.layer, self.projections = backbone, layer, projections

    def forward(self, x: Any) -> Tensor:
        """Keys of a batch."""
        found: Tensor = self.projections(features_of(self.backbone, x, self.layer))
        return found


def features_of(backbone: nn.Module, x: Any, layer: str) -> Tensor:
    """The output of a submodule, or of the network, as a vector per example."""
    with Taps(backbone, [layer]) if layer else nullcontext() as taps:
        found = call(backbone, x)
        found = taps.outputs[layer] if taps else found
    return found.flatten(1)


def step(width: int) -> nn.Sequential:
    """From one level's representation to the next's."""
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())


def projection(inputs: int, hidden: int, outputs: int, layers: int, *, last_norm: bool) -> nn.Sequential:
    """Linear layers without biases, each but the last followed by batch normalisation and ReLU.

    Args:
        inputs: width.
        hidden: width between layers.
        outputs: width.
        layers: how many linear ones.
        last_norm: batch normalisation without parameters at the end.
    """
    widths = [inputs, *[hidden] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        parts += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
    return nn.Sequential(*parts[:-2], *([nn.BatchNorm1d(outputs, affine=False)] if last_norm else []))
