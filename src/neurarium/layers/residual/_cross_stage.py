"""A stage of a network on a part of its channels; the rest goes straight to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers.convolution._conv_norm_act import conv_norm_act
from neurarium.training import evaluation

Activation = Callable[[], nn.Module]


def leaky() -> nn.Module:
    """The activation of the published networks."""
    return nn.LeakyReLU(0.1, inplace=True)


class CrossStagePartial(nn.Module):
    """A cross-stage partial stage (Wang et al., 2019, section 3.1).

    The channels x_0 are split in two. x_0'' goes through the blocks; x_0' goes around them; transitions (1 x 1
    convolution, batch normalisation, activation) join both:

    - ``"both"``: x_U = w_U * [x_0', w_T * blocks(x_0'')], the CSP of the paper: gradients of the two parts never mix.
    - ``"first"``: w_U * [x_0', blocks(x_0'')], one transition over the concatenation.
    - ``"last"``: [x_0', w_T * blocks(x_0'')], none behind it.

    Args:
        make_block: ``make_block(channels)`` gives the stage's blocks as one module that keeps height and width. It is
            called once, with the number of channels of x_0''.
        in_channels: of the input.
        out_channels: of the output; ``in_channels`` by default.
        bypass: share of the channels that goes around.
        fusion: where the transitions stand.
        expansion: a 1 x 1 convolution to so many times ``in_channels`` before the split; None splits the input itself.
        dims: 1 for series, 2 for images.
        activation: makes the transitions' activation; a leaky ReLU of slope .1 by default.

    Raises:
        ValueError: a part without channels, an ``out_channels`` that the "last" fusion cannot give, or blocks that
            change height or width (in the forward pass).
    """

    def __init__(
        self,
        make_block: Callable[[int], nn.Module],
        in_channels: int,
        out_channels: int | None = None,
        bypass: float = 0.5,
        fusion: Literal["both", "first", "last"] = "both",
        expansion: float | None = None,
        *,
        dims: int = 2,
        activation: Activation = leaky,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        width = in_channels if expansion is None else round(expansion * in_channels)
        around = round(bypass * width)
        if not 0 < around < width:
            raise ValueError(f"bypass {bypass} of {width} channels leaves a part without any")
        if fusion not in ("both", "first", "last"):
            raise ValueError(f"fusion must be 'both', 'first' or 'last', not {fusion!r}")
        if fusion == "last" and out_channels <= around:
            raise ValueError(f"fusion 'last' needs out_channels above the {around} that go around, not {out_channels}")

        def transition(before: int, after: int) -> nn.Module:
            return conv_norm_act(before, after, dims=dims, activation=activation)

        self.split_sizes = (around, width - around)
        self.expand: nn.Module = nn.Identity() if expansion is None else transition(in_channels, width)
        self.blocks = make_block(width - around)
        made = _channels(self.blocks, width - around, dims)
        inside = {"both": width - around, "first": made, "last": out_channels - around}[fusion]
        self.inner: nn.Module = nn.Identity() if fusion == "first" else transition(made, inside)
        self.outer: nn.Module = nn.Identity() if fusion == "last" else transition(around + inside, out_channels)

    def forward(self, x: Float[Tensor, "batch channels *positions"]) -> Float[Tensor, "batch out *positions"]:
        """The joined parts."""
        around, through = self.expand(x).split(self.split_sizes, 1)
        made = self.blocks(through)
        if made.shape[2:] != through.shape[2:]:
            raise ValueError(
                f"the blocks map {list(through.shape)} to {list(made.shape)}; they must keep height and width: "
                "put strides before the stage"
            )
        return self.outer(torch.cat([around, self.inner(made)], 1))


@torch.no_grad()
def _channels(blocks: nn.Module, width: int, dims: int) -> int:
    """How many channels the blocks give, found by a dry run."""
    like = next((p for p in blocks.parameters() if p.is_floating_point()), torch.zeros(()))
    with evaluation(blocks):
        return int(blocks(like.new_zeros((1, width) + (16,) * dims)).shape[1])
