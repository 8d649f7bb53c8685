"""Fixed filters in front of a network: contrast and edges beside the image itself (Cireşan et al., 2011)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

KINDS = ("raw", "hat", "edge")


class ImageFilters(nn.Module):
    """Each channel of an image as several maps, by filters that are never trained.

    "raw" is the channel itself. "hat" are Mexican hats, a narrow Gaussian less one twice as wide, for every size: one
    that answers to a light centre and its negative. "edge" are Scharr's filters across and down. Borders are repeated,
    and the size stays.

    Args:
        kinds: which, in order.
        sizes: sides of the hats in pixels, odd.

    Raises:
        ValueError: an unknown kind, or a side that is even or below 3.
    """

    bank: Tensor

    def __init__(self, kinds: Sequence[str] = KINDS, sizes: Sequence[int] = (5, 11)) -> None:
        super().__init__()
        if not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, not {tuple(kinds)}")
        bad = next((side for side in sizes if side < 3 or side % 2 == 0), None)
        if bad is not None and "hat" in kinds:
            raise ValueError(f"sizes must be odd and at least 3, not {bad}")
        self.kinds, self.sizes = tuple(kinds), tuple(sizes)
        filters: list[Tensor] = []
        for kind in kinds:
            if kind == "raw":
                filters.append(torch.ones(1, 1))
            elif kind == "edge":
                across = torch.tensor([[-3.0, 0, 3], [-10, 0, 10], [-3, 0, 3]]) / 32
                filters += [across, across.T]
            else:
                for side in sizes:
                    filters += [mexican_hat(side), -mexican_hat(side)]
        reach = max(len(f) for f in filters) // 2
        padded = [pad(f, (reach - len(f) // 2,) * 4) for f in filters]
        self.register_buffer("bank", torch.stack(padded).unsqueeze(1), persistent=False)

    @property
    def maps(self) -> int:
        """Maps for each channel of the image."""
        return len(self.bank)

    def forward(self, x: Float[Tensor, "batch *channels height width"]) -> Float[Tensor, "batch maps height width"]:
        """All maps of the first channel, then those of the second ...; images without a channel dimension have one."""
        if x.dim() not in (3, 4):
            raise ValueError(f"images must be [batch, (channels,) height, width], not {list(x.shape)}")
        reach = self.bank.shape[-1] // 2
        single = x.reshape(-1, 1, *x.shape[-2:])
        made = conv2d(pad(single, (reach,) * 4, mode="replicate"), self.bank.to(x.dtype))
        return made.reshape(len(x), -1, *x.shape[-2:])

    def extra_repr(self) -> str:
        """Kinds and sizes."""
        return f"kinds={self.kinds}, sizes={self.sizes}"


def mexican_hat(side: int) -> Float[Tensor, "side side"]:
    """A difference of Gaussians that sums to 0, its positive part to 1."""
    line = torch.arange(side, dtype=torch.float64) - side // 2
    squared = line.square()[:, None] + line.square()
    narrow, wide = (torch.exp(-squared / (2 * deviation**2)) for deviation in (side / 8, side / 4))
    hat = narrow / narrow.sum() - wide / wide.sum()
    return (hat / hat.clamp_min(0).sum()).float()
