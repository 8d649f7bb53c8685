"""The three networks of Wang, Yan and Oates (2017) on raw series [batch, channels, steps]."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.layers import conv_norm_act
from neurarium.models.time_series._valid_steps import Norm, apply, mean_over_steps, valid_steps


class TimeSeriesMLP(nn.Module):
    """Three hidden layers of rectifiers on the flattened series, with dropout .1, .2, .2, .3.

    Args:
        in_channels: of the series.
        length: steps of every series.
        num_classes: outputs.
        hidden: units of each layer.
    """

    def __init__(self, in_channels: int, length: int, num_classes: int, hidden: int = 500) -> None:
        super().__init__()
        self.in_channels, self.length = in_channels, length
        sizes = [in_channels * length, hidden, hidden, hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after, dropout in zip(sizes, sizes[1:], (0.1, 0.2, 0.2), strict=False):
            layers += [nn.Dropout(dropout), nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(hidden, num_classes))

    def forward(
        self, x: Float[Tensor, "batch channels steps"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits; ``lengths`` puts zeros behind the end of each series.

        Raises:
            ValueError: another number of channels or steps than the network was made for.
        """
        if tuple(x.shape[1:]) != (self.in_channels, self.length):
            raise ValueError(
                f"the network is for {self.in_channels} channels of {self.length} steps, not {list(x.shape[1:])}"
            )
        valid = valid_steps(x, lengths)
        return self.layers(x if valid is None else x * valid[:, None])


class TimeSeriesFCN(nn.Module):
    """Three convolutions over time with batch normalisation, an average over all steps, and a linear layer.

    No pooling in between and no dropout; any length, and lengths that differ within a batch.

    Args:
        in_channels: of the series.
        num_classes: outputs.
        channels: of each convolution.
        kernels: steps that each reads.
        norm: makes a normalisation for a number of channels; torch's `nn.BatchNorm1d` by default.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (128, 256, 128),
        kernels: Sequence[int] = (8, 5, 3),
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        before = (in_channels, *channels[:-1])
        self.blocks = nn.Sequential(
            *(conv_norm_act(*sizes, dims=1, norm=norm) for sizes in zip(before, channels, kernels, strict=True))
        )
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(
        self, x: Float[Tensor, "batch channels steps"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits.

        Args:
            x: series, shorter ones filled up behind their end.
            lengths: steps of each; all by default.
        """
        valid = valid_steps(x, lengths)
        if valid is not None:
            x = x * valid[:, None]
        for block in self.blocks:
            x = apply(block.children(), x, valid)
        return self.head(mean_over_steps(x, valid))


class SeriesBlock(nn.Module):
    """Three convolutions of 8, 5 and 3 steps and a shortcut past them; the rectifier stands behind the sum.

    The shortcut is a 1 x 1 convolution with batch normalisation where the width changes, batch normalisation alone
    where it does not.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        input_norm: a normalisation before the first convolution, as the authors' release has in its first block.
        norm: as in `TimeSeriesFCN`.
    """

    def __init__(self, in_channels: int, out_channels: int, input_norm: bool = False, norm: Norm | None = None) -> None:
        super().__init__()
        make = norm or nn.BatchNorm1d
        self.branch = nn.Sequential(
            *([make(in_channels)] if input_norm else []),
            *conv_norm_act(in_channels, out_channels, 8, dims=1, norm=norm),
            *conv_norm_act(out_channels, out_channels, 5, dims=1, norm=norm),
            *conv_norm_act(out_channels, out_channels, 3, dims=1, norm=norm, activation=None),
        )
        self.shortcut = (
            nn.Sequential(make(out_channels))
            if in_channels == out_channels
            else conv_norm_act(in_channels, out_channels, 1, dims=1, norm=norm, activation=None)
        )

    def forward(self, x: Float[Tensor, "batch channels steps"], valid: Tensor | None = None) -> Tensor:
        """Keeps the steps."""
        return (apply(self.branch.children(), x, valid) + apply(self.shortcut.children(), x, valid)).relu()


class TimeSeriesResNet(nn.Module):
    """Three residual blocks of three convolutions, an average over all steps, and a linear layer.

    Args:
        in_channels: of the series.
        num_classes: outputs.
        channels: of each block.
        input_norm: normalise the raw series in the first block's branch, as the authors' release does.
        norm: as in `TimeSeriesFCN`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 128),
        input_norm: bool = False,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        before = (in_channels, *channels[:-1])
        self.blocks = nn.ModuleList(
            SeriesBlock(a, b, input_norm and index == 0, norm)
            for index, (a, b) in enumerate(zip(before, channels, strict=True))
        )
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(
        self, x: Float[Tensor, "batch channels steps"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits; the arguments are those of `TimeSeriesFCN.forward`."""
        valid = valid_steps(x, lengths)
        if valid is not None:
            x = x * valid[:, None]
        for block in self.blocks:
            x = block(x, valid)
        return self.head(mean_over_steps(x, valid))
