"""Pixels of a scene of coloured, absorbing matter along the rays of cameras."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers.forward_maps._forward_map import ForwardMap


class VolumeRendering(ForwardMap):
    """Colours that rays see: the parameters are rays [*batch, rays, 6], origin and direction.

    A ray between ``near`` and ``far`` is cut into bins of equal length d; with colour c_k and density s_k at the middle
    of bin k it sees sum_k T_k (1 - exp(-s_k d)) c_k, T_k = exp(-sum of s_j d before k), and the background through
    what is left. The field gives channels of colour and, last, a density, which must not be negative.

    Args:
        near: distance at which rays begin.
        far: distance at which they end.
        samples: bins of a ray.
        background: colour behind everything; 1 is white.

    Raises:
        ValueError: ``near < far`` does not hold, or there are no samples.
    """

    def __init__(self, near: float = 2.0, far: float = 6.0, samples: int = 128, background: float = 1.0) -> None:
        super().__init__()
        if not near < far:
            raise ValueError(f"near must lie before far, not {near} and {far}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        self.near, self.far, self.samples, self.background = near, far, samples, background

    def points(self, parameters: Float[Tensor, "*batch rays numbers"]) -> Float[Tensor, "*batch points 3"]:
        """Middles of the bins, ray by ray.

        Raises:
            ValueError: rays do not have six numbers.
        """
        if parameters.shape[-1] != 6:
            raise ValueError(f"a ray is an origin and a direction, six numbers, not {parameters.shape[-1]}")
        origin, direction = parameters.unsqueeze(-2).split(3, -1)
        bins = torch.arange(self.samples, device=parameters.device, dtype=parameters.dtype)
        distance = self.near + (self.far - self.near) * (bins + 0.5) / self.samples
        return (origin + distance[:, None] * direction).flatten(-3, -2)

    def forward(
        self, values: Float[Tensor, "*batch points channels"], parameters: Float[Tensor, "*batch rays 6"]
    ) -> Float[Tensor, "*batch rays colours"]:
        """Colours of the rays."""
        values = values.unflatten(-2, (-1, self.samples))
        colour, density = values[..., :-1], values[..., -1:]
        length = (self.far - self.near) / self.samples * parameters[..., 3:].norm(dim=-1)[..., None, None]
        depth = density * length
        before = depth.cumsum(-2) - depth
        weight = torch.exp(-before) * -torch.expm1(-depth)
        left = torch.exp(-depth.sum(-2))
        return (weight * colour).sum(-2) + left * self.background

    def extra_repr(self) -> str:
        return f"near={self.near:g}, far={self.far:g}, samples={self.samples}, background={self.background:g}"


def camera_rays(
    pose: Float[Tensor, "*batch 3 4"], focal: float, height: int, width: int
) -> Float[Tensor, "*batch rays 6"]:
    """The ray of each pixel of a pinhole camera that looks along its own -z axis, row by row.

    Args:
        pose: camera to world: rotation and position.
        focal: focal length in pixels.
        height: rows of the image.
        width: its columns.
    """
    rows, columns = (torch.arange(n, device=pose.device, dtype=pose.dtype) + 0.5 for n in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    local = torch.stack(((x - width / 2) / focal, (height / 2 - y) / focal, -torch.ones_like(x)), -1).view(-1, 3)
    direction = local @ pose[..., :3].mT
    return torch.cat((pose[..., None, :, 3].expand_as(direction), direction), -1)
