"""Recurrent cells as torch's devices have them: one kernel forward and one backward, here written out."""

from __future__ import annotations

import torch
from torch import Tensor

Maybe = Tensor | None


def lstm_cell(
    from_input: Tensor, from_hidden: Tensor, cell: Tensor, input_bias: Maybe = None, hidden_bias: Maybe = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of an LSTM: hidden state, cell state, and the gates that the backward pass needs."""
    entry, forget, value, leave = _gates(from_input, from_hidden, input_bias, hidden_bias).chunk(4, 1)
    gates = torch.cat([entry.sigmoid(), forget.sigmoid(), value.tanh(), leave.sigmoid()], 1)
    entry, forget, value, leave = gates.chunk(4, 1)
    new = forget * cell + entry * value
    return leave * new.tanh(), new, gates


def lstm_cell_backward(
    grad_hidden: Maybe, grad_cell: Maybe, old: Tensor, new: Tensor, gates: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for the gates' inputs, for the old cell state, and for the bias."""
    entry, forget, value, leave = gates.chunk(4, 1)
    hidden = torch.zeros_like(new) if grad_hidden is None else grad_hidden
    squashed = new.tanh()
    into_cell = hidden * leave * (1 - squashed.square())
    if grad_cell is not None:
        into_cell = into_cell + grad_cell
    into_gates = torch.cat(
        [
            into_cell * value * entry * (1 - entry),
            into_cell * old * forget * (1 - forget),
            into_cell * entry * (1 - value.square()),
            hidden * squashed * leave * (1 - leave),
        ],
        1,
    )
    return into_gates, into_cell * forget, into_gates.sum(0) if has_bias else into_gates.new_zeros(0)


def gru_cell(
    from_input: Tensor, from_hidden: Tensor, hidden: Tensor, input_bias: Maybe = None, hidden_bias: Maybe = None
) -> tuple[Tensor, Tensor]:
    """One step of a GRU: hidden state, and what the backward pass needs."""
    given = from_input if input_bias is None else from_input + input_bias
    kept = from_hidden if hidden_bias is None else from_hidden + hidden_bias
    (reset_in, update_in, new_in), (reset_kept, update_kept, new_kept) = given.chunk(3, 1), kept.chunk(3, 1)
    reset, update = (reset_in + reset_kept).sigmoid(), (update_in + update_kept).sigmoid()
    new = (new_in + reset * new_kept).tanh()
    return new + update * (hidden - new), torch.cat([reset, update, new, hidden, new_kept], 1)


def gru_cell_backward(
    grad_hidden: Tensor, workspace: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients for the parts from the input and from the hidden state, for the state, and for both biases."""
    reset, update, new, hidden, new_kept = workspace.chunk(5, 1)
    into_new = grad_hidden * (1 - update) * (1 - new.square())
    into_update = grad_hidden * (hidden - new) * update * (1 - update)
    into_reset = into_new * new_kept * reset * (1 - reset)
    from_input = torch.cat([into_reset, into_update, into_new], 1)
    from_hidden = torch.cat([into_reset, into_update, into_new * reset], 1)
    empty = from_input.new_zeros(0)
    biases = (from_input.sum(0), from_hidden.sum(0)) if has_bias else (empty, empty)
    return from_input, from_hidden, grad_hidden * update, *biases


def _gates(from_input: Tensor, from_hidden: Tensor, input_bias: Maybe, hidden_bias: Maybe) -> Tensor:
    gates = from_input + from_hidden
    return gates if input_bias is None or hidden_bias is None else gates + input_bias + hidden_bias
