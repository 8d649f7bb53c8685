"""The complexity of the functions that an architecture computes when its weights are drawn at random."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from neurarium.probes._result import ProbeResult
from neurarium.probes.complexity._function_complexity import one_output
from neurarium.probes.complexity._measures import Window, compressed, mean_degree, mean_frequency
from neurarium.probes.grids._function_grid import Bounds, box_of, grid_points
from neurarium.training import copy_module, prediction

Distribution = Literal["uniform", "normal", "xavier"]
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class ComplexitySweep(ProbeResult):
    """Measures of random networks, [architectures, scales, samples]; NaN where a network is constant or overflows.

    Args:
        names: of the architectures.
        scales: of the weights.
        frequency: mean Fourier frequencies.
        degree: mean degrees of polynomials.
        lempel_ziv: compressibilities.
        overflowed: how many samples gave values that are not finite, [architectures, scales].
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]
    frequency: Float[Tensor, "architectures scales samples"]
    degree: Float[Tensor, "architectures scales samples"]
    lempel_ziv: Float[Tensor, "architectures scales samples"]
    overflowed: Float[Tensor, "architectures scales"]

    def summary(self) -> str:
        """Mean frequencies, and how far they go."""
        mean = self.frequency.nanmean(2)
        lines = [f"{self.frequency.shape[2]} samples of weights for each of {len(self.scales)} scales, "
                 f"{self.scales[0]:g} to {self.scales[-1]:g}"]  # fmt: skip
        for name, row, lost in zip(self.names, mean, self.overflowed.sum(1).tolist()):
            known = row[~row.isnan()]
            span = f"{float(known.min()):.3f} to {float(known.max()):.3f}" if len(known) else "never measured"
            over = f"; {int(lost)} samples overflowed: normalise layers or lower the scale" if lost else ""
            lines.append(f"{name}: mean frequency {span}{over}")
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """Mean frequency against scale; with several architectures, as a map."""
        mean = self.frequency.nanmean(2)
        if len(self.names) == 1:
            deviation = (self.frequency - mean[:, :, None]).square().nanmean(2).sqrt()
            ax.fill_between(self.scales, (mean - deviation)[0], (mean + deviation)[0], alpha=0.2)
            ax.plot(self.scales, mean[0], marker="o")
            ax.axhline(0.55, color="grey", linestyle=":", linewidth=0.8)
            ax.set(xscale="log", xlabel="scale of the weights", ylabel="mean frequency")
            return ax
        shown = ax.imshow(mean, vmin=0.1, vmax=0.55, cmap="magma", aspect="auto")
        ax.figure.colorbar(shown, ax=ax, label="mean frequency")
        ax.set_xticks(range(len(self.scales)), [f"{scale:g}" for scale in self.scales])
        ax.set_yticks(range(len(self.names)), self.names)
        ax.set_xlabel("scale of the weights")
        return ax


def random_weight_complexity(
    model: nn.Module | Mapping[str, nn.Module], bounds: Bounds, scales: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
    *, samples: int = 20, distribution: Distribution = "uniform", resolution: int = 64, output: int | None = None,
    norm_scale: float | None = None, window: Window | None = None, generator: torch.Generator | None = None,
) -> ComplexitySweep:  # fmt: skip
    """Draw an architecture's weights again and again, and measure the functions that come out (Teney et al., 2024).

    What an architecture computes before any training tells what it learns easily. Every weight and bias but those of
    normalisation layers is drawn anew, in copies; the model is left as it was. The samples of a scale go through the
    network together.

    Args:
        model: takes a batch of vectors of two numbers; or several, by name.
        bounds: (low, high) for both inputs, or a pair for each.
        scales: a: uniform on [-a, a], normal of deviation a, or a times Xavier's uniform range.
        samples: networks for each scale.
        distribution: of weights and biases.
        resolution: points along each side of the grid.
        output: which output, of a network of several.
        norm_scale: what the gains of normalisation layers are set to; as they are, by default.
        window: as in `function_complexity`.
        generator: of the weights, on the CPU.

    Raises:
        ValueError: a resolution below 8, no scale or sample, or a model without weights to draw.
    """
    if resolution < 8 or samples < 1 or not scales or min(scales) <= 0:
        raise ValueError("resolution must be at least 8, samples at least 1, and scales positive")
    models = {"network": model} if isinstance(model, nn.Module) else dict(model)
    points = grid_points(box_of(bounds, 2), resolution)
    shape = (len(models), len(scales), samples)
    frequency, degree, ziv = (torch.full(shape, math.nan, dtype=torch.float64) for _ in range(3))
    overflowed = torch.zeros(shape[:2], dtype=torch.float64)
    for i, network in enumerate(models.values()):
        for j, scale in enumerate(scales):
            outputs = _outputs(network, points, scale, samples, distribution, norm_scale, generator)
            for k, found in enumerate(outputs):
                values = one_output(found, output).reshape(resolution, resolution)
                if not bool(values.isfinite().all()):
                    overflowed[i, j] += 1
                    continue
                frequency[i, j, k] = mean_frequency(values, window)
                degree[i, j, k] = mean_degree(values)
                ziv[i, j, k] = compressed(values)
    return ComplexitySweep(tuple(models), tuple(scales), frequency, degree, ziv, overflowed)


def redrawn(
    model: nn.Module, scale: float, samples: int, distribution: Distribution, norm_scale: float | None,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:  # fmt: skip
    """New weights for a model by name, [samples, *shape] each; norms keep theirs, or get ``norm_scale``.

    Raises:
        ValueError: there is no weight to draw.
    """
    found = {}
    drawn = 0
    for owner_name, owner in model.named_modules():
        for name, weight in owner.named_parameters(owner_name, recurse=False):
            shape = (samples, *weight.shape)
            if isinstance(owner, NORMS):
                gain = norm_scale is not None and name.endswith("weight")
                found[name] = torch.full_like(weight, norm_scale or 0.0) if gain else weight.detach()
                found[name] = found[name].expand(shape)
                continue
            if distribution == "normal":
                new = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
            else:
                fans = weight.shape[0] + weight[0].numel() if weight.dim() > 1 else 6
                reach = scale * (math.sqrt(6 / fans) if distribution == "xavier" else 1.0)
                new = reach * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
            found[name] = new.to(weight.device, weight.dtype)
            drawn += 1
    if not drawn:
        raise ValueError("the model has no weight to draw")
    return found


@torch.no_grad()
def _outputs(
    model: nn.Module, points: Tensor, scale: float, samples: int, distribution: Distribution, norm_scale: float | None,
    generator: torch.Generator | None,
) -> Float[Tensor, "samples points outputs"]:  # fmt: skip
    copy = copy_module(model).eval()
    weights = redrawn(copy, scale, samples, distribution, norm_scale, generator)
    place = next(copy.parameters())
    x = points.to(place.device, place.dtype)

    def one(parameters: dict[str, Tensor]) -> Tensor:
        return prediction(functional_call(copy, parameters, (x,))).reshape(len(x), -1)

    return torch.vmap(one)(weights).cpu().double()
