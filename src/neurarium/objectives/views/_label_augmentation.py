"""Self-supervised label augmentation: one question about class and transformation, in the place of two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from neurarium.objectives.views._transforms import InputTransforms

MODES = ("sla", "sla+sd", "da", "mt")
Loss = Callable[[Tensor, Tensor], Tensor]


class SelfSupervisedLabelAugmentation(nn.Module):
    """A classifier of N classes is trained to name the class *and* the transformation (Lee, Hwang and Shin, 2020).

    Views of a batch and their joint labels come from `augment_batch`; the loss on the network's outputs is this module.
    So it goes with any optimizer and learning rule:

    ```
    sla = SelfSupervisedLabelAugmentation(Rotations(), num_classes=10)
    model = widen_classifier(model, sla)
    fit(Backprop(model, sla), sla.batches(loader), optimizer)
    logits = sla.predict(model, x, "aggregate")
    ```

    The joint label of class i under transformation j is i * M + j. What the last layer must give (``outputs``) depends
    on the mode:

    - ``"sla"``: N * M joint logits.
    - ``"sla+sd"``: the same, then N of a student that sees only the untransformed image and learns the labels and the
      average of the M answers, so that one pass is enough at the end.
    - ``"da"``: N logits, the same label for all views: plain augmentation, a baseline of the paper.
    - ``"mt"``: N logits of the class, then M of the transformation: two tasks, the other baseline.

    Args:
        transform: the views.
        num_classes: N.
        mode: as above.
        temperature: of the distillation.
        distill_weight: of the student's own cross-entropy.
        view_reduction: ``"mean"`` over views, or ``"sum"``, which helps on large data sets.
        base_loss: ``loss(logits, target) -> scalar`` on joint labels (on class labels for ``"da"`` and ``"mt"``);
            `lift_to_views` makes its weights or counts. Cross-entropy by default.

    Raises:
        ValueError: an unknown mode or reduction, or fewer than two classes.
    """

    def __init__(
        self,
        transform: InputTransforms,
        num_classes: int,
        mode: str = "sla",
        temperature: float = 1.0,
        distill_weight: float = 1.0,
        view_reduction: str = "mean",
        base_loss: Loss | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if view_reduction not in ("mean", "sum"):
            raise ValueError(f'view_reduction must be "mean" or "sum", not {view_reduction!r}')
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {num_classes}")
        self.transform, self.num_classes, self.mode = transform, num_classes, mode
        self.temperature, self.distill_weight = temperature, distill_weight
        self.view_reduction = view_reduction
        self.base_loss = cross_entropy if base_loss is None else base_loss

    @property
    def outputs(self) -> int:
        """Units that the network's last layer must have."""
        n, m = self.num_classes, self.transform.num
        return {"sla": n * m, "sla+sd": n * m + n, "da": n, "mt": n + m}[self.mode]

    def augment_batch(
        self, x: Shaped[Tensor, batch * shape], y: Int[Tensor, batch]
    ) -> tuple[Shaped[Tensor, views * shape], Int[Tensor, views]]:
        """All views of a batch, those of one example together, and their joint labels.

        Raises:
            ValueError: a label out of range.
        """
        if len(y) and (int(y.min()) < 0 or int(y.max()) >= self.num_classes):
            raise ValueError(f"labels must be from 0 to {self.num_classes - 1}, not {int(y.min())} to {int(y.max())}")
        m = self.transform.num
        joint = y.long()[:, None] * m + torch.arange(m, device=y.device)
        return self.transform(x).flatten(0, 1), joint.flatten()

    def batches(self, loader: Iterable[tuple[Tensor, Tensor]]) -> ViewBatches:
        """A loader of augmented batches, to be passed over as often as the one that it wraps."""
        return ViewBatches(self, loader)

    def forward(self, logits: Float[Tensor, "views outputs"], target: Int[Tensor, views]) -> Float[Tensor, ""]:
        """The loss on a whole augmented batch, in the order of `augment_batch`.

        Args:
            logits: what the network gives for the views.
            target: their joint labels.

        Raises:
            ValueError: the outputs are of another number, or the views of an example are not all there.
        """
        n, m = self.num_classes, self.transform.num
        self._check(logits)
        if len(logits) % m:
            raise ValueError(f"a batch must hold all {m} views of each example, not {len(logits)} rows")
        joint = target.long()
        if self.mode == "da":
            loss = self.base_loss(logits, joint // m)
        elif self.mode == "mt":
            loss = self.base_loss(logits[:, :n], joint // m) + cross_entropy(logits[:, n:], joint % m)
        else:
            loss = self.base_loss(logits[:, : n * m], joint)
        loss = loss * m if self.view_reduction == "sum" else loss
        return loss + self._distillation(logits, joint) if self.mode == "sla+sd" else loss

    def _distillation(self, logits: Tensor, joint: Tensor) -> Tensor:
        """What the student learns from untransformed images: labels, and the average of the joint head's answers."""
        n, m, t = self.num_classes, self.transform.num, self.temperature
        student = logits[::m, n * m :]
        teacher = self.aggregate(logits.detach())
        divergence = kl_div(log_softmax(student / t, 1), softmax(teacher / t, 1), reduction="batchmean")
        return self.distill_weight * cross_entropy(student, joint[::m] // m) + t**2 * divergence

    def aggregate(self, logits: Float[Tensor, "views outputs"]) -> Float[Tensor, "batch classes"]:
        """Mean over views of the logits for the view's own transformation: s_i = 1/M sum_j logit_(i, j) of view j."""
        n, m = self.num_classes, self.transform.num
        joint = logits[:, : n * m].unflatten(1, (n, m)).unflatten(0, (-1, m))  # [batch, view, class, transformation]
        return joint.diagonal(dim1=1, dim2=3).mean(2)

    def predict(
        self, model: nn.Module, x: Shaped[Tensor, batch * shape], how: str = "single"
    ) -> Float[Tensor, "batch classes"]:
        """Class logits.

        Args:
            model: the network, in whatever mode it is.
            x: inputs as they are.
            how: ``"single"``: from one pass over the inputs; ``"aggregate"``: from all views (for ``"da"`` and ``"mt"``
                the mean of their logits); ``"distilled"``: the student's, from one pass.

        Raises:
            ValueError: an unknown way, or no student.
        """
        n, m = self.num_classes, self.transform.num
        if how not in ("single", "aggregate", "distilled"):
            raise ValueError(f"how must be single, aggregate or distilled, not {how!r}")
        if how == "distilled" and self.mode != "sla+sd":
            raise ValueError('only the mode "sla+sd" has a student')
        logits = self._check(model(self.transform(x).flatten(0, 1) if how == "aggregate" else x))
        if self.mode in ("da", "mt"):
            return logits[:, :n].unflatten(0, (-1, m)).mean(1) if how == "aggregate" else logits[:, :n]
        if how == "aggregate":
            return self.aggregate(logits)
        return logits[:, n * m :] if how == "distilled" else logits[:, : n * m : m]

    def predictor(self, model: nn.Module, how: str = "single") -> nn.Module:
        """A module from inputs to class logits, as `predict` gives them."""
        return ViewPredictor(self, model, how)

    def _check(self, logits: Tensor) -> Tensor:
        if logits.dim() != 2 or logits.shape[1] != self.outputs:
            raise ValueError(
                f"the model returns {logits.shape[-1]} outputs; {self.mode} with {self.transform.num} transformations "
                f"and {self.num_classes} classes needs {self.outputs}: call widen_classifier"
            )
        return logits


class ViewBatches:
    """The augmented batches of a loader."""

    def __init__(self, sla: SelfSupervisedLabelAugmentation, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.sla, self.loader = sla, loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.loader:
            yield self.sla.augment_batch(x, y)


class ViewPredictor(nn.Module):
    """A network together with its way to predict."""

    def __init__(self, sla: SelfSupervisedLabelAugmentation, model: nn.Module, how: str) -> None:
        super().__init__()
        self.model, self.how = model, how
        self._sla = [sla]  # in a list: a loss is no part of what predicts

    def forward(self, x: Shaped[Tensor, batch * shape]) -> Float[Tensor, "batch classes"]:
        """Class logits."""
        return self._sla[0].predict(self.model, x, self.how)


def lift_to_views(per_class: Sequence[float | int] | Tensor, num_transforms: int) -> Float[Tensor, joint]:
    """Weights, margins or counts of classes for joint labels: label (i, j) has those of class i.

    Args:
        per_class: one number per class.
        num_transforms: M.
    """
    return torch.as_tensor(per_class).repeat_interleave(num_transforms)
