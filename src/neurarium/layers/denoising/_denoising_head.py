"""A label denoiser from any network: features of the input, a noised label, and optionally the time, joined."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

Norm = type[nn.BatchNorm1d] | type[nn.LayerNorm] | None


def sinusoids(t: Float[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """Sines and cosines of a time in [0, 1] at ``width // 2`` frequencies from 1 to 1000 radians."""
    count = width // 2
    frequencies = torch.exp(math.log(1000.0) * torch.arange(count, device=t.device, dtype=t.dtype) / max(count - 1, 1))
    phases = t[:, None] * frequencies
    return torch.cat([phases.sin(), phases.cos()], 1)


def _layer(in_features: int, out_features: int, norm: Norm, relu: bool = True) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Linear(in_features, out_features)]
    if norm is not None:
        parts.append(norm(out_features))
    return nn.Sequential(*parts, *([nn.ReLU()] if relu else []))


class LabelDenoiser(nn.Module):
    """Scores (or an embedding) from an input x and a noised label embedding z.

    The body's features pass one normalised layer; z passes three with a skip connection; both (and the sinusoids of
    the time) are joined by two more. This is Fig. 6 of the NoProp paper with any body.

    Args:
        body: maps x to [batch, ...]; flattened.
        in_features: values per example that the body gives.
        embed_dim: d, the size of z.
        out_features: number of classes for scores, d for an embedding.
        width: size of the hidden layers.
        norm: `nn.BatchNorm1d`, `nn.LayerNorm`, or None (continuous time).
        timed: ``forward`` takes a time [batch] as well.
    """

    def __init__(
        self,
        body: nn.Module,
        in_features: int,
        embed_dim: int,
        out_features: int,
        *,
        width: int = 256,
        norm: Norm = nn.BatchNorm1d,
        timed: bool = False,
    ) -> None:
        super().__init__()
        self.body = body
        self.width = width
        self.features = _layer(in_features, width, norm, relu=False)
        self.label_in = _layer(embed_dim, width, norm)
        self.label_hidden = nn.Sequential(_layer(width, width, norm), _layer(width, width, norm))
        self.time = nn.Linear(width, width) if timed else None
        self.join = nn.Sequential(
            _layer((3 if timed else 2) * width, width, norm), _layer(width, width, norm), nn.Linear(width, out_features)
        )

    def forward(
        self, z: Float[Tensor, "batch embed"], x: Tensor, t: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch out"]:
        """Scores over the classes, or an embedding."""
        label = self.label_in(z)
        parts = [self.features(self.body(x).flatten(1)), label + self.label_hidden(label)]
        if self.time is not None:
            if t is None:
                raise ValueError("a denoiser made with timed=True needs the time t of shape [batch]")
            parts.append(self.time(sinusoids(t, self.width)))
        joined: Tensor = self.join(torch.cat(parts, 1))
        return joined
