"""Guidance: train a network to represent a batch, layer by layer, as another network does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.objectives.representation._similarity import linear_cka, rsa
from neurarium.objectives.representation._taps import Taps
from neurarium.training import evaluation

Similarity = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Any, Tensor], Tensor]
_SIMILARITIES: dict[str, Similarity] = {
    "cka": linear_cka, "cka-debiased": lambda x, y: linear_cka(x, y, debiased=True), "rsa": rsa
}  # fmt: skip


class Guidance:
    """weight * sum over pairs of layers of 1 - CKA of their activations (Subramaniam et al., 2024, section 3).

    The guide is frozen: a trained one passes on what it knows, an untrained one only the prior of its architecture. It
    sees the same batch, in evaluation mode. Inside the context the target's layers are recorded while the user's own
    forward pass goes through, so that one pass serves both losses. It goes with every learning rule that
    back-propagates its loss through the whole network (those that cut it between layers cannot carry a loss on the
    inner ones):

    ```
    with Guidance(model, guide) as guidance:
        rule = Backprop(model, guidance.around(cross_entropy))
        fit(rule, loader, optimizer)
    ```

    Args:
        target: the network that is trained.
        guide: a network that takes the same batches; its parameters no longer require gradients.
        layers_target: names of the target's layers; by default all that hold computation, in the order of use, but the
            last (the logits).
        layers_guide: the same for the guide.
        pairs: "spread-last" (the guide's layers spread evenly over the target's; of several that fall on one the last
            counts, as in the authors' code), "spread-all" (each counts), or pairs of indices (guide, target).
        distance: "cka", "cka-debiased", "rsa", or a function of two activations [batch, ...] that gives a similarity.
        weight: alpha, 1 by default; or a function of the step (from 0) that gives it.
        until_step: guide only so many steps (the paper's short guidance: 300).
        token_wise: compare sequences [batch, positions, features] position by position, each as a layer of its own, in
            place of whole ones, flattened; both sides must have the same positions.
        guide_input: "same", or "noise": normal noise of the batch's mean and deviation in its place; for whole numbers
            (tokens) the batch's own, shuffled.

    Raises:
        ValueError: an unknown layer, distance, or way to pair; with ``token_wise``, at the first batch, two layers
            without the same positions.

    Warns:
        UserWarning: once, where a batch has fewer than 16 examples, or a layer gives all of them the same activation.
    """

    def __init__(
        self,
        target: nn.Module,
        guide: nn.Module,
        *,
        layers_target: Sequence[str] | None = None,
        layers_guide: Sequence[str] | None = None,
        pairs: str | Sequence[tuple[int, int]] = "spread-last",
        distance: str | Similarity = "cka",
        weight: float | Callable[[int], float] = 1.0,
        until_step: int | None = None,
        token_wise: bool = False,
        guide_input: str = "same",
    ) -> None:
        if isinstance(distance, str) and distance not in _SIMILARITIES:
            raise ValueError(f"distance must be one of {', '.join(_SIMILARITIES)} or a function, not {distance!r}")
        if isinstance(pairs, str) and pairs not in ("spread-last", "spread-all"):
            raise ValueError(f"pairs must be spread-last, spread-all or a list of (guide, target), not {pairs!r}")
        if guide_input not in ("same", "noise"):
            raise ValueError(f"guide_input must be same or noise, not {guide_input!r}")
        self.target, self.guide = target, guide.requires_grad_(False)
        self.similarity = _SIMILARITIES[distance] if isinstance(distance, str) else distance
        self.pairs, self.weight, self.until_step = pairs, weight, until_step
        self.token_wise, self.guide_input = token_wise, guide_input
        self.step = 0
        self.distances: dict[str, float] = {}
        """Distance of each target layer at the last step."""
        self._own = Taps(target, layers_target), layers_target is None
        self._other = Taps(guide, layers_guide), layers_guide is None
        self._input: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._handle: Any = None
        self._warned: set[str] = set()

    def __enter__(self) -> Guidance:
        def remember(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._input = inputs, named

        self._own[0].__enter__()
        self._handle = self.target.register_forward_pre_hook(remember, with_kwargs=True)
        return self

    def __exit__(self, *error: Any) -> None:
        self._own[0].__exit__()
        self._handle.remove()
        self._input = None

    def around(self, loss: Loss) -> Loss:
        """``loss(output, y)`` plus the guidance of the forward pass that gave the output."""
        return lambda output, y: loss(output, y) + self.penalty()

    def penalty(self) -> Tensor:
        """The guidance for the target's last forward pass; a constant 0 once the guided steps are over.

        Raises:
            RuntimeError: outside the context, or before the target was used.
        """
        weight = float(self.weight(self.step)) if callable(self.weight) else self.weight
        if self.until_step is not None and self.step >= self.until_step:
            weight = 0.0
        self.step += 1
        if self._input is None:
            raise RuntimeError("guidance needs a forward pass of the target inside `with Guidance(...)`")
        own = _layers(self._own)
        total = torch.zeros((), device=own[0][1].device)
        self.distances = {}
        if weight == 0:
            return total
        self._warn_if_few(len(own[0][1]))
        other = self._guide_activations()
        links = spread(len(other), len(own), self.pairs) if isinstance(self.pairs, str) else self.pairs
        for g, t in links:
            name, activation = own[t]
            self._warn_if_constant(name, activation)
            apart = self._apart(name, activation, *other[g])
            self.distances[name] = float(apart.detach().mean())
            total = total + apart.sum()
        return weight * total

    def _apart(self, name: str, own: Tensor, guide_name: str, other: Tensor) -> Tensor:
        """1 - similarity of two layers, of each position if they are compared token by token."""
        if not self.token_wise:
            return 1 - self.similarity(own, other).unsqueeze(0)
        if own.dim() < 3 or own.shape[:2] != other.shape[:2]:
            raise ValueError(
                "token_wise compares layers of shape [batch, positions, ...] with the same positions, but "
                f"{name} gives {list(own.shape)} and the guide's {guide_name} {list(other.shape)}"
            )
        return 1 - torch.stack([self.similarity(a, b) for a, b in zip(own.unbind(1), other.unbind(1), strict=True)])

    @torch.no_grad()
    def _guide_activations(self) -> list[tuple[str, Tensor]]:
        inputs, named = self._input or ((), {})
        if self.guide_input == "noise":
            inputs, named = tuple(map(_noise, inputs)), {name: _noise(value) for name, value in named.items()}
        with evaluation(self.guide), self._other[0]:
            self.guide(*inputs, **named)
            return _layers(self._other)

    def _warn_if_few(self, examples: int) -> None:
        if examples < 16 and "" not in self._warned:
            self._warned.add("")
            warnings.warn(f"{examples} examples tell little of how alike representations are", stacklevel=3)

    def _warn_if_constant(self, name: str, activation: Tensor) -> None:
        if name not in self._warned and bool((activation.detach() == activation.detach()[:1]).all()):
            self._warned.add(name)
            warnings.warn(
                f"layer {name} gives every example the same activation: guidance cannot move it", stacklevel=3
            )


def spread(guide: int, target: int, pairs: str = "spread-all") -> list[tuple[int, int]]:
    """Pairs (guide layer, target layer) with the guide's layers spread evenly over the target's.

    Args:
        guide: number of the guide's layers.
        target: number of the target's layers.
        pairs: "spread-last" keeps only the last guide layer of those that fall on one target layer.
    """
    step = (target - 1) / (guide - 1) if guide > 1 else 0.0
    links = [(g, min(round(g * step), target - 1)) for g in range(guide)]
    return links if pairs == "spread-all" else [(g, t) for t, g in {t: g for g, t in links}.items()]


def _layers(taps: tuple[Taps, bool]) -> list[tuple[str, Tensor]]:
    """Tapped activations in order of use; without the logits where the layers were not chosen by name."""
    found = list(taps[0].outputs.items())
    return found[:-1] if taps[1] and len(found) > 1 else found


def _noise(x: Any) -> Any:
    """Noise in the place of a tensor; whole numbers are shuffled, anything else is left alone."""
    if not isinstance(x, Tensor) or x.dtype == torch.bool:
        return x
    if x.is_floating_point():
        return x.mean() + x.std() * torch.randn_like(x)
    return x.flatten()[torch.randperm(x.numel(), device=x.device)].view_as(x)
