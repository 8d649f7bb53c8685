"""Examples kept row by row: tensors or dictionaries of tensors, of equal or of different lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

PART = "|"  # between "x" and the name of a dictionary's entry


class Examples(nn.Module):
    """Inputs and targets of some examples, as buffers that are saved whatever their number.

    Rows of another length than those before (sequences) are padded in storage and given back as they came.
    """

    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)  # is where the module is moved to

    def put(self, x: Any, y: Tensor, slots: Tensor) -> None:
        """Write examples into slots; one past the last makes the store longer, -1 leaves an example out.

        Args:
            x: inputs [examples, ...], or a dictionary of them.
            y: targets [examples, ...].
            slots: [examples]; of two for one slot the later one stays.

        Raises:
            ValueError: inputs and targets of different numbers, or of other dimensions or names than before.
        """
        parts = {f"x{PART}{name}": value for name, value in x.items()} if isinstance(x, Mapping) else {"x": x}
        parts["y"] = y
        if len(self) and set(self.names()) != set(parts):
            raise ValueError(f"examples must have the entries {self.names()} as before, not {list(parts)}")
        for name, value in parts.items():
            before = self._buffers.get(name)
            if len(value) != len(slots) or (before is not None and value.dim() != before.dim()):
                have = "" if before is None else f" and {before.dim()} dimensions as before"
                raise ValueError(f"{name} must have {len(slots)} rows{have}, not shape {list(value.shape)}")
        last = {slot: row for row, slot in enumerate(slots.tolist()) if slot >= 0}
        if last:
            for name, value in parts.items():
                self._write(name, value.detach()[list(last.values())], list(last))

    def names(self) -> list[str]:
        """Of the tensors that are kept: ``"y"``, and ``"x"`` or one for each entry of a dictionary."""
        return [name for name in self._buffers if name != "place" and not name.endswith("_sizes")]

    def _write(self, name: str, values: Tensor, slots: list[int]) -> None:
        stored, sizes = self._buffers.get(name), self._buffers.get(f"{name}_sizes")
        if stored is None or sizes is None:
            stored, sizes = values[:0], torch.zeros(0, values.dim() - 1, dtype=torch.int64)
        shape = [max(a, b) for a, b in zip(stored.shape[1:], values.shape[1:])]
        length = max(len(stored), *(slot + 1 for slot in slots))
        if [length, *shape] != list(stored.shape):
            stored, sizes = _padded(stored, [length, *shape]), _padded(sizes, [length, sizes.shape[1]])
        stored[slots] = _padded(values, [len(values), *shape]).to(stored)
        sizes[slots] = torch.tensor(values.shape[1:], dtype=torch.int64, device=sizes.device)
        self.register_buffer(name, stored)
        self.register_buffer(f"{name}_sizes", sizes)

    def take(self, rows: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Inputs and targets of some rows, in batches of equal shape."""
        table = torch.cat([self.get_buffer(f"{name}_sizes").cpu() for name in self.names()], 1)
        shapes, of = table[rows.cpu()].unique(dim=0, return_inverse=True)
        for shape in range(len(shapes)):
            chosen = rows[(of == shape).to(rows.device)]
            parts = {name: self._rows(name, chosen) for name in self.names()}
            y = parts.pop("y")
            yield parts["x"] if "x" in parts else {n.split(PART, 1)[1]: part for n, part in parts.items()}, y

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        part = self.get_buffer(name)[rows.to(self.get_buffer(name).device)]
        for dim, size in enumerate(self.get_buffer(f"{name}_sizes")[rows[0]].tolist()):
            part = part.narrow(dim + 1, 0, size)
        return part

    def __len__(self) -> int:
        return 0 if "y" not in self._buffers else len(self.get_buffer("y"))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.names():
            delattr(self, name)
            delattr(self, f"{name}_sizes")
        for key, value in state_dict.items():  # which there are, and how many, is part of the state
            if key.startswith(prefix):
                self.register_buffer(key[len(prefix) :], torch.empty_like(value, device=self.place.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _padded(tensor: Tensor, shape: list[int]) -> Tensor:
    """A copy with zeros at the ends."""
    wide = tensor.new_zeros(shape)
    wide[tuple(slice(size) for size in tensor.shape)] = tensor
    return wide
