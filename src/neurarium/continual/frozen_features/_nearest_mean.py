"""The nearest-mean classifier on frozen features: one running mean per class, nothing trained, nothing forgotten."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.continual._strategy import Strategy
from neurarium.layers._exact_buffers import ExactBuffers
from neurarium.models import FrozenEncoder
from neurarium.training._labels import Labels, loaded_labels, plain_labels, stored_labels

METRICS = ("euclidean", "cosine", "normalized-mean")


class NearestMeanClassifier(ExactBuffers, Strategy):
    """Predicts the class whose mean feature is closest (Janson et al., 2022).

    Classes are arbitrary labels and may appear, and appear again, at any time. Without ``decay`` the order and
    the grouping of examples do not matter, two classifiers fitted on different data can be merged, and examples can be
    taken out again.

    As a strategy it learns by ``observe`` alone, and ``predict`` gives scores with a column per class index. With
    labels of another kind use ``classify``.

    Attributes:
        classes: labels in the order in which they were first seen.
        means: [classes, features], in that order.
        counts: examples behind each mean.

    Args:
        encoder: module, function, object with ``encode``, `FrozenEncoder`, or None for inputs that are features.
        metric: ``"euclidean"``; ``"cosine"``: features and means normalised when compared; ``"normalized-mean"``:
            features normalised before they are averaged, and compared by cosine (iCaRL's rule).
        decay: alpha of mean <- (1 - alpha) mean + alpha z, for features that drift; 0 takes the mean of all.
        dtype: of the means and counts, which a cast of the module does not change.

    Raises:
        ValueError: an argument out of range.
    """

    means: Tensor
    counts: Tensor
    exact: ClassVar[tuple[str, ...]] = ("means", "counts")

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Any] | None = None,
        *,
        metric: str = "euclidean",
        decay: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {decay}")
        super().__init__(encoder if isinstance(encoder, FrozenEncoder) else FrozenEncoder(encoder))
        self.metric, self.decay = metric, decay
        self.classes: list[Hashable] = []
        self.temperature = 1.0
        self.register_buffer("means", torch.empty(0, 0, dtype=dtype))
        self.register_buffer("counts", torch.zeros(0, dtype=dtype))
        self._linear: dict[torch.dtype, tuple[Tensor, ...]] = {}

    # Learning

    @torch.no_grad()
    def observe(self, x: Any, y: Labels) -> None:
        """Learn a batch.

        Args:
            x: inputs of the encoder.
            y: a label per input: a tensor or array of integers, or any sequence of hashable values; 1 and 1.0 are the
                same class.

        Raises:
            ValueError: features that are not finite or of another size than before; sizes that do not fit.
        """
        features, names, place = self._batch(x, y)
        new = [name for name in names if name not in self._places()]
        if not len(self.means):
            self.means = self.means.new_empty(0, features.shape[1])
        self.classes = self.classes + new
        self.means = torch.cat([self.means, self.means.new_zeros(len(new), features.shape[1])])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(len(new))])
        self._update(features, self._rows(names)[place], 1)

    def partial_fit(self, x: Any, y: Labels) -> NearestMeanClassifier:
        """The same as ``observe``, under scikit-learn's name."""
        self.observe(x, y)
        return self

    @torch.no_grad()
    def remove(self, x: Any, y: Labels) -> None:
        """Take examples out again, as if they had never been observed; a class without examples is gone.

        Raises:
            ValueError: a label that is not there, or more examples of it than were observed; ``decay`` is on.
        """
        self._exact("remove")
        features, names, place = self._batch(x, y)
        rows = self._rows(names)[place]
        left = self.counts - torch.bincount(rows, minlength=len(self.counts)).to(self.counts)
        if bool((left < 0).any()):
            short = int((left < 0).nonzero()[0])
            raise ValueError(
                f"class {self.classes[short]!r} has {int(self.counts[short])} examples, fewer than are to be removed"
            )
        self._update(features, rows, -1)
        self._keep(left > 0)

    @torch.no_grad()
    def forget_class(self, label: Hashable) -> None:
        """Drop a class, as if none of its examples had been observed; the means of the others stay, bit for bit.

        Raises:
            ValueError: the class was never observed.
        """
        row = int(self._rows(plain_labels([label])))
        self._keep(torch.arange(len(self.counts), device=self.counts.device) != row)

    @torch.no_grad()
    def merge(self, other: NearestMeanClassifier) -> None:
        """Take in what another classifier observed: the result is that of one fitted on both data sets.

        Raises:
            ValueError: another kind of classifier or metric, another number of features, or ``decay`` is on.
        """
        self._exact("merge")
        if type(other) is not type(self) or other.metric != self.metric or other.decay:
            raise ValueError("other must be of the same class and metric, and without decay")
        if not len(other.means):
            return
        if not len(self.means):
            self.means = self.means.new_empty(0, other.means.shape[1])
        if other.means.shape[1] != self.means.shape[1]:
            raise ValueError(f"features must have {self.means.shape[1]} values, not {other.means.shape[1]}")
        new = [name for name in other.classes if name not in self._places()]
        self.classes = self.classes + new
        self.means = torch.cat([self.means, self.means.new_zeros(len(new), self.means.shape[1])])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(len(new))])
        rows = self._rows(other.classes)
        total = self.counts[rows] + other.counts.to(self.counts)
        share = (other.counts.to(self.counts) / total)[:, None]
        self.means[rows] += share * (other.means.to(self.means) - self.means[rows])
        self.counts[rows] = total
        self._linear = {}

    # Predicting

    @torch.no_grad()
    def scores(self, x: Any) -> Float[Tensor, "batch classes"]:
        """A score per class in the order of ``classes``, the largest for the closest mean.

        Euclidean: z . mu - |mu|^2 / 2, which is |z|^2 / 2 minus half the squared distance; otherwise the cosine.

        Raises:
            ValueError: nothing was observed; features that are not finite or of another size.
        """
        return self._scores(self._features(x))

    def classify(self, x: Any) -> list[Hashable]:
        """The label of each input; of equal scores that of the class seen first."""
        return [self.classes[i] for i in self.scores(x).argmax(1).tolist()]

    def predict(self, x: Any) -> Float[Tensor, "batch indices"]:
        """Scores with column c for class c, minus infinity for an index that was not observed.

        Raises:
            TypeError: the labels are not integers from 0.
        """
        scores = self.scores(x)
        indices = [int(name) for name in self.classes if isinstance(name, (int, float)) and name >= 0 and name % 1 == 0]
        if len(indices) < len(self.classes):
            raise TypeError("predict gives a column per class index: with labels that are no indices use classify")
        index = torch.tensor(indices, device=scores.device)
        if index.tolist() == list(range(len(index))):
            return scores
        columns = scores.new_full((len(scores), int(index.max()) + 1), -torch.inf)
        return columns.index_copy(1, index, scores)

    @torch.no_grad()
    def predict_proba(self, x: Any) -> Float[Tensor, "batch classes"]:
        """softmax(2 scores / temperature), for the Euclidean metric softmax(-|z - mu|^2 / temperature)."""
        return (2 * self.scores(x) / self.temperature).softmax(1)

    @torch.no_grad()
    def fit_temperature(self, x: Any, y: Labels) -> float:
        """Set the temperature that makes given labels likeliest under ``predict_proba``; returns it.

        A search over seven decades around the spread of the scores. With one class all temperatures are as likely: it
        stays as it was.

        Raises:
            ValueError: a label that was never observed.
        """
        scores = self.scores(x)
        rows = self._rows(plain_labels(y)).to(scores.device)
        if scores.shape[1] == 1:
            return self.temperature
        spread = max(float(scores.double().std(1).mean()), 1e-300)
        loss = nn.functional.cross_entropy
        grid = spread * torch.logspace(-4, 3, 141, dtype=torch.float64)
        self.temperature = min(grid.tolist(), key=lambda t: float(loss(2 * scores.double() / t, rows)))
        return self.temperature

    # Inside

    def _update(self, features: Tensor, rows: Tensor, sign: int) -> None:
        """Move the means of the classes at hand; those of the others stay as they are, bit for bit."""
        found, place = rows.unique(return_inverse=True)
        before = self.counts[found]
        if self.decay:
            for row, z in zip(rows.tolist(), features):
                share = self.decay if self.counts[row] else 1.0
                self.means[row] += share * (z - self.means[row])
                self.counts[row] += 1
        else:
            sums = self.means.new_zeros(len(found), features.shape[1]).index_add_(0, place, features)
            after = before + sign * torch.bincount(place, minlength=len(found)).to(before)
            total = before[:, None] * self.means[found] + sign * sums
            self.means[found] = total / after.clamp_min(1)[:, None]
            self.counts[found] = after
        self._linear = {}

    def _keep(self, keep: Tensor) -> None:
        """Leave the rows of some classes only, by a mask."""
        self.means, self.counts = self.means[keep], self.counts[keep]
        self.classes = [name for name, stays in zip(self.classes, keep.tolist(), strict=True) if stays]
        self._linear = {}

    def _scores(self, features: Tensor) -> Tensor:
        if features.dtype not in self._linear:
            means = self.means.to(features.device)
            if self.metric != "euclidean":
                means = nn.functional.normalize(means, dim=1)
            centre = means.mean(0) if self.metric == "euclidean" else torch.zeros_like(means[0])
            means = means - centre  # a shift common to all features would cost digits
            bias = -means.square().sum(1) / 2 if self.metric == "euclidean" else torch.zeros_like(means[:, 0])
            self._linear[features.dtype] = tuple(t.to(features.dtype) for t in (means, bias, centre))
        means, bias, centre = self._linear[features.dtype]
        if self.metric != "euclidean":
            features = nn.functional.normalize(features, dim=1)
        return torch.addmm(bias, features - centre, means.T)

    def _features(self, x: Any) -> Tensor:
        if not len(self.means):
            raise ValueError("no class has been observed yet")
        return self._checked(self.model(x))

    def _batch(self, x: Any, y: Labels) -> tuple[Tensor, list[Hashable], Tensor]:
        """Features in the means' precision, the labels that occur, and which of them each example has."""
        features, labels = self._checked(self.model(x)).to(self.means), plain_labels(y)
        if len(labels) != len(features):
            raise ValueError(f"x has {len(features)} examples but y has {len(labels)} labels")
        names = list(dict.fromkeys(labels))
        number = {name: i for i, name in enumerate(names)}
        if self.metric == "normalized-mean":
            features = nn.functional.normalize(features, dim=1)
        return features, names, torch.tensor([number[name] for name in labels], device=features.device)

    def _checked(self, features: Tensor) -> Tensor:
        if not features.is_floating_point():
            features = features.float()
        # A sum that is finite says it of all its terms, in one pass.
        if not bool(features.sum().isfinite()) and not bool((finite := features.isfinite().all(1)).all()):
            bad = (~finite).nonzero().flatten()
            raise ValueError(f"features of {len(bad)} examples are not finite, the first at index {int(bad[0])}")
        if len(self.means) and features.shape[1] != self.means.shape[1]:
            raise ValueError(f"features must have {self.means.shape[1]} values as before, not {features.shape[1]}")
        return features

    def _exact(self, what: str) -> None:
        if self.decay:
            raise ValueError(f"{what} needs exact statistics: it does not go with decay")

    def _places(self) -> dict[Hashable, int]:
        return {name: i for i, name in enumerate(self.classes)}

    def _rows(self, names: Sequence[Hashable]) -> Tensor:
        places = self._places()
        if unknown := [name for name in names if name not in places]:
            raise ValueError(f"class {unknown[0]!r} was never observed")
        return torch.tensor([places[name] for name in names], dtype=torch.int64, device=self.means.device)

    def get_extra_state(self) -> dict[str, Any]:
        """The labels and the temperature."""
        return {"classes": stored_labels(self.classes), "temperature": self.temperature}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what ``get_extra_state`` gave."""
        self.classes, self.temperature, self._linear = loaded_labels(state["classes"]), state["temperature"], {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self._buffers.items()):  # their sizes are not known beforehand
            if buffer is not None and prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
