"""The loss at many points of parameter space, in one pass over the data.

The model is never written to: its parameters are substituted (`torch.func.functional_call`), so its values, modes,
buffers and ``.grad`` stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from neurarium.training import arguments_of, evaluation, prediction, unpack

Score = Callable[[Tensor, Tensor], Tensor]
"""``score(output, target) -> mean over the batch``."""

Loader = Iterable[Any]

SMALL_INPUT = 2**20
"""Input elements, over all points, up to which the points of a batch are evaluated together."""
GROUP = 2**19
"""Input elements of batches that are kept together."""
SMALL_STACK = 2**22
"""Parameters, over all points, up to which they are."""

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Losses:
    """Scores at K points.

    Args:
        loss: mean over the data, float64 ``[K]``; NaN where it is not finite.
        error: standard error of ``loss`` from the spread between batches; NaN for a single batch.
        metric: mean of the second metric, or None.
    """

    loss: np.ndarray
    error: np.ndarray
    metric: np.ndarray | None


def losses_at(
    model: nn.Module,
    loss: Score,
    loader: Loader,
    basis: Sequence[Mapping[str, Tensor]],
    coefficients: np.ndarray,
    *,
    metric: Score | None = None,
    recalibrate: bool | Loader | None = None,
) -> Losses:
    """Loss at the points ``coefficients @ basis``, the model in evaluation mode.

    The loader is read once, and every point sees the same batches, so a loader that shuffles or augments cannot put
    noise between neighbouring points. A row that picks a single basis point equals direct evaluation bit for bit.

    Args:
        model: any module; left as it was.
        loss: ``loss(model(x), y) -> scalar``, a mean over the batch.
        loader: batches ``(x, y)``.
        basis: J points or directions, from `named_point`.
        coefficients: ``[K, J]``.
        metric: a second score, such as `neurarium.training.accuracy`.
        recalibrate: whether the running statistics of batch normalisation are computed anew at every point, by one
            more pass over ``loader`` (or over the loader given here). By default they are where the model has any.

    Raises:
        ValueError: the loader gave no batches, or there is nothing to recalibrate.
    """
    norms = [
        m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None
    ]
    if recalibrate is None:
        recalibrate = bool(norms)
    if recalibrate is not False and not norms:
        raise ValueError("recalibrate: the model has no batch normalisation with running statistics")
    scores = [loss] if metric is None else [loss, metric]
    rows: list[Tensor] = []
    sizes: list[int] = []
    with torch.no_grad(), evaluation(model):
        points = _Points(model, scores, basis, coefficients)
        if recalibrate is not False:
            points.recalibrate(norms, loader if recalibrate is True else recalibrate)
        for group in _groups(loader):
            rows += points(group)
            sizes += [len(y) for _, y in group]
    if not sizes:
        raise ValueError("loader gave no batches")
    return _mean(rows, sizes)


def _mean(rows: list[Tensor], sizes: list[int]) -> Losses:
    """Means over the data of ``[K, scores]`` per batch, added up in the order of the batches as `evaluate` does."""
    total = torch.zeros_like(rows[0])
    for row, size in zip(rows, sizes):
        total += row * size
    mean = (total / sum(sizes)).cpu().numpy().T
    loss = np.where(np.isfinite(mean[0]), mean[0], np.nan)
    error = np.full_like(loss, np.nan)
    if len(sizes) > 1:
        batches, weights = torch.stack(rows)[:, :, 0].cpu().numpy(), np.array(sizes) / sum(sizes)
        with np.errstate(invalid="ignore"):
            error = np.sqrt(weights @ (batches - loss) ** 2 / (len(sizes) - 1))
    return Losses(loss, error, mean[1] if len(mean) > 1 else None)


def _groups(loader: Loader) -> Iterator[list[tuple[Any, Tensor]]]:
    """Small batches in groups, so that a point's parameters are written once for several of them."""
    group: list[tuple[Any, Tensor]] = []
    size = 0
    for x, y in map(unpack, loader):
        group.append((x, y))
        size += x.numel() if isinstance(x, Tensor) else GROUP
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Points:
    """Scores of a group of batches at all points.

    Three ways to save work, none of which changes the value at a basis point: a first affine layer is linear in its
    parameters, so its output at any point is a combination of its outputs at the basis; small problems evaluate all
    points in one batched call; large ones write each point into one parameter buffer.
    """

    def __init__(
        self, model: nn.Module, scores: Sequence[Score], basis: Sequence[Mapping[str, Tensor]], coefficients: np.ndarray
    ) -> None:
        self.scores, self.basis = scores, [dict(b) for b in basis]
        self.rows = [[(j, float(c)) for j, c in enumerate(row) if c != 0] for row in coefficients]
        self.head, self.tail = split_affine_head(model)
        self.tail_names = [name for name, _ in self.tail.named_parameters() if name in self.basis[0]]
        buffers = {name: b.clone() for name, b in self.tail.named_buffers()}
        self.buffers = [buffers] * len(self.rows)
        self.work = {name: torch.empty_like(self.basis[0][name]) for name in self.tail_names}
        self.matrix = torch.as_tensor(np.asarray(coefficients))
        size = len(self.rows) * sum(self.basis[0][name].numel() for name in self.tail_names)
        convolves = any(isinstance(m, _AFFINE[1:]) for m in self.tail.modules())  # batched ones are slow on a CPU
        self.batched = size <= SMALL_STACK and not convolves
        self.stack: dict[str, Tensor] = {}

    def __call__(self, group: Sequence[tuple[Any, Tensor]]) -> list[Tensor]:
        """Float64 ``[K, scores]`` for each batch of a group."""
        inputs = [self._inputs(x) for x, _ in group]
        together = self._together(group, inputs)
        exact = [k for k, row in enumerate(self.rows) if together is None or len(row) == 1]
        alone: list[list[Tensor]] = [[] for _ in group]
        for k in exact:
            parameters = self._parameters(k)
            for rows, given, (_, y) in zip(alone, inputs, group):
                rows.append(self._scores(self._forward(k, parameters, given), y))
        if together is None:
            return [torch.stack(rows) for rows in alone]
        for values, rows in zip(together, alone):
            for k, row in zip(exact, rows):
                values[k] = row
        return together

    def recalibrate(self, norms: Sequence[nn.Module], loader: Loader) -> None:
        """Compute the running statistics of every point: plain averages over the batches, dropout off."""
        fresh = {n: b.clone() for n, b in self.tail.named_buffers()}
        for name, module in self.tail.named_modules():
            if module in norms:
                prefix = f"{name}." if name else ""
                fresh[prefix + "running_mean"].zero_()
                fresh[prefix + "running_var"].fill_(1)
                fresh[prefix + "num_batches_tracked"].zero_()
        self.buffers = [{n: b.clone() for n, b in fresh.items()} for _ in self.rows]
        self.batched = False
        momenta = [module.momentum for module in norms]
        try:
            for module in norms:
                module.training, module.momentum = True, None  # type: ignore[assignment]
            for group in _groups(loader):
                inputs = [self._inputs(x) for x, _ in group]
                for k in range(len(self.rows)):
                    parameters = self._parameters(k)
                    for given in inputs:
                        self._forward(k, parameters, given)
        finally:
            for module, momentum in zip(norms, momenta):
                module.training, module.momentum = False, momentum

    def _inputs(self, x: Any) -> Any:
        """What the tail of the model gets at each basis point; ``x`` itself where there is no affine head."""
        if self.head is None:
            return x
        names = dict(self.head.named_parameters()).keys()
        return [functional_call(self.head, {n: point[n] for n in names}, (x,)) for point in self.basis]

    def _parameters(self, k: int) -> dict[str, Tensor]:
        """What the tail needs at point k: the basis point itself, or the one buffer, overwritten."""
        row = self.rows[k]
        if len(row) == 1 and row[0][1] == 1.0:
            return {name: self.basis[row[0][0]][name] for name in self.tail_names} | self.buffers[k]
        for name, out in self.work.items():
            _combine(row, [point[name] for point in self.basis], out)
        return self.work | self.buffers[k]

    def _forward(self, k: int, parameters: dict[str, Tensor], inputs: Any) -> Tensor:
        x = inputs if self.head is None else _combine(self.rows[k], inputs, torch.empty_like(inputs[0]))
        return prediction(functional_call(self.tail, parameters, *arguments_of(self.tail, x)))

    def _together(self, group: Sequence[tuple[Any, Tensor]], inputs: Sequence[Any]) -> list[Tensor] | None:
        """All points of each batch in one call, where that is small enough and can be batched at all."""
        sizes = [x.numel() if isinstance(x, Tensor) else SMALL_INPUT for x, _ in group]
        tensors = all(isinstance(x, Tensor) for x, _ in group)
        if not self.batched or not tensors or max(sizes) * len(self.rows) > SMALL_INPUT:
            return None
        if not self.stack:
            self.stack = {name: self._spread([p[name] for p in self.basis]) for name in self.tail_names}

        def at(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self._scores(prediction(functional_call(self.tail, {**parameters, **self.buffers[0]}, (x,))), y)

        try:
            if self.head is None:
                return [vmap(at, in_dims=(0, None, None))(self.stack, x, y) for x, y in group]
            return [vmap(at, in_dims=(0, 0, None))(self.stack, self._spread(x), y) for x, (_, y) in zip(inputs, group)]
        except RuntimeError:  # not everything can be batched (an LSTM, a loss that calls .item())
            self.batched = False
            return None

    def _spread(self, tensors: Sequence[Tensor]) -> Tensor:
        """``[K, ...]``: the combinations of the basis values at every point."""
        stacked = torch.stack(list(tensors))
        return torch.tensordot(self.matrix.to(stacked), stacked, dims=1)

    def _scores(self, output: Tensor, y: Tensor) -> Tensor:
        return torch.stack([score(output, y).double() for score in self.scores])


def _combine(row: Sequence[tuple[int, float]], tensors: Sequence[Tensor], out: Tensor) -> Tensor:
    """``sum_j c_j tensors[j]`` written into ``out``."""
    if not row:
        return out.zero_()
    (first, c), *rest = row
    torch.mul(tensors[first], c, out=out)
    for j, c in rest:
        out.add_(tensors[j], alpha=c)
    return out


def split_affine_head(model: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """A sequential model cut behind its first layer with parameters, where that one is a plain linear or convolution.

    Returns:
        ``(head, tail)``; the head is None where the model has no such form, and the tail is then the model.
    """
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return None, model
    if len(list(model.parameters())) != len(list(model.named_parameters(remove_duplicate=False))):
        return None, model  # tied parameters may lie on both sides
    for i, layer in enumerate(model):
        hooked = layer._forward_hooks or layer._forward_pre_hooks
        if type(layer) in _AFFINE and not hooked and i + 1 < len(model):
            return model[: i + 1], model[i + 1 :]
        if hooked or next(layer.parameters(), None) is not None or next(layer.buffers(), None) is not None:
            break
    return None, model
