"""Set neurons of a decoder to other values and see what becomes of its predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.neurons._neuron_roles import find_norm
from neurarium.probes.similarity._units import INPUT, kept_tokens, tokens_of
from neurarium.training import evaluation, prediction

Kind = Literal["zero", "fix", "scale"]


@dataclass(frozen=True)
class InterventionCurve(ProbeResult):
    """Means over all predicted tokens, at each value; the first entry of each is the undisturbed model's.

    Args:
        values: what the neurons were set to, or multiplied by.
        loss: cross-entropy of the next token, in nats; [1 + values].
        entropy: of the predicted distribution, in nats.
        rank: mean of 1 / rank of the true token.
        scale: deviation of the last residual, by which the last norm divides.
        kind: what was done.
    """

    values: tuple[float, ...]
    loss: Float[Tensor, " points"]
    entropy: Float[Tensor, " points"]
    rank: Float[Tensor, " points"]
    scale: Float[Tensor, " points"]
    kind: str

    @property
    def entropy_change(self) -> float:
        """Largest change of the mean entropy."""
        return float((self.entropy[1:] - self.entropy[0]).abs().max())

    def summary(self) -> str:
        """What was undisturbed, and how far it moved."""
        moved = {
            name: getattr(self, name)[1:] - getattr(self, name)[0] for name in ("loss", "entropy", "rank", "scale")
        }
        largest = {name: float(change[change.abs().argmax()]) for name, change in moved.items()}
        return (
            f"{self.kind}: undisturbed loss {float(self.loss[0]):.3f}, entropy {float(self.entropy[0]):.3f}; "
            f"largest change of loss {largest['loss']:+.3f}, entropy {largest['entropy']:+.3f}, "
            f"1/rank {largest['rank']:+.3f}, scale {largest['scale']:+.3f}"
        )

    def plot(self, ax: Any) -> Any:
        """Changes of loss, entropy and scale against the value."""
        for name in ("loss", "entropy", "scale"):
            found = getattr(self, name).cpu()
            ax.plot(self.values, found[1:] - found[0], marker="o", label=name)
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.set(xlabel=f"neurons: {self.kind}", ylabel="change from the undisturbed model")
        ax.legend()
        return ax


@torch.no_grad()
def intervene(
    model: nn.Module,
    neurons: Mapping[str, Sequence[int]],
    batches: Iterable[Any],
    kind: Kind = "fix",
    values: Sequence[float] = (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0),
    *,
    exclude: Sequence[int] = (),
    norm: str | None = None,
) -> InterventionCurve:
    """Loss, entropy, rank and the last norm's scale while some neurons are held (Gurnee et al., 2024, section 5.2).

    Args:
        model: a decoder that gives logits [batch, positions, vocabulary]; left as it was.
        neurons: places of the neurons in each layer of hidden neurons, by the layer's name (as `excess_correlation`
            counts them: ``"...:input"`` of the map that reads them).
        batches: token ids, as in `excess_correlation`; iterated once per value, so a list and no generator.
        kind: "fix": the neurons give this value at every token; "scale": their activation times this value; "zero":
            they give 0 (``values`` has no meaning).
        values: to fix to, or to multiply by.
        exclude: token ids that do not count as the token from which the next is predicted.
        norm: name of the last norm; found as in `neuron_roles`.

    Raises:
        ValueError: an unknown layer or neuron, no neurons, or no tokens.
        TypeError: batches is a generator, which can be read once only.
    """
    if not neurons or not all(len(places) for places in neurons.values()):
        raise ValueError("neurons must name at least one neuron of each layer")
    if isinstance(batches, Iterator):
        raise TypeError("batches are read several times: give a list or a loader, not a generator")
    modules = dict(model.named_modules())
    for layer in neurons:
        if layer.removesuffix(INPUT) not in modules:
            raise ValueError(f"the model has no layer {layer!r}")
    points = (0.0,) if kind == "zero" else tuple(map(float, values))
    rows = [_measure(model, {}, batches, kind, 1.0, exclude, norm)]
    rows += [_measure(model, neurons, batches, kind, value, exclude, norm) for value in points]
    loss, entropy, rank, scale = torch.stack(rows, 1)
    return InterventionCurve(points, loss, entropy, rank, scale, kind)


@contextmanager
def held(model: nn.Module, neurons: Mapping[str, Sequence[int]], kind: Kind, value: float) -> Iterator[None]:
    """The model with some of its neurons held, for the time of a ``with`` block."""

    def changed(places: Sequence[int], hidden: Tensor) -> Tensor:
        if max(places) >= hidden.shape[-1] or min(places) < 0:
            raise ValueError(f"the layer has {hidden.shape[-1]} neurons, not one at {max(places)}")
        hidden = hidden.clone()
        hidden[..., list(places)] = hidden[..., list(places)] * value if kind == "scale" else value
        return hidden

    handles = []
    for layer, places in neurons.items():
        module = model.get_submodule(layer.removesuffix(INPUT))
        if layer.endswith(INPUT):
            handles.append(module.register_forward_pre_hook(lambda _, args, p=places: (changed(p, args[0]), *args[1:])))
        else:
            handles.append(module.register_forward_hook(lambda _, __, output, p=places: changed(p, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _measure(
    model: nn.Module,
    neurons: Mapping[str, Sequence[int]],
    batches: Iterable[Any],
    kind: Kind,
    value: float,
    exclude: Sequence[int],
    norm: str | None,
) -> Tensor:
    """Mean loss, entropy, 1 / rank and scale."""
    width = next(m.embedding_dim for m in model.modules() if isinstance(m, nn.Embedding))
    last = model.get_submodule(norm) if norm is not None else find_norm(model, width)
    kept: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    sums, count = torch.zeros(4, dtype=torch.float64), 0
    try:
        with evaluation(model), held(model, neurons, kind, value):
            for batch in batches:
                kept.clear()
                whole = isinstance(batch, Mapping)
                tokens = tokens_of(batch)
                inputs = {k: v for k, v in batch.items() if k != "labels"} if whole else {}
                logits = prediction(model(**inputs) if whole else model(tokens))[:, :-1].float()
                keep = kept_tokens(batch, exclude)
                chosen = (
                    torch.ones_like(tokens[:, 1:], dtype=torch.bool) if keep is None else keep[:, :-1] & keep[:, 1:]
                )
                logs, targets = logits[chosen].log_softmax(-1), tokens[:, 1:][chosen]
                true = logs.gather(1, targets[:, None])
                residual = kept[-1][:, :-1][chosen].double()
                found = (
                    -true.sum(),
                    -(logs.exp() * logs).sum(),
                    (1 / (1 + (logs > true).sum(1))).sum(),
                    residual.std(1, correction=0).sum(),
                )
                sums += torch.stack([part.double().cpu() for part in found])
                count += len(targets)
    finally:
        handle.remove()
    if count == 0:
        raise ValueError("the batches hold no token to predict")
    return sums / count
