"""An autoencoder of any two modules, and the usual ones ready made."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from neurarium.models.autoencoder import _stacks as stacks

OUTPUTS: dict[str, type[nn.Module]] = {"identity": nn.Identity, "sigmoid": nn.Sigmoid}
Shape = int | Sequence[int]


class Autoencoder(nn.Module):
    """An encoder to a code and a decoder back; its output has the input's shape.

    Any modules will do: ``Autoencoder(my_encoder, my_decoder)``. The ready ones (`kan`, `mlp`, `conv`, `kan_conv`,
    `pca`) differ in their layers alone, so that layers can be compared (Moradi et al. 2024). Train them with
    `reconstruction_loss` on `ReconstructionBatches`; one with Kolmogorov-Arnold layers also with a `GridSchedule`.

    Args:
        encoder: [batch, *shape] -> code [batch, latent].
        decoder: code -> [batch, *shape].
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch latent"]:
        """The code of each example."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch ..."]:
        """The examples that codes stand for."""
        x: Tensor = self.decoder(code)
        return x

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The reconstruction.

        Raises:
            ValueError: the decoder gives another shape than that of the input.
        """
        output = self.decode(self.encode(x))
        if output.shape != x.shape:
            raise ValueError(f"the decoder gives {list(output.shape[1:])}, but an input is {list(x.shape[1:])}")
        return output

    @classmethod
    def kan(
        cls,
        shape: Shape,
        latent: int,
        hidden: Sequence[int] = (64,),
        *,
        decoder_hidden: Sequence[int] | None = None,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        norm: bool = False,
        output: str = "identity",
    ) -> Autoencoder:
        """Kolmogorov-Arnold layers on both sides, nothing between them.

        Args:
            shape: of an example: number of features, or [channels, height, width] ...
            latent: size of the code.
            hidden: widths from the input to the code.
            decoder_hidden: widths from the code to the output; those of ``hidden`` in reverse by default.
            grid_size: number of intervals of each edge's grid.
            degree: of the splines.
            grid_range: ends of the first grids; scale the inputs into it. Pixels in [0, 1] on a grid over [-1, 1] leave
                half of the splines without use.
            norm: a `LayerNorm` before each hidden layer (its grid then reaches from -2 to 2) and a tanh behind the code
                keep all inputs on fixed grids; cheaper than a `GridSchedule`.
            output: "identity", or "sigmoid" for entries in [0, 1].

        Raises:
            ValueError: an impossible size or an unknown output.
        """
        layer = stacks.kan_layer(grid_size, degree, grid_range, norm)
        return cls._flat(shape, latent, hidden, decoder_hidden, layer, output)

    @classmethod
    def mlp(
        cls,
        shape: Shape,
        latent: int,
        hidden: Sequence[int] = (64,),
        *,
        decoder_hidden: Sequence[int] | None = None,
        output: str = "identity",
    ) -> Autoencoder:
        """Linear layers with SiLU between them; arguments as in `kan`."""
        return cls._flat(shape, latent, hidden, decoder_hidden, stacks.mlp_layer, output)

    @classmethod
    def conv(
        cls, shape: Sequence[int], latent: int, channels: Sequence[int] = (16, 32), *, output: str = "identity"
    ) -> Autoencoder:
        """Convolutions of stride 2 (kernel 3, ReLU) and a linear layer to the code; the mirror image back.

        Args:
            shape: [channels, length], or [channels, height, width]; any sizes.
            latent: size of the code.
            channels: of each convolution.
            output: "identity", or "sigmoid" for entries in [0, 1].

        Raises:
            ValueError: a shape of another kind, an impossible size or an unknown output.
        """
        _check(shape, latent, channels, output)
        return cls(*stacks.conv_pair(tuple(shape), latent, channels, OUTPUTS[output]()))

    @classmethod
    def kan_conv(
        cls,
        shape: Sequence[int],
        latent: int,
        channels: Sequence[int] = (16, 32),
        *,
        grid_size: int = 5,
        degree: int = 3,
        output: str = "identity",
    ) -> Autoencoder:
        """Kolmogorov-Arnold convolutions in the shape of `conv`; back by four channels for each that are laid out as
        pixels twice as fine.

        A `GroupNorm` after each convolution keeps its outputs on the next one's grid.

        Raises:
            ValueError: as `conv`, and a shape that is not [channels, height, width].
        """
        _check(shape, latent, channels, output)
        return cls(*stacks.kan_conv_pair(tuple(shape), latent, channels, grid_size, degree, OUTPUTS[output]()))

    @classmethod
    def pca(cls, x: Float[Tensor, "examples ..."], latent: int) -> Autoencoder:
        """The best linear one for these examples, by their principal components; it needs no training.

        Args:
            x: examples, more than ``latent``.
            latent: number of components.
        """
        shape = tuple(x.shape[1:])
        _check(shape, latent, (), "identity")
        if latent > min(len(x), math.prod(shape)):
            raise ValueError(f"latent must be at most {min(len(x), math.prod(shape))} for these examples, not {latent}")
        return cls(*stacks.pca_pair(x, latent))

    @classmethod
    def _flat(
        cls, shape: Shape, latent: int, hidden: Sequence[int], back: Sequence[int] | None, layer: stacks.Layer,
        output: str,
    ) -> Autoencoder:  # fmt: skip
        """One kind of layer between flat vectors."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        back = tuple(reversed(hidden)) if back is None else tuple(back)
        _check(shape, latent, (*hidden, *back), output)
        size = math.prod(shape)
        encoder = nn.Sequential(nn.Flatten(), *stacks.stack((size, *hidden, latent), layer, "input"))
        decoder = nn.Sequential(
            *stacks.stack((latent, *back, size), layer, "code"), OUTPUTS[output](), nn.Unflatten(1, shape)
        )  # fmt: skip
        return cls(encoder, decoder)


def _check(shape: Sequence[int], latent: int, widths: Sequence[int], output: str) -> None:
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, not {output!r}")
    if not shape or min(shape) < 1:
        raise ValueError(f"shape must be sizes of at least 1, not {list(shape)}")
    if latent < 1 or min(widths, default=1) < 1:
        raise ValueError(f"latent and widths must be at least 1, not {latent} and {list(widths)}")
    if latent >= math.prod(shape):
        warnings.warn(
            f"a code of {latent} numbers is no smaller than an input of {math.prod(shape)}: the identity would do",
            stacklevel=4,
        )
