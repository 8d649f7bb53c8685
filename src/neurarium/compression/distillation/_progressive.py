"""Progressive distillation: a chain of small networks, each taught what the ones before it have missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from neurarium.compression._compressor import Compressor
from neurarium.compression.distillation._student import small_student
from neurarium.compression.distillation._student_training import ask_teacher
from neurarium.compression.nested._anytime import AnytimeEnsemble, operations
from neurarium.models import mamba_ladder
from neurarium.training import shuffled_rows

StudentFactory = Callable[[float, Tensor, int, int], nn.Module]
"""``factory(share, example, num_classes, teacher_flops) -> student``; ``example`` is a batch of one."""


def mamba_student(share: float, example: Tensor, num_classes: int, teacher_flops: int) -> nn.Module:
    """A `MambaClassifier` that takes this share of the teacher's operations, for square images of 28 x 28 and more."""
    side = example.shape[-1]
    patch = next((p for p in (7, 4, 8, 5, 2) if side % p == 0), side)
    channels = example.shape[1] if example.dim() == 4 else 1
    ladder = mamba_ladder(
        teacher_flops, [share], image_size=side, patch=patch, channels=channels, num_classes=num_classes
    )
    return ladder[0].to(example.device)


def plain_student(share: float, example: Tensor, num_classes: int, teacher_flops: int) -> nn.Module:
    """A small perceptron or convolutional network that takes about this share of the teacher's operations."""
    shape = tuple(example.shape[1:])
    low, high = 1, max(2, teacher_flops)
    best: nn.Module | None = None
    while low <= high:  # by parameters; operations grow with them
        middle = (low + high) // 2
        try:
            student = small_student(shape, num_classes, middle).to(example.device)
        except ValueError:
            low = middle + 1
            continue
        if operations(student, example) <= share * teacher_flops:
            best, low = student, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise ValueError(f"no student is small enough for a share of {share:.2%} of the teacher's operations")
    return best


