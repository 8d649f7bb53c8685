"""How networks, probes and tensors of finite groups are used."""

from __future__ import annotations

from torch import nn

from neurarium import models, probes, theory
from neurarium.data import FiniteGroup
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "GroupMLP": lambda w: (models.GroupMLP(6, 8, 4), (w.whole([0, 1], [5, 2], [3, 3]),)),
    "GroupTransformer": lambda w: (models.GroupTransformer(6, 16, 2, 32), (w.whole([0, 1], [5, 2], [3, 3]),)),
    "HadamardNet": lambda w: (models.HadamardNet(6, 8), (w.whole([0, 1], [5, 2], [3, 3]),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "ablate_representations": lambda w: probes.ablate_representations(
        net(w), group(), remove=["2a"], at={"unembed:input": "ab"}
    ),
    "composition_network": lambda w: models.composition_network(group(), dtype=w.dtype),
    "cp_decomposition": lambda w: theory.cp_decomposition(w.x(3, 4, 5), 2, steps=30, generator=seed()).tensor(),
    "fusion_cover": lambda w: theory.fusion_cover(group(), "aab"),
    "isotypic_energy": lambda w: probes.isotypic_energy(net(w), group()),
    "rank_bound": lambda w: theory.rank_bound(group(), "aab").per_block,
    "representation_evidence": lambda w: probes.representation_evidence(net(w), group(), hidden="unembed:input"),
    "universality": lambda w: probes.universality([net(w), net(w)], group()),
    "word_support": lambda w: theory.word_support(group(), "aab"),
    "word_tensor": lambda w: theory.word_tensor(group(), "aab"),
}


def group() -> FiniteGroup:
    """S_3."""
    return FiniteGroup.symmetric(3)


def net(w: World) -> nn.Module:
    """A network for it."""
    return w.put(models.GroupMLP(6, 8, 4, generator=seed()))
