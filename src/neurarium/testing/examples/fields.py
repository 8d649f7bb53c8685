"""How neural fields, what sensors see of them, and their learned initial weights are used."""

from __future__ import annotations

from typing import Any

from neurarium import layers, models, objectives, search
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "FourierFeatureField": lambda w: (
        models.FourierFeatureField(2, 1, 6, 2.0, 8, 2, generator=seed()), (w.x(5, 2),),
    ),
    "PartiallyObservedNeuralProcess": lambda w: (
        models.PartiallyObservedNeuralProcess(
            layers.ParallelBeam(4), 2, 4, width=8, heads=2, frequencies=1.0, generator=seed()
        ),
        (w.positive(2, 3), w.x(2, 3, 4), w.positive(2, 5)),
    ),
    "ParallelBeam": lambda w: (layers.ParallelBeam(6), (w.x(2, 36, 1), w.positive(2, 3))),
    "PixelMask": lambda w: (layers.PixelMask(3, 4), (w.x(2, 5, 1), w.whole([0, 3, 4, 7, 11]))),
    "PointSamples": lambda w: (layers.PointSamples(), (w.x(2, 5, 1), w.x(2, 5, 2))),
    "SirenField": lambda w: (models.SirenField(2, 1, 8, 3, 3.0), (w.x(5, 2),)),
    "TinyNeRF": lambda w: (models.TinyNeRF(4, 2.0, 8, 2), (w.x(5, 3),)),
    "VolumeRendering": lambda w: (layers.VolumeRendering(1, 2, 4), (w.positive(2, 12, 4), w.x(2, 3, 6))),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "LearnedInitialization": lambda w: outer_gradient(w),
    "adaptation_curve": lambda w: (
        search.adaptation_curve(
            learned(w).adaptation(w.x(3, 5, 8), w.x(3, 5, 3, seed=1), 2), w.x(7, 8), w.x(3, 7, 3, seed=2)
        ).psnr
    ),
    "StackedFields": lambda w: learned(w).adapt(w.x(3, 5, 8), w.x(3, 5, 3, seed=1)).module(1)(w.x(2, 8)),
    "camera_rays": lambda w: layers.camera_rays(w.x(2, 3, 4), 5.0, 2, 3),
    "filtered_back_projection": lambda w: layers.filtered_back_projection(w.x(2, 3, 6), w.positive(2, 3), 6),
    "matched_initialization": lambda w: search.matched_initialization(field(w), seed())(w.x(2, 8)),
    "np_elbo_loss": lambda w: objectives.np_elbo_loss(
        w.x(2, 3, 4), w.positive(2, 3, 4), w.x(3, 4, seed=1), (w.x(3, 5), w.positive(3, 5)),
        (w.x(3, 5, seed=1), w.positive(3, 5, seed=1)),
    ),
    "np_likelihood_loss": lambda w: objectives.np_likelihood_loss(
        w.x(2, 3, 4), w.positive(2, 3, 4), w.x(3, 4, seed=1)
    ),
    "pixel_grid": lambda w: layers.pixel_grid(3, 4, device=w.device, dtype=w.dtype),
    "psnr": lambda w: objectives.psnr(w.x(3, 5), w.x(3, 5, seed=1)),
    "shuffled_initialization": lambda w: search.shuffled_initialization(field(w), seed())(w.x(2, 8)),
}  # fmt: skip


def field(w: World) -> Any:
    """A small network from eight coordinates to three values."""
    return w.mlp(8, 10, 3)


def learned(w: World) -> Any:
    """Its initial weights, to be learned."""
    return w.new(lambda: search.LearnedInitialization(field(w), 0.05, 2))


def outer_gradient(w: World) -> Any:
    """What an outer step would follow."""
    start = learned(w)
    loss = start.assign_credit(w.x(3, 5, 8), w.x(3, 5, 3, seed=1))
    gradients = [p.grad for p in start.field.parameters()]
    start.zero_grad()
    return loss, gradients
