"""A recurrent layer of torch's with a head, and the state it begins in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SequenceReadout(nn.Module):
    """Reads a sequence with a recurrent layer and maps its states to outputs.

    Args:
        cell: `nn.RNN`, `nn.GRU` or `nn.LSTM`; ``batch_first`` is obeyed in the layer and is how ``forward`` counts.
        head: a module from states to outputs.
        initial: value of all units before the first step.
        gain: None keeps the weights as they are; a number draws all matrices anew, Xavier-normal times it, with biases
            0 (van Rossem and Saxe, 2025).
        generator: source of that draw.

    Raises:
        TypeError: ``cell`` is none of these.
    """

    def __init__(
        self,
        cell: nn.RNNBase,
        head: nn.Module,
        initial: float = 0.0,
        gain: float | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cell, nn.RNNBase):
            raise TypeError(f"cell must be an nn.RNN, nn.GRU or nn.LSTM, not {type(cell).__name__}")
        self.cell = cell
        self.head = head
        self.initial = initial
        if gain is not None:
            with torch.no_grad():
                for parameter in self.parameters():
                    if parameter.dim() < 2:
                        parameter.zero_()
                    else:
                        nn.init.xavier_normal_(parameter, gain, generator=generator)

    def states(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch steps hidden"]:
        """The state after every step."""
        cell = self.cell
        batch = x.shape[0 if cell.batch_first else 1]
        directions = 2 if cell.bidirectional else 1
        width = cell.proj_size or cell.hidden_size
        hidden = x.new_full((cell.num_layers * directions, batch, width), self.initial)
        if isinstance(cell, nn.LSTM):
            return cell(x, (hidden, x.new_full((*hidden.shape[:2], cell.hidden_size), self.initial)))[0]
        return cell(x, hidden)[0]

    def empty_state(self) -> Float[Tensor, " hidden"]:
        """The state of the empty word: that before the first step."""
        width = self.cell.proj_size or self.cell.hidden_size
        return next(self.cell.parameters()).new_full((width,), self.initial)

    def forward(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch steps outputs"]:
        """Outputs at every step."""
        return self.head(self.states(x))
