"""Networks and images on which forecasts of parameters are tried: a family, a wider member, and something else."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from neurarium.data import Arrays, Split, load

TASKS = ("family", "wide", "other")
WIDTHS = ((16, 16), (12, 16), (16, 12), (20, 16), (16, 20), (24, 24))


def task_model(family: str, name: str, seed: int) -> nn.Module:
    """The network of a task with its initial weights."""
    torch.manual_seed(seed)
    if family == "fashion":
        return convolutional(3 if name == "other" else 1, (32, 64, 64) if name == "wide" else (16, 32, 32))
    return convolutional(1, (8, 16)) if name == "other" else classifier((32, 32) if name == "wide" else (16, 16), seed)


def classifier(widths: tuple[int, int], seed: int) -> nn.Module:
    """A network for digits with its initial weights."""
    torch.manual_seed(seed)
    first, second = widths
    return nn.Sequential(
        nn.Linear(64, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )  # fmt: skip


def convolutional(channels: int, widths: tuple[int, ...]) -> nn.Module:
    """Strided 3 x 3 convolutions, the mean over places, and a linear readout."""
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


def train_together(
    models: Sequence[nn.Module],
    data: Split,
    seeds: Sequence[int],
    steps: int,
    *,
    spacing: int,
    batch_size: int,
    lr: float,
) -> list[Tensor]:
    """Train classifiers of one depth at once, each as if it were alone.

    Layers are batched products. Narrow ones are filled up with zeros, which stay: a neuron without any weight gets no
    gradient, and Adam works on each number alone.

    Returns:
        Of each model the flat parameters at the start and after every ``spacing`` steps, [snapshots, parameters].
    """
    shapes = [[p.shape for p in model.parameters()] for model in models]
    parameters = [_stacked(tensors).requires_grad_() for tensors in zip(*(model.parameters() for model in models))]
    layers = list(zip(parameters[::2], parameters[1::2]))
    optimizer = torch.optim.Adam(parameters, lr, fused=True)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    kept = [[p.detach().clone() for p in parameters]]
    step = 0
    while step < steps:
        epoch = torch.stack([torch.randperm(len(data.train), generator=order) for order in orders])
        for rows in epoch.split(batch_size, dim=1)[: steps - step]:
            hidden = data.train.x[rows]
            for depth, (weight, bias) in enumerate(layers):
                hidden = torch.baddbmm(bias[:, None], hidden.relu() if depth else hidden, weight.mT)
            loss = cross_entropy(hidden.flatten(0, 1), data.train.y[rows].flatten())
            optimizer.zero_grad()
            (len(models) * loss).backward()  # a mean over all of them: each model's gradient is its own mean's
            optimizer.step()
            step += 1
            if step % spacing == 0:
                kept.append([p.detach().clone() for p in parameters])
    return [torch.stack([_flat(state, number, shapes[number]) for state in kept]) for number in range(len(models))]


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other, small ones filled up with zeros."""
    stack = tensors[0].new_zeros(len(tensors), *(max(sizes) for sizes in zip(*(t.shape for t in tensors))))
    for number, tensor in enumerate(tensors):
        stack[number][_corner(tensor.shape)] = tensor.detach()
    return stack


def _flat(stacks: Sequence[Tensor], number: int, shapes: Sequence[torch.Size]) -> Tensor:
    """One model's parameters out of the stacks."""
    return torch.cat([stack[number][_corner(shape)].flatten() for stack, shape in zip(stacks, shapes)]).cpu()


def _corner(shape: torch.Size) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in shape)
