"""One typical example per class, to start label embeddings from."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def class_prototypes(
    x: Float[Tensor, "examples ..."], y: Int[Tensor, " examples"], num_classes: int | None = None
) -> Float[Tensor, "classes features"]:
    """The example of each class with the smallest median distance to the others of its class, flattened.

    Takes time quadratic in the size of a class, in slices of 256 examples; give a subset of a large set.

    Args:
        x: training inputs.
        y: class indices.
        num_classes: by default one more than the largest index.

    Raises:
        TypeError: ``x`` is no floating-point tensor.
        ValueError: a class without examples.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError("x must be a floating-point tensor of training inputs, one per row")
    flat = x.flatten(1)
    found = []
    for label in range(int(y.max()) + 1 if num_classes is None else num_classes):
        members = flat[y == label]
        if not len(members):
            raise ValueError(f"class {label} has no example to take as its prototype")
        near = members - members.mean(0)  # far from the origin distances would lose their digits
        medians = [torch.cdist(part, near).median(1).values for part in near.split(256)]
        found.append(members[torch.cat(medians).argmin()])
    return torch.stack(found)
