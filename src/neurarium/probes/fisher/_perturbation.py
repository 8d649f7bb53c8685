"""Does the Fisher diagonal say which weights may move? Noise shaped by it, against noise that is not (Fig. 3C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.fisher._fisher import FisherDiagonal
from neurarium.training import evaluate, evaluation

Kind = Literal["uniform", "inverse-fisher", "null-space"]


@dataclass(frozen=True)
class PerturbationCurve(ProbeResult):
    """Score of a model under noise on its weights.

    Args:
        kind: shape of the noise.
        scales: length of the noise vector over the length of the weights.
        scores: mean score at each scale.
    """

    kind: str
    scales: tuple[float, ...]
    scores: tuple[float, ...]

    def summary(self) -> str:
        """Score at each scale."""
        points = ", ".join(f"{score:.3f} at {scale:g}" for scale, score in zip(self.scales, self.scores))
        return f"{self.kind} noise: {points}"

    def plot(self, ax: Any) -> Any:
        """Score against the size of the noise."""
        ax.plot(self.scales, self.scores, marker="o", label=self.kind)
        ax.set_xlabel("length of the noise / length of the weights")
        ax.set_ylabel("score")
        ax.legend()
        return ax


@torch.no_grad()
def perturbation_curve(
    model: nn.Module,
    fisher: FisherDiagonal,
    loader: Iterable[Any],
    scales: Sequence[float],
    kind: Kind = "inverse-fisher",
    *,
    floor: float = 1e-2,
    repeats: int = 3,
    metric: Callable[[Tensor, Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> PerturbationCurve:
    """The model's score under Gaussian noise on its weights, at equal total length whatever the kind.

    Args:
        model: its weights are put back afterwards.
        fisher: of this model; noise goes on the parameters in it.
        loader: batches ``(x, y)`` to score on; iterated ``len(scales) * repeats`` times.
        scales: length of the noise over the length of the weights; 0 is the model itself.
        kind: ``"uniform"``: the same variance everywhere; ``"inverse-fisher"``: variance proportional to
            1 / (F + epsilon); ``"null-space"``: equal variance where F <= epsilon, none elsewhere.
        floor: epsilon, as a share of the mean of F.
        repeats: draws per scale (the same directions at all scales).
        metric: as in `evaluate`; accuracy by default.
        generator: of the noise (on the CPU); torch's global state by default.

    Raises:
        ValueError: unknown kind, a negative scale, a parameter that the model lacks, or an empty null space.
    """
    if kind not in ("uniform", "inverse-fisher", "null-space"):
        raise ValueError(f"kind must be uniform, inverse-fisher or null-space, not {kind!r}")
    if repeats < 1 or floor <= 0 or not scales or min(scales) < 0:
        raise ValueError("scales must be non-negative numbers, at least one; repeats at least 1; floor positive")
    named = dict(model.named_parameters())
    if missing := [name for name, f in fisher.values.items() if name not in named or named[name].shape != f.shape]:
        raise ValueError(f"fisher is of another model: parameter {missing[0]!r} is missing or has another shape")
    weights = [named[name] for name in fisher.values]
    saved = [w.clone() for w in weights]
    size = float(torch.stack([w.double().norm() for w in saved]).norm())
    deviations = noise_deviations(fisher, kind, floor)
    totals = [0.0] * len(scales)
    try:
        for _ in range(repeats):
            noise = [d * torch.randn(d.shape, generator=generator).to(d) for d in deviations]
            length = float(torch.stack([n.double().norm() for n in noise]).norm())
            for index, scale in enumerate(scales):
                for w, old, n in zip(weights, saved, noise):
                    w.copy_(old + n * (scale * size / length))
                with evaluation(model):
                    totals[index] += evaluate(model, loader, metric)
    finally:
        for w, old in zip(weights, saved):
            w.copy_(old)
    return PerturbationCurve(kind, tuple(scales), tuple(total / repeats for total in totals))


def noise_deviations(fisher: FisherDiagonal, kind: Kind, floor: float) -> list[Tensor]:
    """Standard deviation of each weight's noise, up to a common factor."""
    values = list(fisher.values.values())
    if kind == "uniform":
        return [torch.ones_like(f) for f in values]
    epsilon = floor * fisher.trace / sum(f.numel() for f in values)
    if epsilon == 0:
        raise ValueError("the Fisher information is zero everywhere, so it does not shape any noise")
    if kind == "inverse-fisher":
        return [(f + epsilon).rsqrt() for f in values]
    inside = [(f <= epsilon).to(f.dtype) for f in values]
    if not any(bool(mask.any()) for mask in inside):
        raise ValueError(f"no weight has Fisher information below {floor:g} of the mean; raise floor")
    return inside
