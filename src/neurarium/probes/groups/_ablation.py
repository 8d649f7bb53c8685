"""Representations taken out of a network's layers or logits, and what becomes of its loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import FiniteGroup
from neurarium.probes._result import ProbeResult
from neurarium.probes.groups._pairs import WordFunctions, answers
from neurarium.probes.similarity._units import INPUT
from neurarium.training import evaluation, find_module


@dataclass(frozen=True)
class RepresentationAblation(ProbeResult):
    """Loss on every pair without some representations.

    Args:
        removed: names of what was taken out.
        losses: cross-entropy on each pair, in the order of `all_pairs`.
        correct: whether the answer is right.
        losses_before: cross-entropy of the network as it is.
        correct_before: whether its answer is right.
    """

    removed: tuple[str, ...]
    losses: Float[Tensor, " pairs"]
    correct: Bool[Tensor, " pairs"]
    losses_before: Float[Tensor, " pairs"]
    correct_before: Bool[Tensor, " pairs"]

    @property
    def loss(self) -> float:
        """Mean over all pairs."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.double().mean())

    @property
    def increase(self) -> float:
        """Mean loss minus that of the network as it is."""
        return self.loss - float(self.losses_before.mean())

    def summary(self) -> str:
        """Loss and accuracy, before and after."""
        before = float(self.correct_before.double().mean())
        return (
            f"without {', '.join(self.removed) or 'nothing'}: loss {float(self.losses_before.mean()):.4f} -> "
            f"{self.loss:.4f}, accuracy {before:.3f} -> {self.accuracy:.3f}"
        )

    def plot(self, ax: Any) -> Any:
        """Losses of all pairs, in order, before and after."""
        for name, losses in (("as it is", self.losses_before), ("without " + ", ".join(self.removed), self.losses)):
            ax.plot(losses.sort()[0].cpu(), label=name)
        ax.set(xlabel="pairs, by loss", ylabel="cross-entropy")
        ax.legend()
        return ax


@torch.no_grad()
def ablate_representations(
    model: nn.Module,
    group: FiniteGroup,
    *,
    remove: Iterable[str] = (),
    keep: Iterable[str] | None = None,
    at: Mapping[str, str] | None = None,
    word: str = "ab",
    batch_size: int = 8192,
) -> RepresentationAblation:
    """Excluded and restricted loss (arXiv 2302.03025, section 5.3).

    At a layer that follows a word, the part of its units in the span of ρ(value of the word) is taken out; what else
    there is stays. At the logits, the part along χ_ρ(value c⁻¹) is.

    Args:
        model: takes pairs of elements [batch, 2], gives a logit for every element; left as it was.
        group: the group whose product it computes.
        remove: names of representations to take out (excluded loss).
        keep: in place of ``remove``: take out all others but the trivial one (restricted loss).
        at: layers, and the word that each follows: ``{"unembed:input": "ab"}`` for a hidden layer in which the product
            is formed, ``{"left": "a", "right": "b"}`` for embeddings; None for the logits.
        word: what the model computes.
        batch_size: pairs at once.

    Raises:
        ValueError: ``remove`` and ``keep`` are both given, an unknown representation (the message lists them) or layer,
            or what `representation_evidence` says.
    """
    removed = _chosen(group, tuple(remove), keep)
    target = group.word(word).flatten()
    places = [i for i, irrep in enumerate(group.irreps) if irrep.name in removed]
    with evaluation(model):
        before = torch.cat([logits for _, logits, _ in answers(model, group, None, batch_size)])
        if at is None:
            after = before - _trace_part(group, target, before, places)
        else:
            kept = {layer: _without(model, group, layer, w, places, batch_size) for layer, w in at.items()}
            with ExitStack() as stack:
                for layer, units in kept.items():
                    stack.enter_context(_replaced(model, layer, units, batch_size))
                after = torch.cat([logits for _, logits, _ in answers(model, group, None, batch_size)])
    return RepresentationAblation(
        removed,
        cross_entropy(after, target, reduction="none"),
        after.argmax(1) == target,
        cross_entropy(before, target, reduction="none"),
        before.argmax(1) == target,
    )


def _chosen(group: FiniteGroup, remove: tuple[str, ...], keep: Iterable[str] | None) -> tuple[str, ...]:
    if keep is None:
        return tuple(group.irrep(name).name for name in remove)
    if remove:
        raise ValueError("give remove or keep, not both")
    stays = {group.irrep(name).name for name in keep} | {group.irreps[0].name}
    return tuple(irrep.name for irrep in group.irreps if irrep.name not in stays)


def _trace_part(group: FiniteGroup, value: Tensor, logits: Tensor, places: list[int]) -> Tensor:
    """The part of the logits along the traces of some representations."""
    quotient = group.table[:, group.inverse]
    sums = torch.zeros(group.order, group.order, dtype=torch.float64).index_add_(0, value, logits)
    part = torch.zeros_like(sums)
    for place in places:
        trace = group.characters[place][quotient]
        part += (sums * trace).sum() / (trace[0].square().sum() * len(value)) * trace
    return part[value]


def _without(model: nn.Module, group: FiniteGroup, layer: str, word: str, places: list[int], batch_size: int) -> Tensor:
    """A layer's units on all pairs without the part in the span of some representations."""
    units = torch.cat([seen for _, _, seen in answers(model, group, layer, batch_size) if seen is not None])
    return units - WordFunctions(group, word).component(units, places)


@contextmanager
def _replaced(model: nn.Module, layer: str, units: Tensor, batch_size: int) -> Iterator[None]:
    """A layer's units are these, batch after batch, as long as the context lasts."""
    module = find_module(model, layer.removesuffix(INPUT), "at")
    batches = iter(units.split(batch_size))

    def next_like(old: Tensor) -> Tensor:
        return next(batches).to(old).reshape(old.shape)

    if layer.endswith(INPUT):
        handle = module.register_forward_pre_hook(lambda _, args: (next_like(args[0]), *args[1:]))
    else:
        handle = module.register_forward_hook(lambda _, __, output: next_like(output))
    try:
        yield
    finally:
        handle.remove()
