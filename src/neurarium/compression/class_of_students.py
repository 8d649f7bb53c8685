"""Several small networks that together say what one large network's last hidden layer says."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ClassOfStudents(nn.Module):
    """Students' outputs joined, turned back into the teacher's representation, and read by the teacher's own head.

    Args:
        students: networks from an input to their chunk, [batch, chunk].
        basis: [chunks, features]: maps the joined chunks to the representation (transposed identity for contiguous
            chunks, a permutation, averages where chunks overlap, a rotation).
        centre: added to the representation, [features].
        head: linear layer on the representation; copied.
        rectify: the teacher's representation is that of a ReLU, so negative values are cut.
        dropout: of the representation, in training mode.
    """

    basis: Tensor
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
        self.register_buffer("basis", basis)
        self.register_buffer("centre", centre)
        self.register_buffer("present", torch.ones(len(students), dtype=torch.bool))
        self.rectify = rectify
        self.dropout = nn.Dropout(dropout)
        self.head = copy.deepcopy(head).requires_grad_(True)

    def representation(self, x: Tensor) -> Tensor:
        """The teacher's representation as the students have it, [batch, features]."""
        chunks = [student(x) * self.present[i] for i, student in enumerate(self.students)]
        found = torch.cat(chunks, 1) @ self.basis + self.centre
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

    def new_head(self, out_features: int) -> ClassOfStudents:
        """The same students, frozen, under a fresh head for another task."""
        twin = copy.deepcopy(self)
        twin.students.requires_grad_(False)
        twin.head = nn.Linear(self.head.in_features, out_features).to(self.head.weight)
        return twin
