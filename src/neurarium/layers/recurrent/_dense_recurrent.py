"""Recurrent layers of which each reads the input and what all layers below it gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

CELLS: dict[str, tuple[Any, int]] = {"lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3), "tanh": (nn.RNN, 1)}
"""A cell -> torch's layer of it, and how many matrices it has."""
CONNECTIONS = ("dense", "stacked", "residual")


class DenseRecurrent(nn.Module):
    """A deep recurrent network with dense connections (Ding et al. 2018), or with others for comparison.

    "dense": layer l reads the input and the states of the layers 1 to l - 1 side by side; "stacked": those of layer
    l - 1 alone; "residual": these, too, and adds them to its own. Layers may be narrow: a dense network of twenty
    layers of 10 units has as many weights as one layer of 300. A last layer of another width, ``top_size``, reads what
    one more layer would. The layers are torch's own.

    Args:
        input_size: numbers at a step.
        hidden_size: units of a layer and direction; one number, or one for each layer.
        num_layers: layers below the top one; may be 0 where there is one.
        top_size: units of the top layer; None for none, and then the output is what a further layer would read.
        cell: "lstm", "gru" or "tanh".
        bidirectional: a second network reads backwards, from the true end of each sequence.
        connection: "dense", "stacked" or "residual".
        dropout: rate on the states of the layers below the last one; never inside a recurrence.
        batch_first: the batch comes before the steps.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        x: [batch, steps, input_size]; output: [batch, steps, output_size].

    Raises:
        ValueError: a size below 1, no layer, an unknown cell or connection, or residual layers of several widths.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        top_size: int | None = None,
        cell: str = "lstm",
        bidirectional: bool = True,
        connection: str = "dense",
        dropout: float = 0.0,
        batch_first: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = [hidden_size] * num_layers if isinstance(hidden_size, int) else list(hidden_size)
        if len(sizes) != num_layers:
            raise ValueError(f"hidden_size must be one number or one for each of {num_layers} layers, not {len(sizes)}")
        if cell not in CELLS or connection not in CONNECTIONS:
            raise ValueError(
                f"cell must be one of {', '.join(CELLS)} and connection one of {', '.join(CONNECTIONS)}, "
                f"not {cell!r} and {connection!r}"
            )
        sizes += [] if top_size is None else [top_size]
        if not sizes or min(input_size, *sizes) < 1:
            raise ValueError("input_size and all hidden sizes must be at least 1, and there must be a layer")
        if connection == "residual" and len(set(sizes[:num_layers])) > 1:
            raise ValueError(f"residual layers must be of one width, not {sizes[:num_layers]}")
        self.input_size, self.connection, self.batch_first = input_size, connection, batch_first
        self.num_layers, self.top_size = num_layers, top_size
        self.directions = 2 if bidirectional else 1
        kind = CELLS[cell][0]
        self.layers: Any = nn.ModuleList(
            kind(inputs, size, batch_first=batch_first, bidirectional=bidirectional, device=device, dtype=dtype)
            for inputs, size in zip(_inputs(input_size, sizes, connection, self.directions), sizes, strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        wide = input_size if connection == "dense" else 0
        below = wide + self.directions * (sum(sizes) if connection == "dense" else sizes[-1])
        self.output_size = below if top_size is None else self.directions * top_size

    def forward(
        self,
        x: Float[Tensor, "batch steps features"] | PackedSequence,
        lengths: Int[Tensor, " batch"] | None = None,
        hx: Sequence[Any] | None = None,
    ) -> tuple[Any, list[Any]]:
        """States after every step, and the last ones of every layer.

        Args:
            x: sequences, filled up to one length or packed.
            lengths: true length of each sequence; the full one by default. What lies beyond changes nothing.
            hx: for each layer what torch's takes as initial state; zeros by default.

        Returns:
            The output, 0 beyond the lengths (packed where ``x`` is), and for each layer torch's final states.

        Raises:
            ValueError: another width, lengths below 1 or beyond the steps, or not one initial state for each layer.
        """
        outputs, states, shape = self._run(x, lengths, hx)
        return self._as_given(outputs[-1], shape), states

    def layer_outputs(
        self,
        x: Float[Tensor, "batch steps features"] | PackedSequence,
        lengths: Int[Tensor, " batch"] | None = None,
        hx: Sequence[Any] | None = None,
    ) -> list[Any]:
        """The states of every layer after every step, the top layer's last; arguments are `forward`'s."""
        outputs, _, shape = self._run(x, lengths, hx)
        return [self._as_given(output, shape) for output in outputs[: len(self.layers)]]

    @staticmethod
    def budget(
        input_size: int,
        parameters: int,
        num_layers: int,
        top_size: int | None = None,
        cell: str = "lstm",
        bidirectional: bool = True,
        connection: str = "dense",
    ) -> int:
        """The largest ``hidden_size`` with which a network has at most so many parameters, torch's two biases counted.

        Raises:
            ValueError: the parameters do not suffice for one unit a layer (the least number is named), or there is no
                layer whose size could be chosen.
        """
        if num_layers < 1:
            raise ValueError("num_layers must be at least 1: without layers there is no size to choose")

        def count(size: int) -> int:
            sizes = [size] * num_layers + ([] if top_size is None else [top_size])
            directions = 2 if bidirectional else 1
            inputs = _inputs(input_size, sizes, connection, directions)
            return sum(directions * CELLS[cell][1] * h * (i + h + 2) for i, h in zip(inputs, sizes, strict=True))

        if count(1) > parameters:
            raise ValueError(f"{num_layers} layers need at least {count(1):,} parameters, not {parameters:,}")
        low, high = 1, 2
        while count(high) <= parameters:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(middle) <= parameters else (low, middle)
        return low

    def _run(self, x: Any, lengths: Tensor | None, hx: Sequence[Any] | None) -> tuple[list[Any], list[Any], int | None]:
        """What each layer gave (and, without a top layer, what a further one would read), last states, padded steps."""
        padded = None
        if not isinstance(x, PackedSequence):
            axis = 1 if self.batch_first else 0
            if x.dim() != 3 or x.shape[2] != self.input_size:
                raise ValueError(f"x must be [.., .., {self.input_size}], not {list(x.shape)}")
            if lengths is not None:
                steps, rows = x.shape[axis], x.shape[1 - axis]
                on_host = lengths.cpu().long()
                if on_host.shape != (rows,) or int(on_host.min()) < 1 or int(on_host.max()) > steps:
                    raise ValueError(f"lengths must be {rows} numbers from 1 to {steps}, not {lengths.tolist()[:10]}")
                x, padded = pack_padded_sequence(x, on_host, self.batch_first, enforce_sorted=False), steps
        if hx is not None and len(hx) != len(self.layers):
            raise ValueError(f"hx must have an initial state for each of {len(self.layers)} layers, not {len(hx)}")
        given, outputs, states = [x], [], []
        for number, layer in enumerate(self.layers):
            output, state = layer(_read(given, self.connection), None if hx is None else hx[number])
            last = number + 1 == len(self.layers)
            if self.connection == "residual" and 0 < number < self.num_layers:
                output = _map(torch.add, output, given[-1])
            outputs.append(output)
            states.append(state)
            given.append(output if last else _map(self.dropout, output))
        if self.top_size is None:
            outputs.append(_read(given, self.connection))
        return outputs, states, padded

    def _as_given(self, output: Any, padded: int | None) -> Any:
        if padded is None:
            return output
        return pad_packed_sequence(output, self.batch_first, total_length=padded)[0]

    def extra_repr(self) -> str:
        return f"connection={self.connection!r}, top_size={self.top_size}"


def _inputs(input_size: int, sizes: Sequence[int], connection: str, directions: int) -> list[int]:
    """What each layer reads."""
    if connection == "dense":
        return [input_size + directions * sum(sizes[:number]) for number in range(len(sizes))]
    return [input_size, *(directions * size for size in sizes[:-1])]


def _read(given: list[Any], connection: str) -> Any:
    """What the next layer reads of the input and of what the layers gave."""
    if connection != "dense" or len(given) == 1:
        return given[-1]
    return _map(lambda *parts: torch.cat(parts, -1), *given)


def _map(function: Any, *parts: Any) -> Any:
    """A function of tensors, or of what packed sequences of equal lengths hold."""
    first = parts[0]
    if isinstance(first, PackedSequence):
        return first._replace(data=function(*(part.data for part in parts)))
    return function(*parts)
