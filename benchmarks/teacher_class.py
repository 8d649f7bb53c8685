"""Four students of one form: their layers called one student after the other, or once for all of them stacked.

Inference on one core, students of the study's size (28 x 28 images, chunks of 32 features). Prints the least processor
time of a pass by batch size, and the ratio; the two alternate. A few seconds.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from neurarium.compression import ClassOfStudents, small_student


class Stacked(nn.Module):
    """The same function with the students' weights stacked and their layers called once."""

    def __init__(self, whole: ClassOfStudents) -> None:
        super().__init__()
        self.whole, self.form = whole, whole.students[0]
        parameters, buffers = stack_module_state(list(whole.students))
        self.weights = {**parameters, **buffers}

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        each = torch.vmap(lambda own: functional_call(self.form, own, (x,)))(self.weights)
        return self.whole.head(self.whole.join(each.unbind()))


def main() -> None:
    """Print a line per number of students and batch size."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for students, parameters in ((4, 3_800), (8, 1_900)):
        chunk = 128 // students
        pupils = [small_student((1, 28, 28), chunk, parameters) for _ in range(students)]
        whole = ClassOfStudents(pupils, torch.eye(128), torch.zeros(128), nn.Linear(128, 10), rectify=True).eval()
        stacked = Stacked(whole).eval()
        for batch in (1, 16, 128):
            x = torch.randn(batch, 1, 28, 28)
            seconds: dict[str, list[float]] = {"one after the other": [], "stacked": []}
            with torch.inference_mode():
                torch.testing.assert_close(stacked(x), whole(x), atol=1e-4, rtol=1e-4)
                for _ in range(30):
                    for name, model in zip(seconds, (whole, stacked), strict=True):
                        start = time.process_time()
                        model(x)
                        seconds[name].append(time.process_time() - start)
            apart, together = (1e3 * min(each) for each in seconds.values())
            print(
                f"{students} students, batch {batch:3d}: {apart:.2f} ms one by one, {together:.2f} ms stacked: "
                f"{apart / together:.2f} times"
            )


if __name__ == "__main__":
    main()
