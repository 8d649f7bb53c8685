"""Teacher-class networks: cut the teacher's last representation into chunks and train a small student for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from neurarium.compression._compressor import Compressor
from neurarium.compression.distillation._class_of_students import ClassOfStudents
from neurarium.compression.distillation._representation import Recorded, find_head, record
from neurarium.compression.distillation._student import small_student
from neurarium.training import shuffled_rows

Factory = Callable[[tuple[int, ...], int, int], nn.Module]


class TeacherClass(Compressor):
    """n students learn an n-th of the teacher's last representation each; its head reads them (Malik et al., 2021).

    The teacher's answers are computed once. The students share nothing, so training them side by side here is
    training each on a machine of its own. Then the head, which starts as the teacher's, is trained on the labels with
    the students frozen.

    Args:
        students: n; 1 is a single student for the whole representation.
        split: "contiguous" chunks (the paper's); "random" features; "overlapping" chunks, twice as long, averaged;
            "svd": the chunks of the representation in its principal axes.
        budget: parameters of all students together, as a share of the teacher's.
        student: ``student(input shape, chunk, parameters) -> module``; `small_student` by default.
        mode: "mse", or "adversarial": a discriminator per student judges and reconstructs its chunk.
        epochs: of the students.
        head_epochs: of the head on the labels; 0 leaves the teacher's head as it is.
        joint: train the students too while the head learns.
        learning_rate: Adam's, for students and head.
        batch_size: examples per step.
        dropout: of the joined representation while the head learns.
        head: name of the teacher's last layer; found by default.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        students: int = 4,
        *,
        split: str = "contiguous",
        budget: float = 1 / 4,
        student: Factory | None = None,
        mode: str = "mse",
        epochs: int = 30,
        head_epochs: int = 10,
        joint: bool = False,
        learning_rate: float = 3e-3,
        batch_size: int = 64,
        dropout: float = 0.5,
        head: str | None = None,
    ) -> None:
        if split not in ("contiguous", "random", "overlapping", "svd"):
            raise ValueError(f"split must be contiguous, random, overlapping or svd, not {split!r}")
        if mode not in ("mse", "adversarial"):
            raise ValueError(f"mode must be mse or adversarial, not {mode!r}")
        if students < 1 or epochs < 0 or head_epochs < 0 or not budget > 0:
            raise ValueError(
                f"students must be at least 1, epochs not negative, budget positive: "
                f"{students}, {epochs}, {head_epochs}, {budget}"
            )
        self.students, self.split, self.budget, self.mode = students, split, budget, mode
        self.student = student or small_student
        self.epochs, self.head_epochs, self.joint = epochs, head_epochs, joint
        self.learning_rate, self.batch_size, self.dropout, self.head = learning_rate, batch_size, dropout, head

    def compress(self, model: nn.Module, loader: Iterable[Any]) -> ClassOfStudents:
        """Train the class.

        Raises:
            ValueError: the representation cannot be cut into so many chunks, or the model has no linear head.
        """
        known = record(model, loader, self.head)
        features = known.representation.shape[1]
        if self.students > features:
            raise ValueError(f"a representation of {features} features cannot be cut for {self.students} students")
        taken, basis, centre = cut(known.representation, self.students, self.split)
        parameters = int(self.budget * sum(p.numel() for p in model.parameters()) / self.students)
        shape = tuple(known.x.shape[1:])
        pupils = [self.student(shape, chunk.shape[1], parameters).to(known.x.device) for chunk in taken]
        for _ in self.training(pupils, taken, known.x):
            pass
        whole = ClassOfStudents(
            pupils, basis, centre, find_head(model, self.head),
            rectify=bool((known.representation >= 0).all()), dropout=self.dropout,
        ).to(known.x.device)  # fmt: skip
        self._train_head(whole, known)
        return whole.eval()

    def training(self, pupils: list[nn.Module], targets: list[Tensor], x: Tensor) -> Iterator[Tensor]:
        """Train students on their chunks; gives the mean squared error of each student [n] after every epoch."""
        optimizer = torch.optim.Adam([p for pupil in pupils for p in pupil.parameters()], self.learning_rate)
        judges = [Judge(chunk.shape[1]).to(x.device) for chunk in targets] if self.mode == "adversarial" else []
        of_judges = torch.optim.Adam([p for judge in judges for p in judge.parameters()], 2e-4) if judges else None
        for pupil in pupils:
            pupil.train()
        for _ in range(self.epochs):
            total = torch.zeros(len(pupils))
            for rows in shuffled_rows(len(x), self.batch_size):
                given = [pupil(x[rows]) for pupil in pupils]
                wanted = [chunk[rows] for chunk in targets]
                errors = torch.stack([mse_loss(g, w) for g, w in zip(given, wanted, strict=True)])
                loss = errors.sum()  # students share no weights: each gets the gradient of its own error
                if of_judges is not None and len(rows) > 1:
                    teach(judges, of_judges, given, wanted)
                    loss = torch.stack(
                        [judge.persuaded(g, w) for judge, g, w in zip(judges, given, wanted, strict=True)]
                    ).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += errors.detach().cpu() * len(rows)
            yield total / len(x)

    def _train_head(self, whole: ClassOfStudents, known: Recorded) -> None:
        trained = [(p, p.requires_grad) for p in whole.students.parameters()]
        if not self.joint:
            whole.students.requires_grad_(False)
        whole.students.train(self.joint)
        optimizer = torch.optim.Adam([p for p in whole.parameters() if p.requires_grad], self.learning_rate)
        given = None if self.joint else _in_parts(whole.representation, known.x)
        whole.dropout.train()
        for _ in range(self.head_epochs):
            for rows in shuffled_rows(len(known.x), self.batch_size):
                seen = whole.representation(known.x[rows]) if given is None else given[rows]
                optimizer.zero_grad()
                cross_entropy(whole.head(whole.dropout(seen)), known.y[rows]).backward()
                optimizer.step()
        for parameter, before in trained:
            parameter.requires_grad_(before)


