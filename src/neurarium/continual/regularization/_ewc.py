"""Elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Task
from neurarium.continual.regularization._anchored import AnchoredStrategy, Mode
from neurarium.probes import fisher_diagonal
from neurarium.probes.fisher._fisher import Estimator, check
from neurarium.probes.fisher._likelihood import Loss


class EWC(AnchoredStrategy):
    """Springs on the weights, stiff where old tasks depend on them (Kirkpatrick et al., 2017, eq. 3).

    The loss of a new task gets strength / 2 * sum_t sum_i F_{t,i} (theta_i - theta*_{t,i})^2: the logarithm of a
    Gaussian approximation to the posterior after each old task t, with the diagonal Fisher information F_t as its
    precision.

    Args:
        model: any module whose output parametrises a log-likelihood.
        loss: that log-likelihood: ``"cross_entropy"``, ``"gaussian"``, ``"binary_cross_entropy"``, torch's losses of
            these kinds, or, with ``fisher="empirical"``, any callable ``loss(output, y) -> scalar``.
        strength: lambda. Fisher values of a well-trained classifier are small (1e-4 is a large one), so useful values
            range from 1e1 to 1e5.
        fisher: estimator, see `fisher_diagonal`.
        samples: examples per task for the estimate; all by default.
        mode: ``"separate"`` (the paper) or ``"online"``, see `AnchoredStrategy`.
        decay: of old importance in online mode.
        grow: keep springs on a layer that gets more rows, see `AnchoredStrategy`.
        normalize: divide each task's F by its largest value; then lr * strength < 2 is a stable gradient step.
        clip: upper limit for a value of F before it is normalised.
        implicit: proximal step after the optimizer's, stable for any strength; needs ``attach(optimizer)``.
        infer_task: names the task of a batch in ``predict``.
        generator: of the targets that the sampled estimator draws; by default one of its own, with torch's initial
            seed, so that training goes on as it would without ``end_task``.

    Raises:
        ValueError: an argument out of range, or a loss that does not allow the estimator.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = "cross_entropy",
        *,
        strength: float = 1000.0,
        fisher: Estimator = "sampled",
        samples: int | None = None,
        mode: Mode = "separate",
        decay: float = 1.0,
        grow: bool = False,
        normalize: bool = False,
        clip: float | None = None,
        implicit: bool = False,
        infer_task: Callable[[Any], Task] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            model, strength=strength, mode=mode, decay=decay, grow=grow, implicit=implicit, infer_task=infer_task
        )  # fmt: skip
        check(fisher, samples, loss, clip)
        self.loss, self.fisher, self.samples = loss, fisher, samples
        self.normalize, self.clip = normalize, clip
        self.generator = generator or torch.Generator().manual_seed(torch.initial_seed())

    def importance(self, loader: Iterable[Any] | None) -> dict[str, Tensor]:
        """The Fisher diagonal on the task's data, at the current weights.

        Raises:
            ValueError: no data; a value that is not finite.
        """
        batches = iter(()) if loader is None else iter(loader)
        first = next(batches, None)
        if first is None:
            raise ValueError("end_task needs at least one batch of task data to estimate importance")
        found = fisher_diagonal(
            self.model, chain([first], batches), self.fisher, self.samples,
            loss=self.loss, clip=self.clip, generator=self.generator,
        )  # fmt: skip
        values = {name: found.values[name] for name in self.anchored()}
        if self.normalize:
            largest = max(float(value.max()) for value in values.values())
            if largest == 0:
                raise ValueError("the Fisher information is zero everywhere and cannot be normalised")
            values = {name: value / largest for name, value in values.items()}
        return values
