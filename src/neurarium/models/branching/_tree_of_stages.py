"""Stages that branch and never join: a tree whose leaves are a network's heads."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TreeOfStages(nn.Module):
    """Each stage reads the output of its parent, a stage of the level before; the last level's outputs are the heads'.

    Every stage is computed once, however many read it. What branches where is free: twice at every level
    (`BranchingNetwork`), or a tree that groups tasks.

    Args:
        levels: the stages of each level, root first; one root.
        parents: for every level but the first, the index of each stage's parent in the level before. By default each
            stage of a level has equally many children, side by side.

    Raises:
        ValueError: no root or several, a level without stages, or parents that do not fit.
    """

    def __init__(self, levels: Sequence[Sequence[nn.Module]], parents: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        sizes = [len(level) for level in levels]
        if not sizes or sizes[0] != 1 or min(sizes) < 1:
            raise ValueError(f"levels must begin with one root and have a stage each, not {sizes} stages")
        if parents is None:
            uneven = next((s for s in range(1, len(sizes)) if sizes[s] % sizes[s - 1]), None)
            if uneven is not None:
                raise ValueError(f"level {uneven} of {sizes} stages is no multiple of the one before: give parents")
            parents = [[j * before // after for j in range(after)] for before, after in itertools.pairwise(sizes)]
        if len(parents) != len(sizes) - 1 or any(len(p) != n for p, n in zip(parents, sizes[1:], strict=False)):
            raise ValueError("parents must name a stage of the level before for every stage but the root")
        for level, row in enumerate(parents, start=1):
            if not all(0 <= parent < sizes[level - 1] for parent in row):
                raise ValueError(f"parents of level {level} must be from 0 to {sizes[level - 1] - 1}, not {list(row)}")
        self.levels: Any = nn.ModuleList(nn.ModuleList(level) for level in levels)
        self.parents = tuple(tuple(row) for row in parents)

    @property
    def heads(self) -> int:
        """H, leaves of the tree."""
        return len(self.levels[-1])

    @property
    def head_paths(self) -> list[tuple[int, ...]]:
        """For each head the index of its stage in every level, root first."""
        paths = []
        for leaf in range(self.heads):
            path = [leaf]
            for row in reversed(self.parents):
                path.append(row[path[-1]])
            paths.append(tuple(reversed(path)))
        return paths

    def forward(self, x: Tensor) -> Float[Tensor, "heads batch *outputs"]:
        """What each head gives.

        Raises:
            ValueError: heads of unequal shapes; call `outputs` for these.
        """
        made = self.outputs(x)
        if any(output.shape != made[0].shape for output in made):
            shapes = ", ".join(str(list(output.shape)) for output in made)
            raise ValueError(f"heads give {shapes}, which cannot be one tensor; use outputs(x)")
        return torch.stack(made)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """What each head gives, of whatever shapes."""
        made = [self.levels[0][0](x)]
        for level, row in zip(list(self.levels)[1:], self.parents, strict=True):
            made = [stage(made[parent]) for stage, parent in zip(level, row, strict=True)]
        return made

    def path(self, head: int) -> nn.Sequential:
        """From the root to one head as a plain network: the same modules, the size and cost of a network without
        branches.

        Raises:
            ValueError: no such head.
        """
        if not 0 <= head < self.heads:
            raise ValueError(f"head must be from 0 to {self.heads - 1}, not {head}")
        stages = [level[index] for level, index in zip(self.levels, self.head_paths[head], strict=True)]
        parts = [part for stage in stages for part in (stage if type(stage) is nn.Sequential else [stage])]
        return nn.Sequential(*parts).train(self.training)

    def subset(self, heads: Sequence[int]) -> TreeOfStages:
        """The tree of some heads, in the order given: the same modules, those that no head needs left out.

        Raises:
            ValueError: none, one twice, or one that is not there.
        """
        if not heads or len(set(heads)) != len(heads) or not all(0 <= head < self.heads for head in heads):
            raise ValueError(f"heads must be different ones from 0 to {self.heads - 1}, not {list(heads)}")
        kept = [list(heads)]  # leaves first
        for row in reversed(self.parents):
            kept.append(list(dict.fromkeys(row[index] for index in kept[-1])))
        kept.reverse()
        found = copy.copy(self)
        found._modules = {}
        found.levels = nn.ModuleList(
            nn.ModuleList(level[index] for index in row) for level, row in zip(self.levels, kept, strict=True)
        )
        found.parents = tuple(
            tuple(above.index(row[index]) for index in below)
            for above, below, row in zip(kept, kept[1:], self.parents, strict=False)
        )
        return found

    def shared_depth(self, first: int, second: int) -> int:
        """Stages that two heads have in common."""
        paths = self.head_paths
        return sum(a == b for a, b in zip(paths[first], paths[second], strict=True))
