"""What a person brings: examples, a network, and how much training they want to pay for."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.data import Arrays, Batches, Split

Predict = Callable[[Tensor], Tensor]
"""Inputs to scores [batch, classes], whose softmax are the probabilities, or to values [batch] or [batch, 1]."""


@dataclass(frozen=True)
class Problem:
    """A supervised problem, ready to be learned from.

    It holds no test example: whoever learns from it cannot look at one. The target of a regression is standardised by
    the training examples, so that one learning rate suits every unit; `scores` speak of the target's own units.

    Args:
        train: scaled inputs and targets to learn from.
        validation: those that choices are made on (early stopping, hyper-parameters).
        factory: makes a freshly initialised network for these inputs; its last layer has `outputs` units.
        classes: class names in label order; empty for a regression.
        steps: optimizer steps that a training may take at most.
        seconds: seconds that it may take at most.
        batch_size: examples per step.
        device: where examples and networks are.
        images: the inputs are pictures (whatever shape they have now).
        name: of the data.
        target_mean: of a regression's training targets.
        target_scale: their deviation.
    """

    train: Arrays
    validation: Arrays
    factory: Callable[[], nn.Module]
    classes: tuple[str, ...] = ()
    steps: int = 1000
    seconds: float = math.inf
    batch_size: int = 64
    device: str = "cpu"
    images: bool = False
    name: str = ""
    target_mean: float = 0.0
    target_scale: float = 1.0

    @classmethod
    def of(
        cls,
        split: Split,
        factory: Callable[[], nn.Module],
        *,
        steps: int = 0,
        seconds: float = math.inf,
        batch_size: int = 0,
        device: str = "cpu",
        images: bool = False,
    ) -> Problem:
        """The problem of a split whose inputs are scaled already; its test part is left where it is.

        Args:
            split: the examples. Without a validation part, a tenth of the training part is taken for it.
            factory: makes a freshly initialised network.
            steps: optimizer steps at most; 0 for a number that suits the size of the data.
            seconds: seconds of training at most.
            batch_size: examples per step; 0 for a number that suits the size of the data.
            device: where to put examples and networks.
            images: the inputs are pictures.
        """
        if not len(split.validation):
            shuffled = split.train.subset(len(split.train))
            cut = max(1, len(shuffled) // 10)
            split = dataclasses.replace(split, train=shuffled[cut:], validation=shuffled[:cut])
        train, validation, mean, scale = split.train, split.validation, 0.0, 1.0
        if not split.classes:
            target = train.y.double()
            mean, scale = float(target.mean()), max(float(target.std(correction=0)), 1e-12)
            train, validation = (Arrays(p.x, ((p.y.double() - mean) / scale).float()) for p in (train, validation))
        batch_size = batch_size or suitable_batch_size(len(train))
        return cls(
            train.to(device), validation.to(device), factory, split.classes,
            steps=steps or suitable_steps(len(train), batch_size), seconds=seconds, batch_size=batch_size,
            device=device, images=images, name=split.name, target_mean=mean, target_scale=scale,
        )  # fmt: skip

    @property
    def outputs(self) -> int:
        """Units of a network's last layer: one per class, or one."""
        return max(len(self.classes), 1)

    @property
    def metric(self) -> str:
        """The score that choices are made by, the higher the better: "accuracy" or "r2"."""
        return "accuracy" if self.classes else "r2"

    def make_model(self, seed: int) -> nn.Module:
        """A network with the initial weights of a seed; torch's own random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.factory().to(self.device)

    def batches(self, seed: int) -> Batches:
        """Shuffled batches, the same for everyone who names the seed.

        A last batch of one row, which no batch normalisation can take, is left out where there are others.
        """
        rows, size = len(self.train), self.batch_size
        return Batches(self.train, size, shuffle=True, drop_last=rows > size and rows % size == 1, seed=seed)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy for classes, mean squared error (of the standardised target) for numbers."""
        return cross_entropy(output, y) if self.classes else mse_loss(output.reshape(y.shape), y)

    def scores(self, predict: Predict, part: Arrays) -> dict[str, float]:
        """How good predictions are.

        Args:
            predict: a network in evaluation mode, or any other function of the inputs.
            part: scaled inputs with targets as they are in this problem (`test_part` makes them of a split's).

        Returns:
            "accuracy", "log_loss" and "calibration_error" for classes; "r2" and "rmse" (in the target's own units) for
            numbers.
        """
        output = predictions(predict, part.x).double()
        if self.classes:
            return {
                "accuracy": float((output.argmax(1) == part.y).double().mean()),
                "log_loss": float(cross_entropy(output, part.y)),
                "calibration_error": calibration_error(output.softmax(1), part.y),
            }
        truth = part.y.double()
        squared = float((output.reshape(truth.shape) - truth).square().mean())
        variance = float(truth.var(correction=0))
        return {
            "r2": 1 - squared / variance if variance else math.nan,
            "rmse": squared**0.5 * self.target_scale,
        }

    def test_part(self, split: Split) -> Arrays:
        """The split's test examples with their targets as this problem has them."""
        test = split.test
        if not self.classes:
            test = Arrays(test.x, ((test.y.double() - self.target_mean) / self.target_scale).float())
        return test.to(self.device)


def suitable_batch_size(examples: int) -> int:
    """16 for a hundred examples, 128 from ten thousand on."""
    return 16 if examples < 200 else 32 if examples < 1000 else 64 if examples < 10_000 else 128


def suitable_steps(examples: int, batch_size: int) -> int:
    """Thirty passes, but between 1,000 and 4,000 steps."""
    return max(1000, min(4000, 30 * examples // batch_size))


@torch.no_grad()
def predictions(predict: Predict, x: Tensor, part: int = 1024) -> Tensor:
    """``predict(x)`` a thousand examples at a time."""
    return torch.cat([predict(rows) for rows in x.split(part)])


def calibration_error(probabilities: Tensor, y: Tensor, bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from accuracy, over bins of equal width (Guo et al., 2017).

    Args:
        probabilities: [examples, classes].
        y: class indices [examples].
        bins: of the largest probability.
    """
    confidence, guess = probabilities.max(1)
    right = (guess == y).double()
    where = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=y.device)
    gap.index_add_(0, where, confidence.double() - right)
    return float(gap.abs().sum() / len(y))


def endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass after another."""
    while True:
        yield from batches


def clock(device: str) -> float:
    """Seconds of the processor, which neighbours on the machine do not change; of the wall where a device works."""
    return time.process_time() if device == "cpu" else time.perf_counter()
