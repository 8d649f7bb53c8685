"""The complexity of the function that a network computes on a plane of its inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.complexity._measures import Window, compressed, mean_degree, mean_frequency, walsh_degree
from neurarium.probes.grids._function_grid import Bounds, box_of, evaluate, grid_points

NOISE = 0.55
"""Mean frequency of white noise."""


@dataclass(frozen=True)
class Complexity(ProbeResult):
    """Means over the planes that were measured; all between 0 and about 1.

    Args:
        frequency: mean Fourier frequency, of the largest there is; white noise has 0.55, an inclined plane about 0.2
            (the jump at its edges).
        degree: mean degree of its Chebyshev polynomial, of the largest there is (of its Walsh coefficients, for bits).
        lempel_ziv: phrases of the function cut at its median, over those of coin flips.
        values: the grids, [planes, resolution, resolution].
        constant: planes on which it does not vary; these have no frequency and no degree, and are left out of both.
    """

    frequency: float
    degree: float
    lempel_ziv: float
    values: Float[Tensor, "planes rows columns"]
    constant: int

    def summary(self) -> str:
        """The three numbers."""
        flat = f"; constant on {self.constant} of {len(self.values)} planes" if self.constant else ""
        return (
            f"mean frequency {self.frequency:.3f} (white noise {NOISE}), mean degree {self.degree:.3f}, "
            f"Lempel-Ziv {self.lempel_ziv:.3f} of coin flips, over {len(self.values)} plane(s){flat}"
        )

    def plot(self, ax: Any) -> Any:
        """The function on the first plane."""
        ax.imshow(self.values[0].T, origin="lower", cmap="viridis")
        ax.set(xticks=[], yticks=[], title=f"frequency {self.frequency:.2f}")
        return ax


def grid_complexity(values: Float[Tensor, "planes rows columns"], window: Window | None = None) -> Complexity:
    """The complexity of functions that are given on square grids.

    Args:
        values: [planes, resolution, resolution].
        window: how the edges are treated in the Fourier transform: "hann", "mirror", or not at all, as in the paper.

    Raises:
        ValueError: not square, fewer than 8 points along a side, or a value that is not finite.
    """
    if values.shape[1] != values.shape[2] or values.shape[1] < 8:
        raise ValueError(f"values must be square grids of 8 points a side at least, not {tuple(values.shape)}")
    if not bool(values.isfinite().all()):
        raise ValueError("values must be finite")
    double = values.detach().cpu().double()
    frequency = torch.tensor([mean_frequency(plane, window) for plane in double])
    degree = torch.tensor([mean_degree(plane) for plane in double])
    ziv = [compressed(plane) for plane in double]
    constant = int(frequency.isnan().sum())
    return Complexity(
        float(frequency.nanmean()), float(degree.nanmean()), sum(ziv) / len(ziv), values.detach().cpu(), constant
    )


def function_complexity(
    model: nn.Module, bounds: Bounds, *, resolution: int = 64, planes: int = 8, output: int | None = None,
    window: Window | None = None, generator: torch.Generator | None = None,
) -> Complexity:  # fmt: skip
    """How complex the function is that a network computes (Teney et al., 2024, sections 3.1 and 3.2).

    Two inputs are measured on a grid; more, on random planes through the box: each through a random point, along two
    random axes of its directions. Compare a network before and after training, or one architecture with another, at
    equal resolution.

    Args:
        model: takes a batch of vectors.
        bounds: a pair (low, high) for each input, [inputs, 2]; or one pair, for two inputs.
        resolution: points along each side of a grid.
        planes: how many, where there are more than two inputs.
        output: which output, of a network of several.
        window: how the edges are treated in the Fourier transform: "hann", "mirror", or not at all, as in the paper.
        generator: of the planes, on the CPU.

    Raises:
        ValueError: a resolution below 8, several outputs and none named, or outputs that are not finite.
    """
    if resolution < 8:
        raise ValueError(f"resolution must be at least 8, not {resolution}")
    box = box_of(bounds)
    line = grid_points(torch.tensor([[-1.0, 1.0]] * 2).double(), resolution)
    grids = []
    for _ in range(planes if len(box) > 2 else 1):
        points = _on_plane(box, line, generator)
        values = one_output(evaluate(model, points), output)
        if not bool(values.isfinite().all()):
            raise ValueError("the model's outputs are not finite within bounds")
        grids.append(values.reshape(resolution, resolution))
    return grid_complexity(torch.stack(grids), window)


def boolean_complexity(model: nn.Module, bits: int, *, output: int | None = None) -> Complexity:
    """The complexity of a network of bits, from its Walsh spectrum at all 2^bits inputs of zeros and ones.

    Args:
        model: takes a batch [inputs, bits] of zeros and ones.
        bits: how many; 16 at most.
        output: which output, of a network of several.

    Returns:
        A `Complexity` whose degree is that of the Walsh coefficients, and whose frequency is the same number.

    Raises:
        ValueError: more than 16 bits or fewer than one, or outputs that are not finite.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits must be between 1 and 16, not {bits}")
    numbers = torch.arange(2**bits)
    points = (numbers[:, None] >> torch.arange(bits)) & 1
    values = one_output(evaluate(model, points.double()), output)
    if not bool(values.isfinite().all()):
        raise ValueError("the model's outputs are not finite")
    degree = walsh_degree(values)
    side = 2 ** (bits // 2)
    return Complexity(
        degree, degree, compressed(values.reshape(-1, side)), values.reshape(1, -1, side), int(math.isnan(degree))
    )


def one_output(outputs: Float[Tensor, "points outputs"], output: int | None) -> Float[Tensor, " points"]:
    """The output that is looked at.

    Raises:
        ValueError: there are several and none is named.
    """
    if outputs.shape[1] > 1 and output is None:
        raise ValueError(f"the model has {outputs.shape[1]} outputs: name one as output=")
    return outputs[:, output or 0]


def _on_plane(box: Tensor, line: Tensor, generator: torch.Generator | None) -> Tensor:
    """Points of a plane within a box: the box itself in two dimensions, else a random one, scaled to fit in."""
    middle, reach = box.mean(1), (box[:, 1] - box[:, 0]) / 2
    if len(box) == 2:
        return middle + line * reach
    axes = torch.linalg.qr(torch.randn(len(box), 2, generator=generator, dtype=torch.float64))[0].T
    centre = torch.rand(len(box), generator=generator, dtype=torch.float64) - 0.5  # in the inner half of the box
    room = (1 - centre.abs()) / axes.abs().sum(0).clamp_min(1e-12)
    return middle + reach * (centre + line @ axes * room.min())
