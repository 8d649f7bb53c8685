"""The rival of piecewise affine products: adder layers, whose products are negative distances (AdderNet)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

ROWS = 64  # inputs whose gradient is computed at a time


class _Adder(torch.autograd.Function):
    """``-sum_k |x_k - w_jk|``, with AdderNet's gradients: not clipped for weights, clipped to [-1, 1] for inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return -torch.cdist(x, weight, p=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        by_weight = grad.T @ x - grad.sum(0).unsqueeze(1) * weight
        by_x = [
            torch.einsum("no,noi->ni", g, (weight - part.unsqueeze(1)).clamp_(-1, 1))
            for g, part in zip(grad.split(ROWS), x.split(ROWS))
        ]
        return torch.cat(by_x), by_weight


def adder_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """An adder layer, normed (its outputs are all negative and large), with a bias."""
    y = _Adder.apply(x.reshape(-1, x.shape[-1]), weight).unflatten(0, x.shape[:-1])
    y = layer_norm(y, y.shape[-1:])
    return y if bias is None else y + bias


class AdderLinear(nn.Linear):
    """`nn.Linear` with distances for products; weights start as standard normal numbers."""

    def reset_parameters(self) -> None:
        """AdderNet's initialisation."""
        super().reset_parameters()
        nn.init.normal_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """The adder layer."""
        return adder_linear(input, self.weight, self.bias)


class AdderAttention(nn.Module):
    """Self-attention whose projections are adder layers. Takes the place of `nn.MultiheadAttention`."""

    def __init__(self, d_model: int, nhead: int) -> None:
        super().__init__()
        self.inward = AdderLinear(d_model, 3 * d_model)
        self.outward = AdderLinear(d_model, d_model)
        self.nhead = nhead
        self.batch_first, self.in_proj_bias = True, None  # torch's layer asks for them

    def forward(self, x: Tensor, *_: Tensor, **__: Any) -> tuple[Tensor, None]:
        """Self-attention without a mask."""
        query, key, value = (
            part.unflatten(-1, (self.nhead, -1)).transpose(1, 2) for part in self.inward(x).chunk(3, -1)
        )
        return self.outward(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)), None


def adder_(model: nn.Module) -> nn.Module:
    """Put adder layers into torch's transformer layers, in place."""
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            device = layer.linear1.weight.device
            layer.self_attn = AdderAttention(layer.self_attn.embed_dim, layer.self_attn.num_heads).to(device)  # type: ignore[assignment]
            layer.linear1 = AdderLinear(layer.linear1.in_features, layer.linear1.out_features, device=device)
            layer.linear2 = AdderLinear(layer.linear2.in_features, layer.linear2.out_features, device=device)
            layer.activation_relu_or_gelu = 0  # no fast path around them
    return model
