"""Highway backpropagation over time: GRU and LSTM layers whose steps are the blocks (Fagnou et al., 2025).

The update gate of a GRU and the forget gate of an LSTM are the cheap path. Since all steps share their weights, a round
is one product of [time · batch, gates] with the recurrent matrix instead of one small product after the other. The
forward pass is torch's own; the gates are computed again for all steps at once from the states it returns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.layers import cumulative_sum_product
from neurarium.layers.recurrent._scan import accumulate_

RECURRENT = (nn.GRU, nn.LSTM)


class _GruSteps:
    """All steps of a GRU, h' = (1 − z) n + z h, linearised at the states they had.

    Large temporaries cost more than the arithmetic on a CPU, so most of it is done in place.

    Args:
        x: gate inputs of the layer below, W_ih x + b_ih, [time, batch, 3 hidden], in torch's order r, z, n.
        before: state before each step, [time, batch, hidden].
        w_hh, b_hh: recurrent weights and bias.

    Attributes:
        highway: the update gate, [time, batch, hidden].
    """

    def __init__(self, x: Tensor, before: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> None:
        size = before.shape[-1]
        gates = F.linear(before, w_hh, b_hh)
        gates[..., : 2 * size].add_(x[..., : 2 * size]).sigmoid_()
        r, z, h_n = gates.chunk(3, -1)
        n = torch.addcmul(x[..., 2 * size :], r, h_n).tanh_()
        self.to_gates = torch.empty_like(gates)
        to_r, to_z, to_h_n = self.to_gates.chunk(3, -1)
        to_n = 1 - z
        torch.sub(before, n, out=to_z).mul_(z).mul_(to_n)  # dh'/dz σ'
        to_n.addcmul_(to_n, n.square_(), value=-1)  # (1 − z) tanh'
        torch.mul(to_n, r, out=to_h_n)
        torch.mul(to_h_n, h_n, out=to_r).addcmul_(to_r, r, value=-1)
        self.to_n, self.highway, self.w_hh = to_n, z, w_hh
        self.gates = torch.empty_like(gates)
        self.crossed = torch.empty_like(before)

    def cross(self, w: Tensor) -> Tensor:
        """w J, the direct path through the update gate left out; overwritten by the next call."""
        return torch.matmul(self.at_gates(w), self.w_hh, out=self.crossed)

    def at_gates(self, w: Tensor) -> Tensor:
        """Gradient at the recurrent products, [time, batch, 3 hidden]; overwritten by the next call."""
        shape = (*w.shape[:2], 3, w.shape[2])
        torch.mul(w.unsqueeze(2), self.to_gates.view(shape), out=self.gates.view(shape))
        return self.gates

    def at_inputs(self, w: Tensor, gates: Tensor) -> Tensor:
        """Gradient at the gate inputs: that of the candidate does not pass the reset gate."""
        return torch.cat([gates[..., : 2 * w.shape[-1]], w * self.to_n], -1)


class _LstmSteps:
    """All steps of an LSTM, c' = f c + i g and h' = o tanh(c'), linearised; the state is [c, h].

    Args:
        x: gate inputs of the layer below, W_ih x + b_ih, [time, batch, 4 hidden], in torch's order i, f, g, o.
        before: output before each step, [time, batch, hidden].
        memory: c before the first step, [batch, hidden].
        w_hh, b_hh: recurrent weights and bias.

    Attributes:
        highway: the forget gate for c and zero for h, [time, batch, 2 hidden].
    """

    def __init__(self, x: Tensor, before: Tensor, memory: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> None:
        i, f, g, o = (F.linear(before, w_hh, b_hh).add_(x)).chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        written = torch.cat([memory.unsqueeze(0), i * g])
        c = cumulative_sum_product(written.flip(0), f.flip(0)).flip(0)
        squashed = c[1:].tanh()
        self.to_memory = torch.stack([g * i * (1 - i), c[:-1] * f * (1 - f), i * (1 - g * g)], 2)
        self.to_output = squashed * o * (1 - o)
        self.through_output = o * (1 - squashed * squashed)
        self.forget = f
        self.highway = torch.cat([f, torch.zeros_like(f)], -1)
        self.w_hh = w_hh

    def cross(self, w: Tensor) -> Tensor:
        """w J: what reaches c through the output, and h through the gates."""
        from_output = w.chunk(2, -1)[1] * self.through_output
        return torch.cat([from_output * self.forget, self.at_gates(w) @ self.w_hh], -1)

    def at_gates(self, w: Tensor) -> Tensor:
        """Gradient at the recurrent products, [time, batch, 4 hidden]."""
        w_c, w_h = w.chunk(2, -1)
        at_memory = torch.addcmul(w_c, w_h, self.through_output)
        return torch.cat([(at_memory.unsqueeze(2) * self.to_memory).flatten(2), w_h * self.to_output], -1)

    def at_inputs(self, w: Tensor, gates: Tensor) -> Tensor:
        """Gradient at the gate inputs: the same."""
        return gates


def _propagate(steps: Any, arriving: Tensor, iterations: int, gamma: float) -> tuple[Tensor, Tensor]:
    """w^k after each step, and before the first one.

    Args:
        steps: the linearised layer.
        arriving: the loss's own gradient at every state, [time, batch, state].
        iterations: k.
        gamma: share of the highway that counts as expensive.
    """
    highway = (1 - gamma) * steps.highway[1:] if gamma else steps.highway[1:]
    w = accumulate_(arriving.clone(), highway)
    for _ in range(min(iterations, len(arriving) - 1)):
        crossed = steps.cross(w)[1:]
        if gamma:
            crossed.addcmul_(steps.highway[1:], w[1:], value=gamma)
        w.copy_(arriving)
        w[:-1] += crossed
        accumulate_(w, highway)
    return w, steps.cross(w)[0] + steps.highway[0] * w[0]


class _Recurrence(torch.autograd.Function):
    """One layer in one direction: torch's forward pass, highway backpropagation backwards."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, c: Tensor | None, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None,
        b_hh: Tensor | None, iterations: int, gamma: float,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        weights = [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None]
        options = (weights, b_ih is not None, 1, 0.0, False, False, False)
        last: Tensor | None = None
        if c is None:
            output = torch.gru(x, h.unsqueeze(0), *options)[0]
        else:
            output, _, last = torch.lstm(x, (h.unsqueeze(0), c.unsqueeze(0)), *options)
        ctx.save_for_backward(x, h, c, w_ih, w_hh, b_ih, b_hh, output)
        ctx.iterations, ctx.gamma = iterations, gamma
        return output, None if last is None else last[0]

    @staticmethod
    def backward(ctx: Any, to_output: Tensor, to_last: Tensor | None) -> tuple[Tensor | None, ...]:
        x, h, c, w_ih, w_hh, b_ih, b_hh, output = ctx.saved_tensors
        before = torch.cat([h.unsqueeze(0), output[:-1]])
        inputs = F.linear(x, w_ih, b_ih)
        steps: Any
        if c is None:
            steps, arriving = _GruSteps(inputs, before, w_hh, b_hh), to_output
        elif to_last is not None:
            steps = _LstmSteps(inputs, before, c, w_hh, b_hh)
            to_memory = torch.cat([torch.zeros_like(to_output[1:]), to_last.unsqueeze(0)])
            arriving = torch.cat([to_memory, to_output], -1)
        w, start = _propagate(steps, arriving, ctx.iterations, ctx.gamma)
        gates = steps.at_gates(w)
        at_inputs = steps.at_inputs(w, gates)
        flat, flat_inputs = gates.flatten(0, 1), at_inputs.flatten(0, 1)
        to_c, to_h = (None, start) if c is None else start.chunk(2, -1)
        return (
            at_inputs @ w_ih if ctx.needs_input_grad[0] else None, to_h, to_c,
            flat_inputs.T @ x.flatten(0, 1), flat.T @ before.flatten(0, 1),
            None if b_ih is None else flat_inputs.sum(0), None if b_hh is None else flat.sum(0), None, None,
        )  # fmt: skip


def recur(layer: nn.GRU | nn.LSTM, iterations: int, gamma: float, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    """The forward pass of `nn.GRU` or `nn.LSTM`, differentiated over time by highway backpropagation.

    Args:
        layer: any number of layers, one or two directions.
        iterations: rounds per layer.
        gamma: share of the gates' path that counts as expensive.
        x: inputs, [time, batch, features] or as ``batch_first`` says, or without the batch.
        hx: initial state; zeros by default.

    Returns:
        What the layer returns.

    Raises:
        ValueError: a packed sequence, or a layer with projections.
    """
    if not isinstance(x, Tensor) or layer.proj_size:
        raise ValueError("HighwayBackprop needs recurrent layers on padded tensors, without projections (proj_size)")
    lstm = isinstance(layer, nn.LSTM)
    single = x.dim() == 2
    below = x.unsqueeze(1) if single else x.transpose(0, 1) if layer.batch_first else x
    directions = 2 if layer.bidirectional else 1
    if hx is None:
        zeros = below.new_zeros(layer.num_layers * directions, below.shape[1], layer.hidden_size)
        states = [zeros, zeros]
    else:
        states = [s.unsqueeze(1) if single else s for s in (hx if lstm else [hx])]
    last: list[tuple[Tensor, Tensor | None]] = []
    for depth in range(layer.num_layers):
        outputs = []
        for backwards in range(directions):
            i = depth * directions + backwards
            names = [f"{kind}_l{depth}{'_reverse' if backwards else ''}" for kind in ("weight_ih", "weight_hh")]
            names += [name.replace("weight", "bias") for name in names] if layer.bias else []
            weights = [getattr(layer, name) for name in names] + [None] * (4 - len(names))
            sequence = below.flip(0) if backwards else below
            c = states[1][i] if lstm else None
            output, memory = _Recurrence.apply(sequence, states[0][i], c, *weights, iterations, gamma)
            last.append((output[-1], memory))
            outputs.append(output.flip(0) if backwards else output)
        below = torch.cat(outputs, -1)
        if depth + 1 < layer.num_layers:
            below = F.dropout(below, layer.dropout, layer.training)
    output = below.squeeze(1) if single else below.transpose(0, 1) if layer.batch_first else below
    ends = [torch.stack(parts) for parts in zip(*last, strict=True) if parts[0] is not None]
    ends = [end.squeeze(1) if single else end for end in ends]
    return output, tuple(ends) if lstm else ends[0]
