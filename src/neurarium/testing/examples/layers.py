"""How the components of `neurarium.layers` are used."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurarium import layers
from neurarium.testing.examples._shared import bits, pixels
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "basis_linear": lambda w: based(w),
    "alphas": lambda w: layers.alphas(w.new(lambda: layers.ReZero(nn.Linear(8, 8)))),
    "bitwise": lambda w: bits(w).model(w.x(5, 8)),
    "bit_layers": lambda w: [x for _, _, x in layers.bit_layers(bits(w).model)],
    "check_weight_decay": lambda w: layers.check_weight_decay(m := bits(w).model, torch.optim.Adam(m.parameters())),
    "to_dense": lambda w: layers.to_dense(bits(w).model)(w.x(5, 8)),
    "to_integers": lambda w: layers.to_integers(bits(w).model),
    "cumulative_sum_product": lambda w: layers.cumulative_sum_product(w.x(6, 3, 2, 2)),
    "few_bit_activation": lambda w: layers.few_bit_activation(
        w.x(20), nn.functional.gelu, w.x(3).sort().values, w.x(4)
    ),
    "linear_maps": lambda w: [m.weight for m in layers.linear_maps(pixels(w)).values()],
    "normalized_adjacency": lambda w: layers.normalized_adjacency(w.whole([0, 1, 2], [1, 2, 0]), 3),
    "pack_bits": lambda w: layers.pack_bits(w.whole(1, 0, 1, 1, 0).to(torch.uint8), 1),
    "unpack_bits": lambda w: layers.unpack_bits(layers.pack_bits(w.whole(1, 0, 3, 1).to(torch.uint8), 2), 2, 4),
    "parameter_groups": lambda w: layers.parameter_groups(w.new(lambda: layers.ReZero(nn.Linear(8, 8))), 0.1),
    "retanh": lambda w: layers.retanh(w.x(5)),
    "rezero_": lambda w: layers.rezero_(
        w.new(lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)))
    ).model(w.x(2, 3, 8)),
    "selective_scan": lambda w: layers.selective_scan(
        w.x(2, 5, 3), w.positive(2, 5, 3), -w.positive(3, 4), w.x(2, 5, 4), w.x(2, 5, 4), w.x(3)
    ),
    "soft_topk": lambda w: layers.soft_topk(w.x(4, 7), 3, eps=0.05),
    "sparsify": lambda w: layers.sparsify(pixels(w), 1.0).model(w.x(5, 8)),
    "swap": lambda w: layers.swap(pixels(w), nn.ReLU, lambda name, module: nn.Tanh()).model(w.x(5, 8)),
    "to_piecewise_affine": lambda w: layers.to_piecewise_affine(pixels(w)).model(w.x(5, 8)),
}  # fmt: skip


def based(w: World) -> Tensor:
    """One KAN product."""
    basis = w.new(lambda: layers.BSplineBasis(8))
    return layers.basis_linear(w.x(5, 8), basis, w.x(3, 8, basis(w.x(1, 8)).shape[-1]))
