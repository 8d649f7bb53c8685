"""A classifier for items that keep coming: raw items in, labels out, new classes at any time."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual._settings import check_settings, settings
from neurarium.continual._strategy import Strategy
from neurarium.continual.frozen_features._dee import DifferentiableEnsemble
from neurarium.data._saved import read_saved
from neurarium.models import FrozenEncoder, TableStandardizer, feature_extractor
from neurarium.models.features._encoder_identity import encoder_identity
from neurarium.training._labels import Labels, loaded_labels, plain_labels, stored_labels


class StreamClassifier:
    """A frozen extractor and an online learner as one thing that can be used after the first batch.

    Wójcik et al., 2023, with what production asks for: labels of any kind, classes that appear and are taken back,
    confidence and abstention, one file for all of it, and copies that serve while the original goes on learning.

    Args:
        extractor: a name ("text-hash", "text-minilm", "audio-logmel", "table", "vector"), a module, or a function from
            items to [items, features]. "table" (`TableStandardizer`) standardises columns by the rows learned so far.
        learner: any `Strategy` on features; by default a `DifferentiableEnsemble` whose step follows the number of
            batches of each class. One with parameters to train gets a step of Adam per batch.
        cache: features of this many latest calls are kept, by content.

    Raises:
        ValueError: an unknown extractor.
    """

    def __init__(
        self, extractor: str | nn.Module | Callable[[Any], Any], learner: Strategy | None = None, *, cache: int = 0
    ) -> None:
        self.name = (
            extractor if isinstance(extractor, str) else getattr(extractor, "__name__", type(extractor).__name__)
        )
        self.encoder = FrozenEncoder(
            feature_extractor(extractor) if isinstance(extractor, str) else extractor, cache=cache
        )
        self.learner = learner if learner is not None else DifferentiableEnsemble(balance=0.03)
        self._optimizer = adam(self.learner)
        self.labels: list[Hashable] = []
        self.features: int | None = None

    # Learning

    def partial_fit(self, items: Any, labels: Labels) -> StreamClassifier:
        """Learn a batch, once; labels that are new open classes.

        Args:
            items: what the extractor takes.
            labels: one per item, of any hashable kind; 1 and 1.0 are the same class.

        Raises:
            ValueError: numbers that do not fit, features of another size than before, a label that is NaN or known
                under another type ("1" and 1), or more classes than a learner of fixed size has. Nothing is learned
                then.
        """
        encoder = self._having_seen(items)
        z = self._features(items, encoder)
        plain = plain_labels(labels)
        if len(plain) != len(z):
            raise ValueError(f"there are {len(z)} items but {len(plain)} labels")
        known = {_spelled(label): label for label in self.labels}
        for label in plain:
            kind = type(known.setdefault(_spelled(label), label))
            if kind is not type(label) and {kind, type(label)} != {int, float}:
                kinds = f"{kind.__name__} before, {type(label).__name__} now"
                raise ValueError(f"label {label!r} has another type than before ({kinds})")
        place = {name: i for i, name in enumerate(known)}
        y = torch.tensor([place[_spelled(label)] for label in plain], device=z.device)
        if self._optimizer is not None:
            output = self.learner(z)
            if len(known) > output.shape[1]:
                raise ValueError(f"the learner tells {output.shape[1]} classes apart, and {len(known)} have come")
            self._optimizer.zero_grad()
            (cross_entropy(output, y) + self.learner.penalty()).backward()
            self._optimizer.step()
        self.learner.observe(z, y)
        self.encoder, self.labels, self.features = encoder, list(known.values()), z.shape[1]
        return self

    def forget_class(self, label: Hashable) -> None:
        """Take a class back. Its label keeps its place in ``labels``, with a score of -inf until it comes again.

        Raises:
            ValueError: an unknown label, or a learner that cannot forget.
        """
        if label not in self.labels:
            raise ValueError(f"label {label!r} was never learned")
        if not hasattr(self.learner, "forget_class"):
            raise ValueError(f"{type(self.learner).__name__} cannot forget a class")
        self.learner.forget_class(self.labels.index(label))  # type: ignore[operator]

    # Predicting

    def predict_scores(self, items: Any) -> Tensor:
        """Scores in the order of ``labels``, [items, classes].

        Raises:
            ValueError: nothing was learned, or the features do not fit.
        """
        return self._scores(self._features(items, self.encoder))

    def predict(self, items: Any, *, abstain_below: float = 0.0) -> list[Hashable | None]:
        """The label of each item; None where the learner's confidence is below ``abstain_below``.

        Raises:
            ValueError: abstention asked of a learner without ``confidence``.
        """
        z = self._features(items, self.encoder)
        best = self._scores(z).argmax(1).tolist()
        sure = [True] * len(best)
        if abstain_below > 0:
            if not hasattr(self.learner, "confidence"):
                raise ValueError(f"{type(self.learner).__name__} has no confidence to abstain by")
            sure = (self.learner.confidence(z) >= abstain_below).tolist()  # type: ignore[operator]
        return [self.labels[i] if certain else None for i, certain in zip(best, sure)]

    def snapshot(self) -> StreamClassifier:
        """A copy of the learner around the same extractor: it answers as now, whatever this one learns later."""
        twin = copy.copy(self)
        twin.learner, twin.labels = copy.deepcopy(self.learner), list(self.labels)
        twin._optimizer = adam(twin.learner)
        return twin

    # On disk

    def save(self, path: str | os.PathLike[str]) -> None:
        """Learner, labels and a table's statistics in one file, written whole or not at all; no other extractor.

        Raises:
            ValueError: a label that could only be pickled; nothing is written.
        """
        table = self.encoder.encoder
        state = {
            "extractor": self.name, "identity": self._identity(), "features": self.features,
            "labels": stored_labels(self.labels), "settings": settings(self.learner),
            "learner": self.learner.state_dict(),
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
            "table": table.state_dict() if isinstance(table, TableStandardizer) else None,
        }  # fmt: skip
        target = Path(path)
        beside = target.with_name(target.name + ".part")
        torch.save(state, beside)
        os.replace(beside, target)

    def load(self, path: str | os.PathLike[str]) -> StreamClassifier:
        """Back to what was saved; this classifier must have been built in the same way.

        Raises:
            ValueError: the file is no saved classifier, or was made with another extractor or learner; nothing changes.
        """
        state = read_saved(path, "StreamClassifier.save", ("extractor", "settings", "learner", "labels", "features"))
        if state["extractor"] != self.name:
            raise ValueError(f"the file was made with extractor {state['extractor']!r}, not {self.name!r}")
        if state.get("identity") != self._identity():
            raise ValueError(f"the file was made with another {self.name!r}: its weights or settings differ")
        check_settings(self.learner, state["settings"])
        self.learner.load_state_dict(state["learner"])
        if isinstance(self.encoder.encoder, TableStandardizer):
            table = TableStandardizer()
            table.load_state_dict(state["table"])
            self.encoder = FrozenEncoder(table, cache=self.encoder.cache)
        if self._optimizer is not None and state["optimizer"] is not None:
            self._optimizer.load_state_dict(state["optimizer"])
        self.labels, self.features = loaded_labels(state["labels"]), state["features"]
        return self

    def state_bytes(self) -> int:
        """Bytes that are kept, whatever number of items was seen."""
        return sum(t.nbytes for t in self.learner.state_dict().values() if isinstance(t, Tensor))

    def _identity(self) -> str:
        """Of the extractor, but for what it has seen."""
        encoder = self.encoder.encoder
        kind = type(encoder).__name__ if isinstance(encoder, TableStandardizer) else encoder
        return encoder_identity([kind, self.encoder.layer, self.encoder.pooling])

    def _having_seen(self, items: Any) -> FrozenEncoder:
        """The extractor after these items: a changed copy, since the batch may be refused and snapshots share it."""
        if not isinstance(self.encoder.encoder, TableStandardizer):
            return self.encoder
        table = copy.deepcopy(self.encoder.encoder)
        table.observe(items)
        return FrozenEncoder(table, cache=self.encoder.cache)

    def _features(self, items: Any, encoder: FrozenEncoder) -> Tensor:
        z = encoder(items)
        if self.features is not None and z.shape[1] != self.features:
            raise ValueError(f"the extractor gave {z.shape[1]} features, and {self.features} before")
        return z

    def _scores(self, z: Tensor) -> Tensor:
        if not self.labels:
            raise ValueError("nothing has been learned yet: call partial_fit first")
        scores = self.learner.predict(z)[:, : len(self.labels)]
        missing = len(self.labels) - scores.shape[1]  # a learner that was told to forget its last classes
        return nn.functional.pad(scores, (0, missing), value=-torch.inf)


def _spelled(label: Hashable) -> str:
    """Labels that are written alike are taken for the same one."""
    whole = isinstance(label, bool) or (isinstance(label, float) and label.is_integer())
    return str(int(label)) if whole else str(label)  # type: ignore[call-overload]


def adam(learner: Strategy) -> torch.optim.Adam | None:
    """The optimizer of a learner that has parameters to train."""
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    return torch.optim.Adam(trained, 1e-3) if trained else None
