"""Neuro-modulated Hebbian adaptation: the first layer learns from its inputs, a small layer behind it from entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from neurarium.learning.hebbian._hebbian import CONVOLUTIONS, SoftHebbian
from neurarium.learning.test_time._test_time import TestTimeAdaptation, statistics

MODULATORS = ("affine", "conv1x1", "bn", "none")


class NeuroModulatedHebbian(TestTimeAdaptation):
    """Per batch: a soft Hebbian update of the first layer, an entropy step of the modulator, then the prediction.

    (Tang et al., 2023, figure 2.) The update happens within the forward pass, just before the layer is used. All other
    weights stay fixed. A batch costs one forward and one backward pass and, unless ``predict_before``, one more
    forward pass; without a modulator one forward pass.

    Args:
        model: a trained classifier in evaluation mode.
        layers: names of the convolutions or linear layers to adapt; the first in order of definition by default.
        modulator: ``"affine"``: gain and shift per channel, (1 + g) h + b, behind the layer, or behind the batch
            normalisation that takes its output (which would undo them); ``"conv1x1"``: a matrix over channels, the
            identity at first, right behind the layer; ``"bn"``: scale and shift of the first batch normalisation;
            ``"none"``: the Hebbian part alone.
        rate: of the Hebbian update, relative to the kernels' norms; 0 leaves the layers as they are.
        max_change: limit to one batch's update of a kernel, as a share of its norm.
        temperature, competition, norm: see `SoftHebbian`.
        bn, loss, options: see `TestTimeAdaptation`; batch statistics by default.

    Raises:
        ValueError: no such layer, no batch normalisation for ``modulator="bn"``, or an argument out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        modulator: str = "affine",
        *,
        rate: float = 1e-3,
        max_change: float = 0.01,
        temperature: float = 1.0,
        competition: str = "soft",
        norm: str = "preserve",
        bn: str = "batch",
        **options: Any,
    ) -> None:
        if modulator not in MODULATORS:
            raise ValueError(f"modulator must be one of {', '.join(MODULATORS)}, not {modulator!r}")
        if rate < 0 or not max_change > 0:
            raise ValueError(f"rate must not be negative and max_change positive, not {rate} and {max_change}")
        chosen = _layers(model, layers)
        modulators = nn.ModuleList(_make(modulator, layer) for layer in chosen)
        trained = list(modulators.parameters()) if modulator != "bn" else _first_scale(model)
        weights = [layer.weight for layer in chosen]
        super().__init__(model, trained=trained, changed=weights, bn=bn, **options)
        self.modulators, self.modulator = modulators, modulator
        self.rate, self.max_change = rate, max_change
        self.rules: list[SoftHebbian] = [
            SoftHebbian(layer, temperature=temperature, competition=competition, norm=norm) for layer in chosen
        ]
        self._sites: list[nn.Module] | None = list(chosen) if modulator == "conv1x1" else None

    def _check(self, x: Tensor) -> None:
        super()._check(x)
        if self._sites is None and self.modulator == "affine":
            self._sites = self._places(x)

    def _hooks(self, adapting: bool) -> list[RemovableHandle]:
        handles = []
        if adapting and self.rate:
            for rule in self.rules:
                handles.append(rule.module.register_forward_pre_hook(self._learner(rule)))
        for site, modulator in zip(self._sites or (), self.modulators):
            handles.append(site.register_forward_hook(lambda module, x, output, m=modulator: m(output)))
        return handles

    def _learner(self, rule: SoftHebbian) -> Any:
        """A hook that lets a layer learn from its input, once, before it is used."""
        done: list[bool] = []

        @torch.no_grad()
        def learn(module: Any, arguments: tuple[Tensor, ...]) -> None:
            if done:
                return
            done.append(True)
            step = self.rate * rule.update(arguments[0])
            kernels, length = module.weight.flatten(1), step.flatten(1).norm(dim=1)
            most = self.max_change * kernels.norm(dim=1)
            share = (most / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1)
            module.weight.add_(step * share.view(-1, *[1] * (step.dim() - 1)))
            rule.rescale()

        return learn

    @torch.no_grad()
    def _places(self, x: Tensor) -> list[nn.Module]:
        """Behind which module each modulator goes: the layer, or the batch normalisation that is given its output."""
        place: dict[nn.Module, nn.Module] = {rule.module: rule.module for rule in self.rules}
        outputs: dict[nn.Module, Tensor] = {}
        handles = [
            layer.register_forward_hook(lambda module, x, output: outputs.__setitem__(module, output))
            for layer in place
        ]

        def look(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            for layer, output in outputs.items():
                if arguments[0] is output:
                    place[layer] = module

        handles += [m.register_forward_pre_hook(look) for m in self.model.modules() if isinstance(m, _BatchNorm)]
        try:
            with statistics(self.model, "source"):
                self.model(x[:2])
        finally:
            for handle in handles:
                handle.remove()
        return list(place.values())


class ChannelGain(nn.Module):
    """(1 + g) h + b per channel, the identity at first.

    Args:
        channels: of h.
        dim: which dimension of h they are.
    """

    def __init__(self, channels: int, dim: int, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.dim = dim
        self.gain = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.shift = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, h: Tensor) -> Tensor:
        """The same shape."""
        shape = [1] * h.dim()
        shape[self.dim] = -1
        return torch.addcmul(self.shift.view(shape), 1 + self.gain.view(shape), h)


class ChannelMix(nn.Module):
    """A matrix over channels at every position (a 1 x 1 convolution), the identity at first.

    Args:
        channels: of h.
        dim: which dimension of h they are.
    """

    def __init__(self, channels: int, dim: int, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.eye(channels, device=device, dtype=dtype))

    def forward(self, h: Tensor) -> Tensor:
        """The same shape."""
        if self.dim == -1:
            return h @ self.weight.T
        return (self.weight @ h.flatten(2)).view_as(h)


def _layers(model: nn.Module, names: Sequence[str] | None) -> list[Any]:
    """The layers to adapt, by name or the first of the model."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, *CONVOLUTIONS))}
    if not found:
        raise ValueError("model has no convolution and no linear layer, so there is nothing to adapt")
    if names is None:
        return [next(iter(found.values()))]
    if not names:
        raise ValueError("layers is empty: name at least one layer, or leave it out for the first")
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"model has no convolution or linear layer {unknown[0]!r}; there are: {', '.join(found)}")
    return [found[name] for name in names]


def _make(kind: str, layer: Any) -> nn.Module:
    """The modulator of a layer."""
    if kind not in ("affine", "conv1x1"):
        return nn.Identity()
    dim = -1 if isinstance(layer, nn.Linear) else 1
    modulator = ChannelGain if kind == "affine" else ChannelMix
    return modulator(len(layer.weight), dim, device=layer.weight.device, dtype=layer.weight.dtype)


def _first_scale(model: nn.Module) -> list[nn.Parameter]:
    """Scale and shift of the first batch normalisation."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            return [module.weight, module.bias]
    raise ValueError("modulator='bn' needs a batch normalisation with a scale and shift; use modulator='affine'")
