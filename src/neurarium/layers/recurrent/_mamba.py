"""Selective state spaces: a linear recurrence whose step and gates depend on the input, and the block around it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, silu, softplus
from torch.utils.checkpoint import checkpoint

from neurarium.layers.recurrent._scan import cumulative_sum_product


def selective_scan(
    x: Float[Tensor, "batch length channels"],
    delta: Float[Tensor, "batch length channels"],
    A: Float[Tensor, "channels states"],
    B: Float[Tensor, "batch length states"],
    C: Float[Tensor, "batch length states"],
    D: Float[Tensor, " channels"] | None = None,
    *,
    initial: Float[Tensor, "batch channels states"] | None = None,
    chunk: int = 256,
    parallel: bool | None = None,
) -> tuple[Float[Tensor, "batch length channels"], Float[Tensor, "batch channels states"]]:
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t, y_t = C_t . h_t + D x_t (Gu & Dao, 2023, eq. 2 with Algorithm 2).

    Longer inputs than ``chunk`` are worked off in pieces whose states are computed again in the backward pass, so that
    memory grows with the chunk and not with the length.

    Args:
        x: input.
        delta: step sizes, positive.
        A: decay rates, negative.
        B, C: what enters the state, and what is read from it.
        D: what passes by the state; nothing by default.
        initial: h before the first step; zero by default.
        chunk: steps per piece.
        parallel: scan by doubling instead of a loop; by default on any device but the CPU.

    Returns:
        y, and the last state.
    """
    state = x.new_zeros(len(x), *A.shape) if initial is None else initial
    if x.shape[1] == 0:
        return x, state
    if x.shape[1] <= chunk:
        y, state = _scan(x, delta, A, B, C, state, parallel)
    else:
        parts = []
        for piece in zip(*(t.split(chunk, 1) for t in (x, delta, B, C)), strict=True):
            part, state = checkpoint(_scan, piece[0], piece[1], A, *piece[2:], state, parallel, use_reentrant=False)
            parts.append(part)
        y = torch.cat(parts, 1)
    return (y if D is None else y + D * x), state


def _scan(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor, parallel: bool | None
) -> tuple[Tensor, Tensor]:
    decay = torch.exp(delta.unsqueeze(-1) * a).transpose(0, 1)  # [length, batch, channels, states]
    entered = ((delta * x).unsqueeze(-1) * b.unsqueeze(2)).transpose(0, 1)
    entered = torch.cat([(entered[0] + decay[0] * state)[None], entered[1:]])
    h = cumulative_sum_product(entered.flip(0), decay.flip(0)[:-1], parallel=parallel).flip(0)  # time runs backwards
    return (h * c.transpose(0, 1).unsqueeze(2)).sum(-1).transpose(0, 1), h[-1]


class MambaBlock(nn.Module):
    """The selective state-space block (Gu & Dao, 2023, section 3.4), without the norm and the residual around it.

    in_proj -> (x, gate); x -> depthwise causal convolution -> SiLU -> selective scan; times SiLU(gate); out_proj.
    Parameters have the names of the reference implementation.

    Args:
        d_model: features of each token.
        d_state: states per channel.
        d_conv: reach of the convolution.
        expand: channels inside are expand * d_model.
        bidirectional: scan the other way as well, with the same parameters, and add: for images, which have no past.
        device, dtype: of the parameters.

    Shape:
        [batch, length, d_model] -> the same.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(d_model, d_state, d_conv, expand) < 1:
            raise ValueError("d_model, d_state, d_conv and expand must be at least 1")
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        self.d_state, self.rank, self.bidirectional = d_state, rank, bidirectional
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False, device=device, dtype=dtype)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, device=device, dtype=dtype)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False, device=device, dtype=dtype)
        self.dt_proj = nn.Linear(rank, inner, device=device, dtype=dtype)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1, device=device, dtype=dtype).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner, device=device, dtype=dtype))
        self.out_proj = nn.Linear(inner, d_model, bias=False, device=device, dtype=dtype)
        with torch.no_grad():  # steps start log-uniform between 1e-3 and 1e-1
            step = torch.exp(torch.rand_like(self.dt_proj.bias) * math.log(100) + math.log(1e-3))
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor) -> Tensor:
        """All tokens at once; of none there is nothing."""
        inside, gate = self.in_proj(x).chunk(2, dim=-1)
        if x.shape[1] == 0:
            return self.out_proj(inside)
        if self.bidirectional:
            there, back = self._mix(torch.cat([inside, inside.flip(1)]))[0].chunk(2)
            y = there + back.flip(1)
        else:
            y = self._mix(inside)[0]
        return self.out_proj(y * silu(gate))

    def step(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One token [batch, d_model] of a stream; give the state back with the next one.

        Raises:
            ValueError: the block looks both ways, and cannot stream.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional block needs all tokens at once; it has no step")
        inside, gate = self.in_proj(x)[:, None].chunk(2, dim=-1)
        width = self.conv1d.kernel_size[0]
        past = inside.new_zeros(len(x), width - 1, inside.shape[-1]) if state is None else state[0]
        window = torch.cat([past, inside], 1)
        y, hidden = self._mix(inside, None if state is None else state[1], window)
        return self.out_proj(y * silu(gate))[:, 0], (window[:, 1:], hidden)

    def _mix(self, x: Tensor, hidden: Tensor | None = None, window: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seen = pad(x, (0, 0, self.conv1d.kernel_size[0] - 1, 0)) if window is None else window
        groups = self.conv1d.groups
        x = silu(conv1d(seen.transpose(1, 2), self.conv1d.weight, self.conv1d.bias, groups=groups)).transpose(1, 2)
        step, b, c = self.x_proj(x).split([self.rank, self.d_state, self.d_state], dim=-1)
        return selective_scan(x, softplus(self.dt_proj(step)), -self.A_log.exp(), b, c, self.D, initial=hidden)

    def scan_flops(self, tokens: int) -> int:
        """Operations of the recurrence, about 9 per token, channel and state, which counters of products miss."""
        return (1 + self.bidirectional) * tokens * 9 * self.A_log.numel()
