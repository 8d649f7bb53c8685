"""One network for any task on images that a few solved examples explain.

Czolbe and Dalca, Neuralizer: General Neuroimage Analysis without Re-Training, 2023.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.layers import ConvResidualUnit, PairwiseConvAvg
from neurarium.training import evaluation

POOLS: dict[int, Any] = {2: (nn.Conv2d, F.max_pool2d, "bilinear"), 3: (nn.Conv3d, F.max_pool3d, "trilinear")}


class ContextUNet(nn.Module):
    """A U-Net of `PairwiseConvAvg` blocks: a target image goes through it beside a set of (input, output) examples.

    Nothing is trained for a new task: it is explained by its examples, as many as there are, in any order. With
    ``context=False`` it is the same network without examples, to be trained for one task, as the paper's baselines are.

    Args:
        in_channels: of an input image.
        out_channels: of an output image.
        channels: of both streams at every stage.
        stages: of the encoder; each but the last halves the image.
        convs_per_unit: convolutions of each residual unit.
        dim: 2 for images, 3 for volumes.
        context: whether there are examples.

    Raises:
        ValueError: no stage, or another ``dim``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 64,
        stages: int = 4,
        convs_per_unit: int = 2,
        dim: int = 2,
        context: bool = True,
    ) -> None:
        super().__init__()
        if stages < 1:
            raise ValueError(f"stages must be at least 1, not {stages}")
        if dim not in POOLS:
            raise ValueError(f"dim must be 2 or 3, not {dim}")
        self.dim, self.stages = dim, stages
        conv = POOLS[dim][0]

        def block() -> nn.Module:
            kind = PairwiseConvAvg if context else ConvResidualUnit
            return kind(channels, convs_per_unit, dim)

        self.embed_target = conv(in_channels, channels, 1)
        self.embed_context = conv(in_channels + out_channels, channels, 1) if context else None
        self.encoder = nn.ModuleList(block() for _ in range(stages))
        self.decoder = nn.ModuleList(block() for _ in range(stages - 1))
        self.join_target = nn.ModuleList(conv(2 * channels, channels, 1) for _ in range(stages - 1))
        self.join_context = nn.ModuleList(conv(2 * channels, channels, 1) for _ in range(stages - 1 if context else 0))
        self.head = nn.Sequential(ConvResidualUnit(channels, convs_per_unit, dim), conv(channels, out_channels, 1))

    def forward(
        self,
        target: Float[Tensor, "batch in_channels *space"],
        context_in: Float[Tensor, "batch inputs in_channels *input_space"] | None = None,
        context_out: Float[Tensor, "batch outputs out_channels *output_space"] | None = None,
        chunk: int | None = None,
    ) -> Float[Tensor, "batch out_channels *space"]:
        """The output for the target, before any activation.

        Sizes that cannot be halved at every stage are padded at their ends, and cut again.

        Args:
            target: the image to be solved.
            context_in: inputs of the examples.
            context_out: their outputs.
            chunk: examples taken through a unit at a time, all by default: less memory.

        Raises:
            ValueError: no example; examples of another size or number; examples for a network without.
        """
        examples = self._examples(target, context_in, context_out)
        size = target.shape[2:]
        u = None if examples is None else self._each(self.embed_context, self._padded(examples))
        v = self.embed_target(self._padded(target))
        kept: list[tuple[Tensor | None, Tensor]] = []
        for n, block in enumerate(self.encoder):
            if n:
                u, v = self._each(POOLS[self.dim][1], u, 2), POOLS[self.dim][1](v, 2)
            u, v = self._block(block, u, v, chunk)
            kept.append((u, v))
        kept.pop()
        for n, block in enumerate(self.decoder):
            before_u, before_v = kept.pop()
            v = self.join_target[n](torch.cat((before_v, self._larger(v)), 1))
            if u is not None and before_u is not None:
                u = self._each(self.join_context[n], torch.cat((before_u, self._each(self._larger, u)), 2))
            u, v = self._block(block, u, v, chunk)
        return self.head(v)[(..., *(slice(0, n) for n in size))]

    @torch.no_grad()
    def predict(
        self,
        x: Float[Tensor, "batch in_channels *space"],
        examples: tuple[Tensor, Tensor],
        *,
        mask: bool = False,
        chunk: int | None = None,
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Solve new images by one set of examples.

        Args:
            x: images with values in [0, 1].
            examples: inputs [examples, in_channels, ...] and outputs [examples, out_channels, ...], in [0, 1].
            mask: outputs are masks: probabilities are given. Otherwise values in [0, 1].
            chunk: as for `forward`.

        Raises:
            ValueError: values outside [0, 1]; what `forward` says.
        """
        for name, values in (("x", x), ("examples", examples[0]), ("examples", examples[1])):
            if values.numel() and (float(values.min()) < 0 or float(values.max()) > 1):
                raise ValueError(f"{name} must have values in [0, 1], not from {values.min():g} to {values.max():g}")
        inputs, outputs = (part.to(x).expand(len(x), *part.shape) for part in examples)
        with evaluation(self):
            out: Tensor = self(x, inputs, outputs, chunk)
        return out.sigmoid() if mask else out.clamp(0, 1)

    def _examples(self, target: Tensor, inputs: Tensor | None, outputs: Tensor | None) -> Tensor | None:
        """Inputs and outputs of the examples, joined."""
        if self.embed_context is None:
            if inputs is not None or outputs is not None:
                raise ValueError("this network was made without context: give it the target alone")
            return None
        if inputs is None or outputs is None or inputs.shape[1] == 0:
            raise ValueError("context_in and context_out must hold an example at least")
        if inputs.shape[:2] != outputs.shape[:2]:
            raise ValueError(
                f"there are {tuple(inputs.shape[:2])} inputs of examples but {tuple(outputs.shape[:2])} outputs"
            )
        if inputs.shape[3:] != target.shape[2:] or outputs.shape[3:] != target.shape[2:]:
            raise ValueError(f"the examples must have the target's size {tuple(target.shape[2:])}")
        return torch.cat((inputs, outputs), 2)

    def _block(self, block: nn.Module, u: Tensor | None, v: Tensor, chunk: int | None) -> tuple[Tensor | None, Tensor]:
        if u is None:
            return None, F.gelu(block(v))
        found: tuple[Tensor, Tensor] = block(u, v, chunk)
        return found

    def _padded(self, x: Tensor) -> Tensor:
        """Zeros at the ends until each side can be halved at every stage."""
        step = 2 ** (self.stages - 1)
        missing = [-n % step for n in reversed(x.shape[x.dim() - self.dim :])]
        return F.pad(x, [m for n in missing for m in (0, n)]) if any(missing) else x

    def _larger(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode=POOLS[self.dim][2], align_corners=False)

    @staticmethod
    def _each(function: Any, u: Tensor | None, *rest: Any) -> Any:
        """A function of images on every example."""
        return None if u is None else function(u.flatten(0, 1), *rest).unflatten(0, u.shape[:2])
