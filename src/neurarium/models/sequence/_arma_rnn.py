"""A recurrent classifier of frames that may look ahead, on features of another network (Chen & Deng, 2013)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.layers import FrameWindow, SigmoidRNN

ACTIVATIONS = ("sigmoid", "tanh", "relu")


class ARMARNN(nn.Module):
    """``h_t = f(W h_{t-1} + sum_tau W_tau v_{t+tau} + b)`` and logits ``U h_t + c`` for every frame.

    The window is applied to all frames at once, outside the recurrence. With no window it is the autoregressive (AR)
    network, with one the autoregressive moving-average (ARMA) network; ``look_ahead`` lets it hear what comes next,
    which carries co-articulation.

    Attributes:
        features: the network that makes v from the input.
        window: the moving-average part.
        rnn: the recurrence, `SigmoidRNN` or `nn.RNN`; constrain its ``weight_hh_l0``.
        readout: U and c.

    Args:
        in_features: width of v_t.
        hidden_size: recurrent units.
        out_features: classes.
        look_back: frames of v before t in the window.
        look_ahead: frames of v after t.
        activation: "sigmoid" as in the paper, "tanh" or "relu".
        features: module [batch, time, ...] -> [batch, time, in_features], for instance the hidden layers of a trained
            frame classifier; the identity by default.
        edge: what the window sees beyond the ends, "zeros" or "replicate".
        truncation: frames after which back-propagation through time is cut: no gradient crosses the state between one
            block of so many frames and the next, while states and outputs stay as they are; None for no cut.

    Raises:
        ValueError: a size or ``truncation`` below 1, a negative window, an unknown activation or edge.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        out_features: int,
        look_back: int = 0,
        look_ahead: int = 0,
        activation: str = "sigmoid",
        features: nn.Module | None = None,
        edge: str = "zeros",
        truncation: int | None = None,
    ) -> None:
        super().__init__()
        if truncation is not None and truncation < 1:
            raise ValueError(f"truncation must be at least 1 frame, or None for no cut, not {truncation}")
        self.truncation = truncation
        if min(in_features, hidden_size, out_features) < 1:
            raise ValueError("in_features, hidden_size and out_features must be at least 1")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.features = features if features is not None else nn.Identity()
        self.window = FrameWindow(look_back, look_ahead, edge)
        seen = in_features * self.window.width
        self.rnn = (
            SigmoidRNN(seen, hidden_size, batch_first=True)
            if activation == "sigmoid"
            else nn.RNN(seen, hidden_size, nonlinearity=activation, batch_first=True)
        )
        self.readout = nn.Linear(hidden_size, out_features)

    def stacked(
        self, x: Float[Tensor, "batch time *shape"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time stacked"]:
        """What the recurrence is given: features of each frame and of its window."""
        return self.window(self.features(x), lengths)

    def states(
        self, x: Float[Tensor, "batch time *shape"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time hidden"]:
        """h_t for every frame; beyond the end of a sequence its last state is held."""
        stacked = self.stacked(x, lengths)
        blocks, last = [], None
        for block in stacked.split(self.truncation or max(stacked.shape[1], 1), 1):
            states, last = self.rnn(block, None if last is None else last.detach())
            blocks.append(states)
        h = blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)
        if lengths is None:
            return h
        held = torch.minimum(torch.arange(h.shape[1], device=h.device), lengths.to(h.device)[:, None] - 1)
        return h.gather(1, held[..., None].expand_as(h))

    def forward(
        self, x: Float[Tensor, "batch time *shape"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time classes"]:
        """Logits of every frame.

        Args:
            x: inputs, padded to one length.
            lengths: frames of each sequence; all of them by default.
        """
        return self.readout(self.states(x, lengths))
