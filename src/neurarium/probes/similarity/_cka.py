"""Linear CKA of every layer of one model with every layer of another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.objectives.representation._similarity import unbiased_hsic, zero_diagonal
from neurarium.objectives.representation._taps import Taps
from neurarium.probes._result import ProbeResult
from neurarium.training import call, count_rows, evaluation, unpack


@dataclass(frozen=True)
class CkaMatrix(ProbeResult):
    """CKA of pairs of layers.

    Args:
        values: [layers of a, layers of b].
        rows: names of a's layers.
        columns: names of b's layers.
    """

    values: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]

    def summary(self) -> str:
        """The most alike layer of b for each of a."""
        best = self.values.max(1)
        return "\n".join(
            f"{row} ~ {self.columns[int(j)]} ({float(v):.2f})"
            for row, v, j in zip(self.rows, best.values, best.indices, strict=True)
        )

    def plot(self, ax: Any) -> Any:
        """A heat map."""
        ax.imshow(self.values.numpy(), vmin=0, vmax=1, origin="lower")
        ax.set(xlabel="layer of b", ylabel="layer of a")
        return ax


@torch.no_grad()
def cka_matrix(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable[Any],
    layers_a: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
) -> CkaMatrix:
    """Linear CKA of all pairs of layers, with the unbiased HSIC added up over batches (Nguyen et al., 2021).

    Args:
        model_a: any module.
        model_b: any module that takes the same batches.
        loader: batches ``(x, y)`` of at least 4 examples; smaller ones are left out.
        layers_a: names of layers; all that hold computation by default.
        layers_b: the same for the other model.

    Raises:
        ValueError: no batch of at least 4 examples, or an unknown layer.
    """
    cross, own_a, own_b = torch.zeros(()), torch.zeros(()), torch.zeros(())
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    with evaluation(model_a, model_b), Taps(model_a, layers_a) as taps_a, Taps(model_b, layers_b) as taps_b:
        for x, _ in map(unpack, loader):
            if count_rows(x) < 4:
                continue
            call(model_a, x), call(model_b, x)
            names = (tuple(taps_a.outputs), tuple(taps_b.outputs))
            of_a, of_b = ([_gram(z) for z in taps.outputs.values()] for taps in (taps_a, taps_b))
            cross = cross + torch.stack([torch.stack([unbiased_hsic(a, b) for b in of_b]) for a in of_a])
            own_a = own_a + torch.stack([unbiased_hsic(a, a) for a in of_a])
            own_b = own_b + torch.stack([unbiased_hsic(b, b) for b in of_b])
    if not names[0]:
        raise ValueError("the loader gave no batch of at least 4 examples")
    scale = own_a.clamp_min(0).sqrt()[:, None] * own_b.clamp_min(0).sqrt()
    return CkaMatrix(torch.where(scale > 0, cross / scale, 0.0), *names)


def _gram(activation: Tensor) -> Tensor:
    x = activation.flatten(1).double()
    x = x - x.mean(0)
    return zero_diagonal(x @ x.T)