class ProgressiveDistillation(Compressor):
    """Teaches students from cheap to dear; each learns the error that the group so far has left (Medina et al., 2025).

    Student m minimises, with the earlier ones frozen, alpha CE(y, F) + (1 - alpha) T² KL(teacher || F) at temperature T
    for the group's output F = F_{m-1} + f_m, on examples weighted by what F_{m-1} misses of the teacher. Its weight in
    the group is then found by line search in [0, 1] on held-out examples. One that gets less than 0.05, or lowers the
    held-out loss by less than ``min_gain``, is no weak learner and is left out.

    Args:
        student_factory: makes each student; by default `mamba_student` for square images from 28 pixels, else
            `plain_student`.
        shares: of the teacher's operations, one per student.
        alpha: weight of the labels.
        temperature: T.
        min_gain: smallest relative gain of a weak learner.
        progressive: False trains every student on the teacher alone and averages them: the control.
        connected: each student's head also reads the features of the one before (students need ``features`` and a
            linear ``head``).
        epochs: passes per student.
        learning_rate: Adam's.
        batch_size: examples per step.
        held_out: share of the examples for the line search and the test.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        student_factory: StudentFactory | None = None,
        *,
        shares: Sequence[float] = (0.05, 0.1, 0.2, 0.3),
        alpha: float = 0.5,
        temperature: float = 2.0,
        min_gain: float = 0.01,
        progressive: bool = True,
        connected: bool = False,
        epochs: int = 20,
        learning_rate: float = 2e-3,
        batch_size: int = 64,
        held_out: float = 0.1,
    ) -> None:
        if not shares or min(shares) <= 0:
            raise ValueError(f"shares must be positive shares of the teacher's operations, not {list(shares)}")
        if not 0 <= alpha <= 1 or temperature <= 0 or not 0 < held_out < 1:
            raise ValueError(
                "alpha must be in [0, 1], temperature positive and held_out in (0, 1), "
                f"not {alpha}, {temperature} and {held_out}"
            )
        if connected and not progressive:
            raise ValueError("connected students need progressive=True: each reads the one before")
        self.student_factory, self.shares = student_factory, tuple(shares)
        self.alpha, self.temperature, self.min_gain = alpha, temperature, min_gain
        self.progressive, self.connected = progressive, connected
        self.epochs, self.learning_rate, self.batch_size = epochs, learning_rate, batch_size
        self.held_out = held_out

    def compress(self, model: nn.Module, loader: Iterable[Any]) -> AnytimeEnsemble:
        """The chain that a teacher's answers on the loader's examples make.

        Raises:
            ValueError: no examples, or labels beyond the teacher's classes.
        """
        known = ask_teacher(model, loader)
        x, y, teacher = known.x, known.y, known.logits
        if int(y.max()) >= teacher.shape[1]:
            raise ValueError(f"labels reach {int(y.max())}, but the teacher has {teacher.shape[1]} classes")
        flops = operations(model, x[:1])
        square = x.dim() >= 3 and x.shape[-1] == x.shape[-2] and x.shape[-1] >= 28
        factory = self.student_factory or (mamba_student if square else plain_student)
        cut = max(1, round(len(x) * self.held_out))
        order = torch.randperm(len(x), device=x.device)
        held, train = order[:cut], order[cut:]
        group = x.new_zeros(len(x), teacher.shape[1])
        ensemble = AnytimeEnsemble([], [], [], self.connected)
        for share in self.shares:
            student = factory(share, x[:1], teacher.shape[1], flops).to(x.device)
            cost = operations(student, x[:1])
            if self.connected:
                widen_head(student, ensemble.members[-1] if len(ensemble.members) else None, x[:1])
            trial = AnytimeEnsemble(
                [*ensemble.members, student], [1.0] * (1 + len(ensemble.members)), [], self.connected
            )
            first = not len(ensemble.members)
            base = group if self.progressive else torch.zeros_like(group)
            weight = self._weights(base, teacher, y, first or not self.progressive)
            self._train(trial, x[train], y[train], teacher[train], base[train], weight[train])
            with torch.no_grad():
                found = torch.cat([trial.eval().outputs(part)[-1] for part in x.split(1024)])
            eta = 1.0
            if self.progressive and not first:
                eta, gain = self._line_search(group[held], found[held], teacher[held], y[held])
                if eta < 0.05 or gain < self.min_gain:
                    continue
            ensemble = AnytimeEnsemble(
                [*ensemble.members, student], [*ensemble.weights.tolist(), eta], [*ensemble.flops.tolist(), cost],
                self.connected,
            )  # fmt: skip
            group = group + eta * found
        if not self.progressive:
            ensemble.weights.fill_(1 / len(ensemble.members))
        return ensemble.to(x.device).eval()

    def losses(self, logits: Tensor, teacher: Tensor, y: Tensor) -> Tensor:
        """alpha CE + (1 - alpha) T² KL of each example."""
        hard = cross_entropy(logits, y, reduction="none")
        if self.alpha == 1:
            return hard
        return self.alpha * hard + (1 - self.alpha) * self.temperature**2 * self._divergence(logits, teacher)

    def _divergence(self, logits: Tensor, teacher: Tensor) -> Tensor:
        wanted, found = (teacher / self.temperature).softmax(1), (logits / self.temperature).log_softmax(1)
        return kl_div(found, wanted, reduction="none").sum(1).clamp_min(0)  # rounding can take a KL below 0

    def _weights(self, group: Tensor, teacher: Tensor, y: Tensor, equal: bool) -> Tensor:
        """What the group misses of each example, plus a tenth of the mean, with mean 1."""
        if equal:
            return torch.ones(len(group), device=group.device)
        missed = cross_entropy(group, y, reduction="none") if self.alpha == 1 else self._divergence(group, teacher)
        missed = missed + (0.1 * missed.mean()).clamp_min(torch.finfo(missed.dtype).tiny)  # nothing missed: equal
        return missed / missed.mean()

    def _train(
        self, trial: AnytimeEnsemble, x: Tensor, y: Tensor, teacher: Tensor, base: Tensor, weight: Tensor
    ) -> None:
        """Adam on what the last member lets train; the others are frozen meanwhile."""
        trained = [(p, p.requires_grad) for p in trial.parameters()]
        trial.members[:-1].requires_grad_(False)
        trial.eval()
        trial.members[-1].train()
        own = [p for p in trial.members[-1].parameters() if p.requires_grad]
        if not own:
            raise ValueError(f"the student {type(trial.members[-1]).__name__} has no parameter that trains")
        optimizer = torch.optim.Adam(own, self.learning_rate)
        for _ in range(self.epochs):
            for rows in shuffled_rows(len(x), self.batch_size, x.device):
                optimizer.zero_grad()
                out = trial.outputs(x[rows])[-1] if self.connected else trial.members[-1](x[rows])
                (weight[rows] * self.losses(base[rows] + out, teacher[rows], y[rows])).mean().backward()
                optimizer.step()
        for parameter, before in trained:
            parameter.requires_grad_(before)

    def _line_search(self, group: Tensor, found: Tensor, teacher: Tensor, y: Tensor) -> tuple[float, float]:
        """The best weight of the new member on held-out examples, and the relative gain."""
        steps = [i / 20 for i in range(21)]
        values = [float(self.losses(group + eta * found, teacher, y).mean()) for eta in steps]
        best = min(range(len(steps)), key=values.__getitem__)
        return steps[best], 1 - values[best] / max(values[0], 1e-12)


@torch.no_grad()
def widen_head(student: nn.Module, before: Any, example: Tensor) -> None:
    """A new linear head that also reads the features of the student before, if there is one.

    Args:
        student: gets the head.
        before: the student before, in evaluation mode, or None.
        example: a batch of one.

    Raises:
        ValueError: the student has no ``features`` or no linear ``head``.
    """
    own = getattr(student, "head", None)
    if not (hasattr(student, "features") and isinstance(own, nn.Linear)):
        raise ValueError("connected students need a method features(x) and a linear layer head")
    if before is not None:
        extra = before.features(example).shape[1]  # its own head may have been widened
        student.head = nn.Linear(own.in_features + extra, own.out_features).to(own.weight)