def cut(representation: Tensor, students: int, split: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """The targets of each student, and what turns their joined answers back into the representation.

    Returns:
        Chunks [examples, chunk]; the basis [chunks, features]; the centre [features], for answers @ basis + centre.
    """
    features = representation.shape[1]
    eye = torch.eye(features, dtype=representation.dtype, device=representation.device)
    centre = representation.new_zeros(features)
    axes, seen = eye, representation
    if split == "random":
        axes = eye[torch.randperm(features)]
        seen = representation @ axes.T
    elif split == "svd":
        centre = representation.mean(0)
        axes = torch.linalg.svd(representation - centre, full_matrices=True).Vh
        seen = (representation - centre) @ axes.T
    places = list(torch.arange(features).tensor_split(students))
    if split == "overlapping" and students > 1:
        long = min(features, 2 * -(-features // students))
        places = [(torch.arange(long) + int(place[0])) % features for place in places]
    everywhere = torch.cat(places)
    times = torch.bincount(everywhere, minlength=features).to(representation)
    basis = axes[everywhere] / times[everywhere].to(axes.device)[:, None]
    return [seen[:, place] for place in places], basis, centre


class Judge(nn.Module):
    """Tells a chunk of the teacher from a student's, and reconstructs it: two outputs of one network.

    Layers of 64, 128, 256, 512 and 1,024 units, leaky ReLU (0.2), batch normalisation from the second on.
    """

    def __init__(self, chunk: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(chunk, 64), nn.LeakyReLU(0.2)]
        for before, after in ((64, 128), (128, 256), (256, 512), (512, 1024)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers)
        self.real = nn.Linear(1024, 1)
        self.reconstruct = nn.Linear(1024, chunk)

    def loss(self, chunk: Tensor, real: bool, target: Tensor) -> Tensor:
        """Cross-entropy of calling the chunk real or not, plus the error of reconstructing the teacher's."""
        hidden = self.body(chunk)
        verdict = self.real(hidden).squeeze(1)
        said = binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, float(real)))
        return said + mse_loss(self.reconstruct(hidden), target)

    def persuaded(self, chunk: Tensor, target: Tensor) -> Tensor:
        """The student's loss: the judge, held still, should call its chunk real and reconstruct the teacher's."""
        self.requires_grad_(False)
        loss = self.loss(chunk, True, target)
        self.requires_grad_(True)
        return loss


def teach(judges: list[Judge], optimizer: torch.optim.Optimizer, given: list[Tensor], wanted: list[Tensor]) -> None:
    """One step of the judges on real chunks and on the students'."""
    optimizer.zero_grad()
    for judge, fake, real in zip(judges, given, wanted, strict=True):
        (judge.loss(real, True, real) + judge.loss(fake.detach(), False, real)).backward()
    optimizer.step()


@torch.no_grad()
def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([function(part) for part in x.split(1000)])
