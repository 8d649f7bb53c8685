"""A classifier head whose outputs fall into groups that see features of their own, at the price of one output layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

PATTERNS = ("fc-fc", "fc-sc", "sc-sc", "fc-sc-shared")


class StructuredHead(nn.Module):
    """Two hidden layers and an output layer, connected within verticals (Gao et al., 2017, section 3.3).

    ``"fc-fc"`` is an ordinary head. In ``"fc-sc"`` every vertical has its own second layer of s2 features and its
    outputs see those only; in ``"sc-sc"`` also its own first layer; in ``"fc-sc-shared"`` the first ``shared`` of the
    s2 features are common to all. The output layer has s2 weights per class in every case.

    Args:
        in_features: size of the backbone's features.
        verticals: classes per vertical, in output order.
        hidden: (s1, s2).
        pattern: see above.
        shared: features of the second layer that all verticals share.
        bias: add biases.
        device, dtype: of the parameters.

    Shape:
        [..., in_features] -> [..., sum(verticals)].

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        in_features: int,
        verticals: Sequence[int],
        hidden: tuple[int, int] = (4096, 512),
        pattern: str = "fc-sc",
        shared: int = 0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if pattern not in PATTERNS:
            raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, not {pattern!r}")
        if not verticals or min(verticals) < 1:
            raise ValueError(f"verticals must be the numbers of classes, each at least 1, not {list(verticals)}")
        first, second = hidden
        if not 0 <= shared <= second or (shared and pattern != "fc-sc-shared"):
            raise ValueError(f'shared must be 0, or up to {second} with pattern "fc-sc-shared", not {shared}')
        self.in_features, self.out_features = in_features, sum(verticals)
        self.verticals, self.pattern, self.shared = tuple(verticals), pattern, shared
        groups = len(verticals)
        common = {"fc-fc": second, "fc-sc-shared": shared}.get(pattern, 0)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        copies = groups if pattern == "sc-sc" else 1
        self.first = weights(copies, first, in_features)
        self.common = weights(common, first)
        self.own = weights(0 if pattern == "fc-fc" else groups, second - common, first)
        self.output = weights(self.out_features, second)
        self.biases = nn.ParameterList(
            weights(*shape)
            for shape in ([(copies, first), (common,), (len(self.own), second - common), (self.out_features,)] * bias)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform by fan-in, as `nn.Linear` has it."""
        for weight in (self.first, self.common, self.own, self.output):
            nn.init.uniform_(weight, -1 / math.sqrt(weight.shape[-1]), 1 / math.sqrt(weight.shape[-1]))
        for bias, weight in zip(self.biases, (self.first, self.common, self.own, self.output)):
            nn.init.uniform_(bias, -1 / math.sqrt(weight.shape[-1]), 1 / math.sqrt(weight.shape[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        shape, x = x.shape[:-1], x.reshape(-1, self.in_features)
        biases = list(self.biases) or [None] * 4
        first = torch.einsum("bi,msi->bms", x, self.first)
        first = (first if biases[0] is None else first + biases[0]).relu()
        common = linear(first[:, 0], self.common, biases[1]).relu() if len(self.common) else first[:, 0, :0]
        if len(self.own):
            own = torch.einsum("bms,mts->bmt", first.expand(-1, len(self.own), -1), self.own)
            own = (own if biases[2] is None else own + biases[2]).relu()
            rows = self.output.split(self.verticals)
            logits = torch.cat(
                [torch.cat([common, own[:, v]], 1) @ weight.T for v, weight in enumerate(rows)], 1
            )  # fmt: skip
        else:
            logits = common @ self.output.T
        return (logits if biases[3] is None else logits + biases[3]).view(*shape, self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features}, verticals={self.verticals}, pattern={self.pattern}, shared={self.shared}"
