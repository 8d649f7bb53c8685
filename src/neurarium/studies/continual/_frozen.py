"""A small encoder, its pre-training, and images of digits for it: for studies that learn on frozen features."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad

from neurarium.continual import Strategy
from neurarium.data import Arrays, Batches, Split, load
from neurarium.lab import Run
from neurarium.learning import Backprop
from neurarium.training import fit


def small_encoder() -> nn.Sequential:
    """Three strided convolutions from [batch, 28, 28] to 1,024 features."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28))]
    for before, after in itertools.pairwise((1, 8, 32, 64)):
        size = 5 if before == 1 else 3
        layers += [nn.Conv2d(before, after, size, stride=2, padding=size // 2), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def pre_train(encoder: nn.Sequential, split: Split, epochs: int, run: Run) -> None:
    """Train the encoder, under a head that is thrown away, to tell the classes of uint8 images [n, 28, 28] apart."""
    split = split.map_inputs(standard).to(run.device)
    model = nn.Sequential(encoder, nn.Dropout(0.3), nn.Linear(1024, len(split.classes))).to(run.device)
    rule = Backprop(model, cross_entropy)
    batches = Batches(split.train, 128, shuffle=True, seed=run.seed)
    fit(rule, batches, torch.optim.Adam(rule.parameters(), 5e-3), epochs=epochs)


def digit_images(name: str, train: int, test: int, seed: int) -> Split:
    """Digits as the encoder takes them: of an MNIST set so many, of scikit-learn's digits all, enlarged."""
    split = load(name)
    if name == "digits":
        held = (split.validation, split.test)
        both = Arrays(torch.cat([part.x for part in held]), torch.cat([part.y for part in held]))
        split = replace(split, validation=both[:0], test=both)
        return split.map_inputs(lambda x: standard(enlarged(x)))
    split = replace(split, train=split.train.subset(train, seed), test=split.test.subset(test, seed))
    return split.map_inputs(standard)


def enlarged(x: Tensor) -> Tensor:
    """Images of 8 x 8 values from 0 to 16 as 20 x 20 pixels within 28 x 28, as MNIST's are, from 0 to 255."""
    large = interpolate(x[:, None].float() / 16, (20, 20), mode="bilinear")[:, 0]
    return 255 * pad(large, (4, 4, 4, 4))


def standard(x: Tensor) -> Tensor:
    """The same shift and scale for the pre-training and for what follows."""
    return (x / 255 - 0.1) / 0.3


class Adapter(nn.Module):
    """A residual bottleneck that is the identity at first."""

    def __init__(self, features: int, width: int = 16) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(features, width), nn.Linear(width, features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.up(torch.relu(self.down(x)))


class Stopwatch:
    """Seconds between ``begin_task`` and the end of ``end_task``, evaluation left out but for one before the first."""

    def __init__(self, strategy: Strategy) -> None:
        self.seconds = 0.0
        self._begin, self._end = strategy.begin_task, strategy.end_task
        strategy.begin_task, strategy.end_task = self.begin, self.end  # type: ignore[method-assign]

    def begin(self, task: Any) -> None:
        """Start counting."""
        self._started = time.perf_counter()
        self._begin(task)

    def end(self, loader: Any = None) -> None:
        """Stop counting."""
        self._end(loader)
        self.seconds += time.perf_counter() - self._started
