"""Class activation maps (Zhou et al., 2016; for series Wang, Yan and Oates, 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from neurarium.probes._result import ProbeResult
from neurarium.probes.class_activation._average_head import find_average_head, leaves
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class ClassActivation(ProbeResult):
    """What each position adds to each class's score.

    ``scores = factor * maps.flatten(2).sum(2) + bias`` exactly; the factor is one over the number of positions.

    Args:
        maps: Σ_k w_ck S_k(position), for tokens [batch, classes, tokens].
        scores: the network's output.
        bias: of the last layer; zeros without one.
        factor: of each example's sum.
        inputs: what the network was shown; drawn by `plot`.
    """

    maps: Float[Tensor, "batch classes *positions"]
    scores: Float[Tensor, "batch classes"]
    bias: Float[Tensor, " classes"]
    factor: Float[Tensor, " batch"]
    inputs: Tensor

    def of(self, target: Int[Tensor, " batch"] | int | None = None) -> Float[Tensor, " batch *positions"]:
        """The map of one class for each example, by default of the class that the network predicts."""
        chosen = self.scores.argmax(1) if target is None else torch.as_tensor(target, device=self.maps.device)
        return self.maps[torch.arange(len(self.maps), device=self.maps.device), chosen.expand(len(self.maps)).long()]

    def on_input(self, target: Int[Tensor, " batch"] | int | None = None) -> Tensor:
        """`of` at the positions of the input: series and images, whose maps may be smaller."""
        maps = self.of(target)
        size = self.inputs.shape[2:]
        if maps.dim() - 1 != len(size):
            raise ValueError(
                f"the maps have {maps.dim() - 1} dimensions of positions, the input {len(size)}; "
                "tokens have no place on it that a tensor tells"
            )
        if maps.shape[1:] == size:
            return maps
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        return interpolate(maps[:, None], size, mode=mode, align_corners=False)[:, 0]

    def summary(self) -> str:
        """Sizes, and how far the strongest position stands out."""
        maps = self.of().flatten(1)
        out = (maps.amax(1) - maps.mean(1)) / maps.std(1).clamp_min(1e-12)
        places = " x ".join(map(str, self.maps.shape[2:]))
        return (
            f"maps of {self.maps.shape[1]} classes at {places} positions for {len(maps)} examples; the strongest "
            f"position stands {float(out.mean()):.1f} deviations above the mean of the predicted class's map"
        )

    def plot(self, ax: Any, example: int = 0, target: int | None = None) -> Any:
        """One example: a series coloured by its map, an image under it, or the tokens' shares.

        Args:
            ax: Matplotlib axes.
            example: which.
            target: class; the predicted one by default.
        """
        label = int(self.scores[example].argmax()) if target is None else target
        heat = self.maps[example, label].float().cpu()
        heat = (heat - heat.min()) / (heat.max() - heat.min()).clamp_min(1e-12)
        x = self.inputs[example].float().cpu()
        if heat.dim() == 1 and x.dim() == 2:
            steps = torch.arange(x.shape[1])
            heat = interpolate(heat[None, None], x.shape[1:], mode="linear", align_corners=False)[0, 0]
            for channel in x:
                ax.plot(steps, channel, color="0.8", linewidth=1, zorder=1)
                ax.scatter(steps, channel, c=heat, cmap="turbo", s=8, zorder=2, linewidths=0)
            ax.set(xlabel="step", ylabel="value")
        elif heat.dim() == 2:
            ax.imshow(x.mean(0) if x.dim() == 3 else x, cmap="gray")
            extent = (-0.5, x.shape[-1] - 0.5, x.shape[-2] - 0.5, -0.5)
            ax.imshow(heat, cmap="turbo", alpha=0.5, extent=extent, interpolation="bilinear")
            ax.set_axis_off()
        else:
            ax.bar(range(heat.numel()), heat.flatten())
            ax.set(xlabel="token", ylabel="share")
        ax.set_title(f"class {label}")
        return ax


@torch.no_grad()
def class_activation(model: nn.Module, x: Any) -> ClassActivation:
    """Class activation maps of a network that ends in an average over positions and a linear layer.

    Both are found by watching one forward pass, whatever they are called and whether they are modules or functions:
    series, images, volumes and tokens. It costs that one pass for all classes. The model is used in evaluation mode and
    left as it was.

    Args:
        model: any module.
        x: a batch of inputs, as `training.call` takes them: a tensor, or a tuple such as (series, lengths).

    Raises:
        ValueError: the network ends in another way; the message says in which.
    """
    with evaluation(model):
        found: list[Tensor] = []

        def compute() -> Tensor:
            found.append(call(model, x))
            return found[0]

        head = find_average_head(compute)
    scores = found[0]
    maps = torch.einsum("bk...,ck->bc...", head.pooled.maps, head.weight.to(head.pooled.maps.dtype))
    inputs = leaves(x)[0]
    for dim in reversed(range(2, maps.dim())):
        if maps.dim() > inputs.dim() and maps.shape[dim] == 1:  # an average over steps made as one over images
            maps = maps.squeeze(dim)
    bias = scores.new_zeros(scores.shape[1]) if head.bias is None else head.bias.detach().clone()
    return ClassActivation(maps, scores, bias, head.pooled.factor, inputs)
