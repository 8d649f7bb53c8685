"""A class of students of one form, run as one network: their weights are stacked, their layers called once."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from neurarium.compression.class_of_students import ClassOfStudents


class StackedStudents(nn.Module):
    """The same function as a `ClassOfStudents` in evaluation mode; students are a dimension of every weight.

    For inference where calling layers costs more than computing them: small students, small batches. It holds copies
    of the weights.

    Args:
        whole: a class whose students have the same layers and sizes (chunks of one length).

    Shape:
        As the class: [batch, ...] -> [batch, outputs].

    Raises:
        ValueError: students of different forms.
    """

    def __init__(self, whole: ClassOfStudents) -> None:
        super().__init__()
        students = list(whole.students)
        shapes = [[(n, tuple(t.shape)) for n, t in student.state_dict().items()] for student in students]
        if any(shape != shapes[0] or str(s) != str(students[0]) for shape, s in zip(shapes, students, strict=True)):
            raise ValueError("students must have the same layers and sizes to be stacked; choose n that divides them")
        self.whole = copy.copy(whole)
        self.whole._modules = {name: m for name, m in whole._modules.items() if name != "students"}
        parameters, buffers = stack_module_state(students)
        self.names = list(parameters) + list(buffers)
        for number, tensor in enumerate([*parameters.values(), *buffers.values()]):
            self.register_buffer(f"stacked{number}", tensor.detach().clone())
        self.form = [copy.deepcopy(students[0]).eval().to("meta")]  # in a list: it is no part of this module

    def representation(self, x: Tensor) -> Tensor:
        """The teacher's representation as the students have it, [batch, features]."""
        weights = {name: self.get_buffer(f"stacked{number}") for number, name in enumerate(self.names)}
        each = torch.vmap(lambda own: functional_call(self.form[0], own, (x,)))(weights)
        each = each * self.whole.present[:, None, None]
        found = each.transpose(0, 1).flatten(1) @ self.whole.basis + self.whole.centre
        return found.relu() if self.whole.rectify else found

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, outputs]."""
        return self.whole.head(self.representation(x))
