"""How convolutional networks, their parts and their probes are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium import layers, models, objectives, probes
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "DenseConnection": lambda w: (
        layers.DenseConnection(nn.Conv1d(3, 4, 1), nn.Conv1d(7, 2, 3, padding=1)), (w.x(2, 3, 6),),
    ),
    "CSPNet": lambda w: (
        models.CSPNet([models.CSPStage(8, 1), models.CSPStage(9, 1, block="dense")], (4, 3, 1), num_classes=3),
        (w.x(2, 3, 16, 16),),
    ),
    "ResMLP": lambda w: (models.ResMLP(12, 4, 3, 5, 8, 2, pooling="class", drop_path=0.1), (w.x(2, 3, 12, 12),)),
    "UNet": lambda w: (models.UNet(3, 2, (4, 6), layers.DenseTransformer(4, (8, 8)), 0), (w.x(2, 3, 8, 8),)),
    "TokenMean": lambda w: (layers.TokenMean(), (w.x(2, 5, 8),)),
    "TimeSeriesFCN": lambda w: (models.TimeSeriesFCN(2, 3, (4, 5, 4)), (w.x(3, 2, 12), w.whole(12, 7, 9))),
    "TimeSeriesMLP": lambda w: (models.TimeSeriesMLP(2, 6, 3, 5), (w.x(3, 2, 6),)),
    "TimeSeriesResNet": lambda w: (models.TimeSeriesResNet(2, 3, (4, 5, 5)), (w.x(3, 2, 12), w.whole(12, 7, 9))),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "conv_norm_act": lambda w: w.new(lambda: layers.conv_norm_act(3, 4, 4))(w.x(2, 3, 6, 6)),
    "folding_penalty": lambda w: layers.folding_penalty(w.x(2, 5, 5, 2)),
    "insert_dense_transformer": lambda w: warped(w)(w.x(2, 3, 8, 8)),
    "segmentation_scores": lambda w: probes.segmentation_scores(w.x(12, 3), w.y()),
    "splat": lambda w: layers.splat(w.x(2, 3, 5, 5), w.x(2, 5, 5, 2, seed=1).tanh()),
    "warp_summary": lambda w: probes.warp_summary(bender(w), w.x(2, 3, 5, 6)),
    "class_activation": lambda w: probes.class_activation(series_network(w), w.x(3, 2, 12)),
    "convolution_traffic": lambda w: probes.convolution_traffic(series_network(w), w.x(3, 2, 12)),
    "fold_affine": lambda w: layers.fold_affine(mixer(w), w.x(2, 3, 12, 12)).model(w.x(2, 3, 12, 12)),
    "hard_distillation_loss": lambda w: objectives.hard_distillation_loss(w.x(12, 3), w.x(12, 3, seed=1), w.y()),
    "mixing_locality": lambda w: probes.mixing_locality(mixer(w)),
    "resize_patches": lambda w: models.resize_patches(mixer(w), 16)(w.x(2, 3, 16, 16)),
    "train_time_series": lambda w: trained(w),
    "window_deletion": lambda w: probes.window_deletion(series_network(w), w.x(12, 2, 12), w.y()),
}


def series_network(w: World) -> Any:
    """A network that ends in an average and a linear layer."""
    return w.new(lambda: models.TimeSeriesFCN(2, 3, (4, 5, 4)))


def bender(w: World) -> Any:
    """A warp that is not the identity."""
    return w.new(lambda: layers.DenseTransformer(3, (5, 6), (3, 3), nn.Sequential(nn.Flatten(), nn.Linear(90, 18))))


def warped(w: World) -> Any:
    """A network with a warp in it."""
    model = w.new(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return layers.insert_dense_transformer(model, "0", "2", w.x(2, 3, 8, 8))


def mixer(w: World) -> Any:
    """A network that mixes 9 patches."""
    return w.new(lambda: models.ResMLP(12, 4, 3, 5, 8, 2, init_std=None))


def trained(w: World) -> list[float]:
    """Losses of two epochs."""
    return models.train_time_series(
        w.new(lambda: models.TimeSeriesFCN(2, 3, (4, 5, 4))), w.x(12, 2, 9), w.y().long(), epochs=2, generator=seed()
    )
