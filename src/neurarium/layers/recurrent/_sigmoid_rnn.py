"""A recurrent layer of sigmoid units that runs on torch's tanh kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SigmoidRNN(nn.RNN):
    """``h_t = sigmoid(W h_{t-1} + W_in x_t + b)``: `nn.RNN` with the activation that torch does not offer.

    With ``g = 2 h - 1`` and ``sigmoid(a) = (1 + tanh(a / 2)) / 2`` the recurrence is ``g_t = tanh(W/4 g_{t-1} +
    W_in/2 x_t + b/2 + W 1/4)`` from ``g_0 = 2 h_0 - 1``: a tanh network with other weights, exactly. Parameters, their
    names and the shapes of inputs and states are those of `nn.RNN`.

    Args:
        input_size: features of each step.
        hidden_size: units.
        num_layers: layers, each over the states of the one below.
        bias: add biases.
        batch_first: inputs are [batch, time, features] and not [time, batch, features].
        bidirectional: a second network reads backwards.
        device: of the parameters.
        dtype: of the parameters.
    """

    activation = "sigmoid"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """States of the last layer at every step, and the last states of all layers, as from `nn.RNN`.

        Args:
            input: [time, batch, features], or [batch, time, features] with ``batch_first``, with or without a
                batch; padded sequences need no packing, since later steps do not reach earlier ones.
            hx: first states, [layers * directions, batch, hidden]; zeros by default.

        Raises:
            TypeError: a packed sequence.
        """
        if not isinstance(input, Tensor):
            raise TypeError("SigmoidRNN takes padded tensors, not packed sequences")
        single = input.dim() == 2
        x = input.unsqueeze(0 if self.batch_first else 1) if single else input
        directions = 2 if self.bidirectional else 1
        if hx is None:
            batch = x.shape[0 if self.batch_first else 1]
            g = x.new_full((self.num_layers * directions, batch, self.hidden_size), -1.0)
        else:
            g = 2 * (hx.unsqueeze(1) if single else hx) - 1
        weights = [
            w for i in range(self.num_layers * directions) for w in self._tanh_weights(i // directions, i % directions)
        ]
        states, last = torch.rnn_tanh(
            x, g, weights, True, self.num_layers, 0.0, self.training, self.bidirectional, self.batch_first
        )  # fmt: skip
        states, last = (states + 1) / 2, (last + 1) / 2
        if single:
            return states.squeeze(0 if self.batch_first else 1), last.squeeze(1)
        return states, last

    def _tanh_weights(self, layer: int, backwards: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases of the tanh network for one layer and direction."""
        end = f"l{layer}{'_reverse' if backwards else ''}"
        w_in, w = getattr(self, f"weight_ih_{end}"), getattr(self, f"weight_hh_{end}")
        shift = w.sum(1) / 4
        if layer:  # the layer below hands up g, not h
            shift = shift + w_in.sum(1) / 4
        if self.bias:
            b_in, b = getattr(self, f"bias_ih_{end}"), getattr(self, f"bias_hh_{end}")
            return w_in / (4 if layer else 2), w / 4, b_in / 2, b / 2 + shift
        return w_in / (4 if layer else 2), w / 4, torch.zeros_like(shift), shift
