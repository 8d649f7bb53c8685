"""Networks and images on which forecasts of parameters are tried: a family, a wider member, and something else."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from neurarium.data import Arrays, Split, load

TASKS = ("family", "wide", "other")
WIDTHS = ((16, 16), (12, 16), (16, 12), (20, 16), (16, 20), (24, 24))


def task_model(family: str, name: str, seed: int) -> nn.Module:
    """The network of a task with its initial weights."""
    torch.manual_seed(seed)
    if family == "fashion":
        return convolutional(3 if name == "other" else 1, (32, 64, 64) if name == "wide" else (16, 32, 32))
    return convolutional(1, (8, 16)) if name == "other" else classifier((32, 32) if name == "wide" else (16, 16))


def classifier(widths: tuple[int, int]) -> nn.Module:
    first, second = widths
    return nn.Sequential(
        nn.Linear(64, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )  # fmt: skip


def convolutional(channels: int, widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((channels, *widths)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def task_data(family: str, name: str) -> Split:
    """Images of a task; what is not trained on serves as validation."""
    if family == "digits" and name != "other":
        split = load("digits").scaled().flat()
        held = Arrays(torch.cat([split.validation.x, split.test.x]), torch.cat([split.validation.y, split.test.y]))
        return dataclasses.replace(split, validation=held)
    split = load(("cifar10" if name == "other" else "fashion-mnist") if family == "fashion" else "mnist-small")
    split = dataclasses.replace(split, validation=split.test[:1000]).scaled()
    if family == "digits":
        return split.map_inputs(lambda x: avg_pool2d(x[:, None], 2))
    return split if name == "other" else split.map_inputs(lambda x: x[:, None])
