"""Several small networks that together say what one large network's last hidden layer says."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from neurarium.compression._account import account
from neurarium.compression.distillation._class_account import ClassAccount, Latency, milliseconds


class ClassOfStudents(nn.Module):
    """Students' outputs joined, turned back into the teacher's representation, and read by the teacher's own head.

    Args:
        students: networks from an input to their chunk, [batch, chunk].
        basis: [chunks, features]: maps the joined chunks to the representation (the identity for contiguous chunks, a
            permutation, averages where chunks overlap, a rotation). Of the first two only the order is kept.
        centre: added to the representation, [features].
        head: linear layer on the representation; copied.
        rectify: the teacher's representation is that of a ReLU, so negative values are cut.
        dropout: of the representation, in training mode.
    """

    basis: Tensor | None
    order: Tensor  # where there is no basis
    centre: Tensor
    present: Tensor

    def __init__(
        self,
        students: Sequence[nn.Module],
        basis: Tensor,
        centre: Tensor,
        head: nn.Linear,
        *,
        rectify: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        ones = basis == 1
        only = bool(((basis == 0) | ones).all() and (ones.sum(0) == 1).all() and (ones.sum(1) == 1).all())
        self.register_buffer("basis", None if only else basis)
        self.register_buffer("order", ones.int().argmax(0) if only else None)
        self.register_buffer("centre", centre)
        self.register_buffer("present", torch.ones(len(students), dtype=torch.bool))
        self.rectify = rectify
        self.dropout = nn.Dropout(dropout)
        self.head = copy.deepcopy(head).requires_grad_(True)

    def representation(self, x: Tensor) -> Tensor:
        """The teacher's representation as the students have it, [batch, features]."""
        return self.join([student(x) for student in self.students])

    def join(self, chunks: Sequence[Tensor]) -> Tensor:
        """The representation that the students' chunks [batch, chunk] make."""
        heard = torch.cat([chunk * self.present[i] for i, chunk in enumerate(chunks)], 1)
        found = (heard[:, self.order] if self.basis is None else heard @ self.basis) + self.centre
        return found.relu() if self.rectify else found

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, outputs]."""
        return self.head(self.dropout(self.representation(x)))

    def drop(self, *numbers: int) -> ClassOfStudents:
        """A view on the same students in which some (from 0) say nothing: what is left when devices fail.

        Raises:
            ValueError: no such student.
        """
        twin = copy.copy(self)
        twin._buffers = dict(self._buffers)
        present = self.present.clone()
        for number in numbers:
            if not 0 <= number < len(self.students):
                raise ValueError(f"there is no student {number}; they are numbered 0 to {len(self.students) - 1}")
            present[number] = False
        twin._buffers["present"] = present
        return twin

    def account(self, teacher: nn.Module, example: Tensor) -> ClassAccount:
        """What the class costs beside its teacher, for an input of one row."""
        each = tuple(account(student, example) for student in self.students)
        return ClassAccount(account(teacher, example), account(self, example), each)

    @torch.inference_mode()
    def latency(self, example: Tensor) -> Latency:
        """How long an answer takes on this device, student by student, in evaluation mode."""
        twin = copy.deepcopy(self).eval()
        chunks = [student(example) for student in twin.students]
        each = [milliseconds(partial(student, example)) for student in twin.students]
        return Latency(tuple(each), milliseconds(lambda: twin.head(twin.join(chunks))))

    @torch.no_grad()
    def chunk_fit(self, x: Tensor, representation: Tensor) -> Tensor:
        """r² of each student's part of the representation, [students]: 1 less its squared error over its variation.

        The part is taken from what the class makes of all chunks, along the chunk's own axes. Where chunks do not
        overlap, the mean of these numbers, weighted by variation, is the r² of the whole representation.

        Args:
            x: inputs; the class should be in evaluation mode.
            representation: the teacher's, [batch, features].

        Returns:
            At most 1; not a number for a chunk that does not vary over these inputs.

        Raises:
            ValueError: a representation of another shape.
        """
        chunks = [student(x) for student in self.students]
        found = self.join(chunks)
        if representation.shape != found.shape:
            raise ValueError(f"representation must be {list(found.shape)}, not {list(representation.shape)}")
        sizes = [chunk.shape[1] for chunk in chunks]
        errors = self._along_chunks(found - representation).square().sum(0).split(sizes)
        spreads = self._along_chunks(representation - representation.mean(0)).square().sum(0).split(sizes)
        error, spread = (torch.stack([part.sum() for part in parts]) for parts in (errors, spreads))
        return (1 - error / spread).where(spread > 0, torch.nan)

    def _along_chunks(self, vectors: Tensor) -> Tensor:
        """Coordinates of vectors [batch, features] along the axes of all chunks, [batch, chunks]."""
        if self.basis is None:
            return vectors[:, self.order.argsort()]
        return vectors @ normalize(self.basis, dim=1).T

    def new_head(self, out_features: int) -> ClassOfStudents:
        """The same students, frozen, under a fresh head for another task."""
        twin = copy.deepcopy(self)
        twin.students.requires_grad_(False)
        twin.head = nn.Linear(self.head.in_features, out_features).to(self.head.weight)
        return twin
