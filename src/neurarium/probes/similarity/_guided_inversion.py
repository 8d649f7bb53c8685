"""Find the latent of a generator that gives an image, guided by what other networks see in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neurarium.objectives import map_alignment_loss
from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._maps import Maps, at_size
from neurarium.training import evaluation


@dataclass(frozen=True)
class Inversion(ProbeResult):
    """What was found.

    Args:
        latents: the latents, one row per image.
        images: what the generator makes of them.
        alignment: mean correlation of the generator's maps with the targets, at each step (NaN without targets).
        reconstruction: reconstruction error at each step (NaN without one).
    """

    latents: Tensor
    images: Tensor
    alignment: Float[Tensor, " steps"]
    reconstruction: Float[Tensor, " steps"]

    def summary(self) -> str:
        """The first and the last step."""
        ends = [float(part[at]) for part in (self.alignment, self.reconstruction) for at in (0, -1)]
        return (
            f"{len(self.latents)} images, {len(self.alignment)} steps: map correlation {ends[0]:.2f} to {ends[1]:.2f}, "
            f"reconstruction error {ends[2]:.4f} to {ends[3]:.4f}"
        )

    def plot(self, ax: Any) -> Any:
        """The first images side by side."""
        images = self.images[:8].detach().cpu().double()
        grey = images.flatten(1, -3).mean(1) if images.dim() > 3 else images
        ax.imshow(torch.cat(list(grey), 1), cmap="gray")
        ax.set_axis_off()
        return ax


def guided_inversion(
    generator: nn.Module,
    latents: Tensor,
    layers: Sequence[str] = (),
    units: Sequence[int] = (),
    targets: Float[Tensor, "batch pairs height width"] | None = None,
    *,
    valid: Bool[Tensor, "batch pairs height width"] | None = None,
    images: Tensor | None = None,
    reconstruction: Callable[[Tensor, Tensor], Tensor] | None = None,
    weight: float = 0.1,
    prior: float = 0.0,
    steps: int = 100,
    lr: float = 0.05,
) -> Inversion:
    """Latents by Adam that reproduce images, or whose maps follow targets, or both (Dravid et al., 2023, section 5).

    Minimises reconstruction + weight x `map_alignment_loss` + prior x |z|² / size. The weights of the generator and
    their gradients are left as they were.

    Args:
        generator: any differentiable map from latents to images.
        latents: where to begin, one row per image (0 or a draw from the prior).
        layers: the generator's layers in which ``units`` are counted, one after the other.
        units: units of the generator that should follow the targets.
        targets: for each image and unit, the map to follow: that of the matched unit of another network, or an edited
            one (`neurarium.objectives.shift_maps` ...).
        valid: which positions of the targets count.
        images: what to reproduce; None for maps alone.
        reconstruction: error of images against ``images``; the mean squared one by default.
        weight: of the maps.
        prior: of the squared latents, which keeps them where the generator was trained.
        steps: of Adam.
        lr: its rate.

    Raises:
        ValueError: neither images nor targets, or targets that do not fit the units.
    """
    if images is None and targets is None:
        raise ValueError("give images to reproduce, targets for maps, or both")
    if targets is not None and targets.shape[:2] != (len(latents), len(units)):
        raise ValueError(f"targets must be [{len(latents)}, {len(units)}, height, width], not {tuple(targets.shape)}")
    error = reconstruction or mse_loss
    z = latents.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=lr)
    reader = None if targets is None else Maps(generator, layers, whole=True)
    aligned, restored = [], []
    with evaluation(generator), torch.enable_grad():
        for _ in range(steps):
            made, maps = _made(generator, reader, z, units)
            loss = prior * z.square().mean()
            gap = torch.full((), torch.nan)
            alignment = torch.full((), torch.nan)
            if images is not None:
                gap = error(made, images)
                loss = loss + gap
            if targets is not None and maps is not None:
                alignment = -map_alignment_loss(maps, targets, valid)
                loss = loss - weight * alignment
            (z.grad,) = torch.autograd.grad(loss, [z])
            optimizer.step()
            aligned.append(alignment.detach().cpu())
            restored.append(gap.detach().cpu())
        with torch.no_grad():
            final = generator(z)
    return Inversion(z.detach(), final, torch.stack(aligned).double(), torch.stack(restored).double())


def _made(generator: nn.Module, reader: Maps | None, z: Tensor, units: Sequence[int]) -> tuple[Any, Tensor | None]:
    """The images, and the units' maps at their largest size."""
    if reader is None:
        return generator(z), None
    maps = [channel for value in reader.read(z).values() for channel in value.unbind(1)]
    chosen = [maps[unit] for unit in units]
    size = max(part.shape[1:] for part in chosen)
    joined = torch.cat([at_size(part[:, None], (size[0], size[1])) for part in chosen], 1)
    return reader.units.output, joined
