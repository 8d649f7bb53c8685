"""One transformer layer that reads "a b =" and answers with the product."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils import skip_init


class GroupTransformer(nn.Module):
    """Attention and a two-layer network on the tokens a, b and "=", both with skips, without norms (arXiv 2302.03025).

    Only what stands at "=" is computed behind the attention.

    Args:
        order: number of elements.
        d_model: width of the tokens.
        nhead: attention heads; divides ``d_model``.
        dim_feedforward: width of the two-layer network.
        generator: of the initial weights, normal of deviation 1/√(width that they sum over); torch's global one by
            default.

    Raises:
        ValueError: a size below 1, or ``nhead`` does not divide ``d_model``.
    """

    def __init__(
        self,
        order: int,
        d_model: int = 128,
        nhead: int = 4,
        dim_feedforward: int = 512,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(order, d_model, nhead, dim_feedforward) < 1 or d_model % nhead:
            raise ValueError(
                f"sizes must be at least 1 and nhead must divide d_model, not order {order}, d_model {d_model}, "
                f"nhead {nhead} and dim_feedforward {dim_feedforward}"
            )
        self.tokens = skip_init(nn.Embedding, order + 1, d_model)
        self.positions = nn.Parameter(torch.empty(3, d_model))
        self.attention = skip_init(nn.MultiheadAttention, d_model, nhead, bias=False, batch_first=True)
        self.hidden = skip_init(nn.Linear, d_model, dim_feedforward)
        self.output = skip_init(nn.Linear, dim_feedforward, d_model)
        self.unembed = skip_init(nn.Linear, d_model, order, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                fan = d_model if name != "output.weight" else dim_feedforward
                nn.init.normal_(parameter, std=fan**-0.5, generator=generator)

    def forward(self, pairs: Int[Tensor, "batch 2"]) -> Float[Tensor, "batch order"]:
        """Logits of the result."""
        equals = pairs.new_full((len(pairs), 1), self.tokens.num_embeddings - 1)
        x = self.tokens(torch.cat([pairs, equals], 1)) + self.positions
        last = x[:, 2:]
        last = last + self.attention(last, x, x, need_weights=False)[0]
        last = last[:, 0]
        last = last + self.output(relu(self.hidden(last)))
        return self.unembed(last)

    @torch.no_grad()
    def element_tables(self) -> dict[str, Float[Tensor, "order width"]]:
        """Each element's embedding and its row of the read-out."""
        return {"embed": self.tokens.weight[:-1], "unembed": self.unembed.weight}
