"""Ways to tell attention where tokens stand: sinusoids, rotations, and biases that fall with distance."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

LONGEST_WAVE = 10_000.0


def sinusoidal_positions(
    places: Float[Tensor, " length"], width: int, longest: float = LONGEST_WAVE
) -> Float[Tensor, "length width"]:
    """Sines, then cosines, of places at wavelengths from 2 pi to ``2 pi longest`` (Vaswani et al., 2017).

    Args:
        places: positions; negative ones and fractions are fine.
        width: features, an even number.
        longest: how much longer the longest wave is than the shortest.

    Raises:
        ValueError: ``width`` is odd.
    """
    if width % 2:
        raise ValueError(f"width must be even, not {width}")
    angles = places[:, None] * _rates(width, longest, places)
    return torch.cat([angles.sin(), angles.cos()], -1)


def rotate_positions(
    x: Float[Tensor, "*batch length width"], places: Float[Tensor, " length"], longest: float = LONGEST_WAVE
) -> Float[Tensor, "*batch length width"]:
    """Turn neighbouring pairs of features by angles that grow with the place (RoPE; Su et al., 2021).

    Products of queries and keys turned in this way depend on the difference of their places only.

    Args:
        x: queries or keys; angles and products are in float32 at least.
        places: of the tokens.
        longest: as for `sinusoidal_positions`.

    Raises:
        ValueError: the width of ``x`` is odd.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"the width of x must be even, not {x.shape[-1]}")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # sixteen bits cannot tell place 300 from 301
    angles = places.to(wide)[:, None] * _rates(x.shape[-1], longest, wide)
    even, odd = wide[..., ::2], wide[..., 1::2]
    sin, cos = angles.sin(), angles.cos()
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2).to(x.dtype)


def alibi_bias(
    nhead: int, length: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "nhead length length"]:
    """What ALiBi (Press et al., 2022) adds to the scores of attention: minus distance times a slope per head.

    Without a causal mask both directions would look alike, so the past counts as half a step nearer (Delétang et al.,
    2022).

    Args:
        nhead: heads; their slopes are a geometric series.
        length: of the sequence.
        device: where the result lies.
        dtype: of the result.

    Returns:
        Rows are queries, columns keys.
    """
    dtype = dtype or torch.get_default_dtype()
    wide = torch.promote_types(dtype, torch.float32)
    places = torch.arange(length, device=device, dtype=wide)
    ahead = places - places[:, None]
    distance = ahead.abs() - 0.5 * (ahead < 0)
    return (-torch.tensor(alibi_slopes(nhead), device=device, dtype=wide)[:, None, None] * distance).to(dtype)


def alibi_slopes(nhead: int) -> list[float]:
    """Slopes of ALiBi: 2^(-8 k / n) for n heads, n a power of two; others take every second slope of the next power."""
    if nhead < 1:
        raise ValueError(f"nhead must be at least 1, not {nhead}")
    power = 2 ** math.floor(math.log2(nhead))
    slopes = [2 ** (-8 * (k + 1) / power) for k in range(power)]
    return slopes + (alibi_slopes(2 * power)[::2][: nhead - power] if nhead > power else [])


def _rates(width: int, longest: float, like: Tensor) -> Tensor:
    return longest ** (-torch.arange(0, width, 2, device=like.device, dtype=like.dtype) / width)
